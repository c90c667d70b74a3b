"""Decide which node each waiting pod gets, or why it gets none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from pybrix.api.core import Node, Pod
from pybrix.api.identity import ObjectKey
from pybrix.cluster.workloads.binding.constraints import obstacle, preference, soft_taints
from pybrix.cluster.workloads.binding.neighbours import Neighbourhood, Placed
from pybrix.cluster.workloads.binding.state import (
    PODS,
    Amounts,
    Observed,
    node_room,
    pod_requests,
)

# Of preferred node affinity, affinity between pods, spread and taints; the share that is free counts once.
_WEIGHTS = (2, 2, 2, 3)


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

    A pod goes where it prefers to be and the largest part of the node stays free, then where fewest pods are. Room that
    a placement takes is gone for the next one. Pods in `assumed` hold their room and are not placed again.
    """
    room = {node.metadata.name: node_room(node) for node in seen.nodes}
    crowd: Counter[str] = Counter()
    placed = Placed({node.metadata.name: node for node in seen.nodes}, seen.namespaces)
    for pod in seen.bound:
        _take(room, crowd, pod.spec.node_name, pod)
        placed.add(pod, pod.spec.node_name)
    for pod in seen.waiting:
        if pod.uid in seen.assumed:
            _take(room, crowd, seen.assumed[pod.uid], pod)
            placed.add(pod, seen.assumed[pod.uid])
    placements: list[Placement] = []
    for pod in seen.waiting:
        if pod.uid in seen.assumed:
            continue
        try:
            neighbourhood = Neighbourhood(pod, placed)
        except ValueError as error:
            placements.append(Refuse(pod, f"its affinity or spread cannot be understood: {error}"))
            continue
        if missing := _missing_claim(pod, seen):
            why = f'0/{len(seen.nodes)} nodes are available: persistentvolumeclaim "{missing}" not found.'
            placements.append(Refuse(pod, why))
            continue
        requests = pod_requests(pod)
        reasons: Counter[str] = Counter()
        fitting: list[Node] = []
        for node in seen.nodes:
            if problems := _problems(pod, requests, node, room[node.metadata.name], neighbourhood):
                reasons.update(problems)
            else:
                fitting.append(node)
        if not fitting:
            placements.append(Refuse(pod, _explain(len(seen.nodes), reasons)))
            continue
        chosen = _best(pod, fitting, room, crowd, neighbourhood)
        _take(room, crowd, chosen.metadata.name, pod)
        placed.add(pod, chosen.metadata.name)
        placements.append(Bind(pod, chosen.metadata.name))
    return tuple(placements)


def _take(room: dict[str, dict[str, Decimal]], crowd: Counter[str], node: str, pod: Pod) -> None:
    if node not in room:
        return
    crowd[node] += 1
    for name, amount in pod_requests(pod).items():
        room[node][name] = room[node].get(name, Decimal(0)) - amount


def _missing_claim(pod: Pod, seen: Observed) -> str:
    """Return the name of a claim that a pod needs and that is not there; empty for none."""
    if seen.claims is None:
        return ""
    named = (str(v.persistent_volume_claim.get("claimName", "")) for v in pod.spec.volumes if v.persistent_volume_claim)
    return next((name for name in named if ObjectKey(pod.metadata.namespace, name) not in seen.claims), "")


def _best(
    pod: Pod,
    fitting: list[Node],
    room: Mapping[str, Amounts],
    crowd: Mapping[str, int],
    neighbourhood: Neighbourhood,
) -> Node:
    """Return the node with the highest score: preferences with upstream's weights, and the share that is free."""
    wishes = (
        _normalised([preference(pod, node) for node in fitting]),
        _normalised([neighbourhood.attraction(node) for node in fitting]),
        _normalised([-neighbourhood.crowding(node) for node in fitting]),
        _normalised([-soft_taints(pod, node) for node in fitting]),
    )

    def score(index: int) -> tuple[Decimal, int]:
        node = fitting[index]
        wished = sum((weight * wish[index] for weight, wish in zip(_WEIGHTS, wishes, strict=True)), Decimal(0))
        return wished + _free_share(node, room[node.metadata.name]), -crowd[node.metadata.name]

    return fitting[max(range(len(fitting)), key=score)]


def _normalised(values: list[int]) -> list[Decimal]:
    """Scale values to [0, 1]; all the same is 0, no preference."""
    least, most = min(values), max(values)
    return [Decimal(value - least) / (most - least) if most > least else Decimal(0) for value in values]


def _problems(pod: Pod, requests: Amounts, node: Node, room: Amounts, neighbourhood: Neighbourhood) -> list[str]:
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
    if not lacking and (why := neighbourhood.obstacle(node)):
        return [why]
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
