"""What binding sees in one pass: nodes with the room they have left, and pods that wait for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from pybrix.api.core import Container, Node, Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import find_condition
from pybrix.base.quantity import parse_quantity

PODS = "pods"
"""Resource of which every pod takes one."""
SCHEDULER = "default-scheduler"
"""Pods that name another scheduler wait for that one."""

Amounts = Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Observed:
    """The cluster as far as placing pods is concerned."""

    nodes: tuple[Node, ...] = ()
    bound: tuple[Pod, ...] = ()
    """Pods that hold resources of a node."""
    waiting: tuple[Pod, ...] = ()
    """Pods without a node, the oldest first."""
    assumed: Mapping[Uid, str] = field(default_factory=dict)
    """Node names of waiting pods that are bound already, which the cache does not show yet."""
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of each namespace."""
    claims: frozenset[ObjectKey] | None = None
    """The claims of volumes that there are; None: pods are placed whether theirs are there or not."""


def observe(
    nodes: Iterable[Node],
    pods: Iterable[Pod],
    assumed: Mapping[Uid, str],
    *,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
    claims: frozenset[ObjectKey] | None = None,
) -> Observed:
    """Sort pods into those that hold a node's resources and those that wait for a node."""
    bound: list[Pod] = []
    waiting: list[Pod] = []
    for pod in pods:
        if pod.is_finished:
            continue
        if pod.spec.node_name:
            bound.append(pod)
        elif is_waiting(pod):
            waiting.append(pod)
    waiting.sort(key=lambda p: (p.metadata.creation_timestamp or "", p.metadata.namespace, p.metadata.name))
    return Observed(
        tuple(sorted(nodes, key=lambda n: n.metadata.name)),
        tuple(bound),
        tuple(waiting),
        dict(assumed),
        namespaces or {},
        claims,
    )


def is_waiting(pod: Pod) -> bool:
    """Say whether a pod is to be placed here; one with scheduling gates waits for whoever takes them away."""
    is_ours = pod.spec.scheduler_name in ("", SCHEDULER) and not pod.spec.scheduling_gates
    return is_ours and not (pod.spec.node_name or pod.is_finished or pod.metadata.is_terminating)


def is_node_ready(node: Node) -> bool:
    ready = find_condition(node.status.conditions, "Ready")
    return ready is not None and ready.is_true


def node_room(node: Node) -> dict[str, Decimal]:
    """Return what a node offers to pods; an amount that is no quantity counts as none."""
    return {name: _quantity(text) for name, text in (node.status.allocatable or node.status.capacity).items()}


def pod_requests(pod: Pod) -> dict[str, Decimal]:
    """Return what a pod takes: its containers together, or its largest init container, and one of PODS.

    A limit stands for a request that is not given. Init containers that keep running count with the containers.
    """
    sidecars = [c for c in pod.spec.init_containers if c.restart_policy == "Always"]
    total: dict[str, Decimal] = {}
    for container in [*pod.spec.containers, *sidecars]:
        for name, amount in _requests(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in pod.spec.init_containers:
        if container.restart_policy != "Always":
            for name, amount in _requests(container).items():
                total[name] = max(total.get(name, Decimal(0)), amount)
    return {**total, PODS: Decimal(1)}


def _requests(container: Container) -> dict[str, Decimal]:
    given = {**container.resources.limits, **container.resources.requests}
    return {name: _quantity(amount) for name, amount in given.items()}


def _quantity(amount: str | int | float) -> Decimal:
    try:
        return parse_quantity(amount)
    except ValueError:
        return Decimal(0)
