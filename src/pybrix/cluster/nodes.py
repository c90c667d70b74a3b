"""The nodes of an embedded cluster: one machine shown as several, each with labels, capacity and taints of its own.

    gpu=NVIDIA-A10:2, 2x gpu=NVIDIA-L20:8+zone=b, plain

is four nodes: one with two GPUs, two with eight each in zone b, and one without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pybrix.api.core import Taint
from pybrix.base.errors import UsageError
from pybrix.base.quantity import parse_quantity
from pybrix.cluster.nodeagent.runfiles import has_live_programs
from pybrix.cluster.remembered import remembered_choice

MAX_NODES = 16
GPU = "nvidia.com/gpu"
GPU_PRODUCT = "nvidia.com/gpu.product"
_REMEDY = "for example --nodes 'gpu=NVIDIA-A10:2, 2x gpu=NVIDIA-L20:8+zone=b, plain'"
_REPEAT = re.compile(r"(\d+)\s*x\s+(.*)")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PLACES = {"zone": "topology.kubernetes.io/zone", "region": "topology.kubernetes.io/region"}
_RESOURCES = ("cpu", "memory", "pods", "ephemeral-storage")


@dataclass(frozen=True, slots=True)
class VirtualNode:
    """What a node is registered with beside what the machine has."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


def parse_nodes(text: str, first_name: str) -> tuple[VirtualNode, ...]:
    """Return the nodes that a text names; the first is `first_name`, the others have numbers.

    Raises:
        UsageError: the text cannot be understood; the message quotes the part.
    """
    items: list[str] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        found = _REPEAT.fullmatch(item)
        items += [found[2]] * min(int(found[1]), MAX_NODES + 1) if found is not None else [item]
    if not 1 <= len(items) <= MAX_NODES:
        raise UsageError(f"--nodes {text!r} names {len(items) or 'no'} nodes; there can be 1 to {MAX_NODES}", _REMEDY)
    nodes = tuple(_node(item, first_name if i == 0 else f"{first_name}-{i + 1}") for i, item in enumerate(items))
    names = [node.name for node in nodes]
    if len(set(names)) != len(names):
        raise UsageError(f"--nodes {text!r}: two nodes have the same name", "leave out name=, or choose others")
    return nodes


def _node(item: str, name: str) -> VirtualNode:
    labels: dict[str, str] = {}
    capacity: dict[str, str] = {}
    taints: list[Taint] = []
    for part in filter(None, (part.strip() for part in item.split("+"))):
        key, has_value, value = part.partition("=")
        if part == "plain":
            continue
        if not has_value:
            raise UsageError(f"--nodes: {part!r} in {item!r} is neither `plain` nor KEY=VALUE", _REMEDY)
        if key == "name":
            if not _NAME.fullmatch(value):
                raise UsageError(f"--nodes: {value!r} is no name of a node", "lower-case letters, digits and dashes")
            name = value
        elif key == "gpu":
            model, _, count = value.partition(":")
            if not (model and (count or "1").isdigit() and int(count or "1") > 0):
                raise UsageError(f"--nodes: {part!r} is not gpu=MODEL[:COUNT]", _REMEDY)
            _label(labels, GPU_PRODUCT, model, item)
            capacity[GPU] = count or "1"
        elif key == "taint":
            taints.append(_taint(value))
        elif key in _RESOURCES:
            try:
                parse_quantity(value)
            except ValueError as error:
                raise UsageError(f"--nodes: {part!r}: {error}", _REMEDY) from error
            capacity[key] = value
        else:
            _label(labels, _PLACES.get(key, key), value, item)
    return VirtualNode(name, labels, capacity, tuple(taints))


def _label(labels: dict[str, str], key: str, value: str, item: str) -> None:
    if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
        raise UsageError(f"--nodes: {key}={value} in {item!r} is no label", _REMEDY)
    labels[key] = value


def _taint(text: str) -> Taint:
    left, _, effect = text.rpartition(":")
    key, _, value = left.partition("=")
    if not _LABEL_KEY.fullmatch(key) or effect not in _EFFECTS:
        raise UsageError(f"--nodes: taint={text} is not taint=KEY[=VALUE]:EFFECT", f"effects are {', '.join(_EFFECTS)}")
    return Taint(key=key, value=value, effect=effect)


def remembered_nodes(directory: Path, given: str | None) -> str:
    """Return the text that counts: what is given, else that of the last run, else one plain node."""
    return remembered_choice(directory / "nodes.txt", given, "plain")


def node_directory(directory: Path, node: VirtualNode, first: VirtualNode) -> Path:
    """Return where a node keeps its pods: the first one where a single node always did."""
    return directory if node.name == first.name else directory / "nodes" / node.name


def pod_directories(directory: Path) -> list[Path]:
    """Return where pods of any node are, also of nodes that there are no more."""
    return [directory / "pods", *sorted(directory.glob("nodes/*/pods"))]


def has_live_pods(directory: Path) -> bool:
    """Say whether a program of any node's pods runs."""
    return any(has_live_programs(pods) for pods in pod_directories(directory))
