"""Scale and binding: other views of an object, and how they are written back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.api.meta import LabelSelector, LabelSelectorRequirement
from pybrix.api.selectors import compile_label_selector
from pybrix.cluster.apiserver.failures import bad_request, invalid, invalid_value, no_such_path
from pybrix.cluster.apiserver.resources import TYPES, ResourceType
from pybrix.cluster.apiserver.schema.decode import WrongType, decode_struct

Data = dict[str, Any]


def print_scale(served: ResourceType, data: Mapping[str, Any]) -> Data:
    """Return the `autoscaling/v1` Scale of an object. Raises `NotFound` for a kind without."""
    if served.scale is None:
        raise no_such_path()
    status: Data = {"replicas": _number(_at(data, served.scale.status))}
    if served.scale.selector:
        selector = _at(data, served.scale.selector)
        text = selector if isinstance(selector, str) else ""
    else:
        text = _print_selector(data.get("spec", {}).get("selector"))
    if text:
        status["selector"] = text
    metadata = data["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {k: metadata[k] for k in kept if k in metadata},
        "spec": {"replicas": _number(_at(data, served.scale.spec))},
        "status": status,
    }


def parse_scale(served: ResourceType, key: ObjectKey, sent: Any) -> Data:
    """Decode a Scale that a client wants. Raises `BadRequest`, `Invalid`, `NotFound`."""
    if served.scale is None:
        raise no_such_path()
    if not isinstance(sent, dict) or sent.get("kind", "Scale") != "Scale":
        raise bad_request("the body is not a Scale")
    try:
        scale = decode_struct(sent, TYPES["Scale"]).value
    except WrongType as err:
        raise bad_request(f"cannot be handled as a Scale: {err}") from err
    if scale.get("metadata", {}).get("name", key.name) != key.name:
        raise bad_request("the name of the Scale does not match the name on the URL")
    replicas = scale.get("spec", {}).get("replicas", 0)
    if replicas < 0:
        cause = invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid("Scale", "autoscaling", key.name, [cause])
    return scale


def with_replicas(served: ResourceType, data: Data, scale: Mapping[str, Any]) -> Data:
    """Return the object with the replicas that a Scale asks for."""
    assert served.scale is not None
    built: Data = _with(data, served.scale.spec.split("."), scale.get("spec", {}).get("replicas", 0))
    return built


def bound(pod: Data, binding: Mapping[str, Any], now: str) -> Data:
    """Return a pod assigned to the node that a Binding names."""
    metadata = dict(pod["metadata"])
    extra = binding["metadata"].get("annotations")
    if extra:
        metadata["annotations"] = {**metadata.get("annotations", {}), **extra}
    status = dict(pod.get("status", {}))
    others = [c for c in status.get("conditions", []) if c.get("type") != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    status["conditions"] = [*others, {k: v for k, v in scheduled.items() if v is not None}]
    return {
        **pod,
        "metadata": metadata,
        "spec": {**pod["spec"], "nodeName": binding["target"]["name"]},
        "status": status,
    }


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _with(data: Any, path: list[str], value: Any) -> Any:
    built = dict(data) if isinstance(data, Mapping) else {}
    built[path[0]] = value if len(path) == 1 else _with(built.get(path[0]), path[1:], value)
    return built


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _print_selector(selector: Any) -> str:
    if not isinstance(selector, Mapping):
        return ""
    terms = [
        LabelSelectorRequirement(key=e.get("key", ""), operator=e.get("operator", ""), values=e.get("values", []))
        for e in selector.get("matchExpressions", ())
    ]
    labels = selector.get("matchLabels", {})
    rest = compile_label_selector(LabelSelector(match_expressions=terms))
    # Clients parse this text; the short form of equality is what a real server prints.
    return ",".join([*(f"{k}={v}" for k, v in sorted(labels.items())), *([str(rest)] if terms else [])])
