"""Decide which node each waiting pod gets, or why it gets none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from pybrix.api.core import Node, Pod
from pybrix.cluster.workloads.binding.constraints import obstacle, unsupported
from pybrix.cluster.workloads.binding.state import (
    PODS,
    Amounts,
    Observed,
    node_room,
    pod_requests,
)


@dataclass(frozen=True, slots=True)
class Bind:
    """Give a pod to a node."""

    pod: Pod
    node: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Leave a pod waiting; `why` counts the nodes by what is wrong with them."""

    pod: Pod
    why: str


Placement = Bind | Refuse


def plan(seen: Observed) -> tuple[Placement, ...]:
    """Return a placement for every waiting pod, the oldest first.

    A pod goes where the largest part of the node stays free, then where fewest pods are. Room that a placement takes
    is gone for the next one. Pods in `assumed` hold their room and are not placed again.
    """
    room = {node.metadata.name: node_room(node) for node in seen.nodes}
    crowd: Counter[str] = Counter()
    for pod in seen.bound:
        _take(room, crowd, pod.spec.node_name, pod)
    for pod in seen.waiting:
        if pod.uid in seen.assumed:
            _take(room, crowd, seen.assumed[pod.uid], pod)
    placements: list[Placement] = []
    for pod in seen.waiting:
        if pod.uid in seen.assumed:
            continue
        if why := unsupported(pod):
            placements.append(Refuse(pod, why))
            continue
        requests = pod_requests(pod)
        reasons: Counter[str] = Counter()
        fitting: list[Node] = []
        for node in seen.nodes:
            if problems := _problems(pod, requests, node, room[node.metadata.name]):
                reasons.update(problems)
            else:
                fitting.append(node)
        if not fitting:
            placements.append(Refuse(pod, _explain(len(seen.nodes), reasons)))
            continue
        chosen = max(fitting, key=lambda n: (_free_share(n, room[n.metadata.name]), -crowd[n.metadata.name]))
        _take(room, crowd, chosen.metadata.name, pod)
        placements.append(Bind(pod, chosen.metadata.name))
    return tuple(placements)


def _take(room: dict[str, dict[str, Decimal]], crowd: Counter[str], node: str, pod: Pod) -> None:
    if node not in room:
        return
    crowd[node] += 1
    for name, amount in pod_requests(pod).items():
        room[node][name] = room[node].get(name, Decimal(0)) - amount


def _problems(pod: Pod, requests: Amounts, node: Node, room: Amounts) -> list[str]:
    """Return why a node cannot have a pod, in upstream's words; several lacks of room are told together."""
    if why := obstacle(pod, node):
        return [why]
    limited = node_room(node)
    lacking = []
    for name, amount in requests.items():
        # A node that does not tell how many pods it takes is not limited in that; anything else it must offer.
        if amount <= 0 or (name == PODS and name not in limited):
            continue
        if room.get(name, Decimal(0)) < amount:
            lacking.append("Too many pods" if name == PODS else f"Insufficient {name}")
    return lacking


def _free_share(node: Node, room: Amounts) -> Decimal:
    """Return the part of cpu and memory that is free, in [0, 1]; their mean."""
    offered = node_room(node)
    shares = [max(Decimal(0), room[n]) / offered[n] for n in ("cpu", "memory") if offered.get(n, Decimal(0)) > 0]
    return sum(shares, Decimal(0)) / len(shares) if shares else Decimal(0)


def _explain(nodes: int, reasons: Counter[str]) -> str:
    if not nodes:
        return "no nodes available to schedule pods"
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"0/{nodes} nodes are available: {told}."
