"""How many pods each ReplicaSet of a Deployment should have next. Pure arithmetic, as upstream's.

Each function maps UIDs of ReplicaSets to new sizes; a ReplicaSet that is not in the result keeps its size.
"""

from __future__ import annotations

from collections.abc import Iterable

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.identity import Uid
from pybrix.cluster.workloads.deployment.state import (
    age_order,
    available,
    desired_annotation,
    is_rolling,
    max_annotation,
    max_surge,
    max_unavailable,
    replicas,
    size,
    total_size,
)

Sizes = dict[Uid, int]


def active(replica_sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    return [s for s in replica_sets if size(s) > 0]


def size_of_new(deployment: Deployment, old: Iterable[ReplicaSet], current: int) -> int:
    """Return the size of the present template's ReplicaSet: as large as the surge allows, at most `replicas`.

    Source: `NewRSNewReplicas`.
    """
    wanted = replicas(deployment)
    if current > wanted or not is_rolling(deployment):
        return wanted
    room = wanted + max_surge(deployment) - total_size(old) - current
    return current + max(0, min(room, wanted - current))


def roll(deployment: Deployment, new: ReplicaSet, old: tuple[ReplicaSet, ...]) -> Sizes:
    """Take one step of a rolling update: first the new one grows (or shrinks), then the old ones shrink.

    Source: `rolloutRolling`.
    """
    target = size_of_new(deployment, old, size(new))
    if target != size(new):
        return {new.uid: target}
    return _shrink_old(deployment, new, old)


def _shrink_old(deployment: Deployment, new: ReplicaSet, old: tuple[ReplicaSet, ...]) -> Sizes:
    least = replicas(deployment) - max_unavailable(deployment)
    new_unavailable = size(new) - available(new)
    spare = total_size(old) + size(new) - least - new_unavailable
    if spare <= 0 or not active(old):
        return {}
    sizes = {s.uid: size(s) for s in old}
    # Pods that serve nothing go first, so that a broken old revision never holds up the new one.
    for replica_set in old:
        unhealthy = min(spare, sizes[replica_set.uid] - available(replica_set))
        sizes[replica_set.uid] -= unhealthy
        spare -= unhealthy
    surplus = available(new) + sum(available(s) for s in old) - least
    for replica_set in old:
        if surplus <= 0:
            break
        step = min(surplus, sizes[replica_set.uid])
        sizes[replica_set.uid] -= step
        surplus -= step
    return {s.uid: sizes[s.uid] for s in old if sizes[s.uid] != size(s)}


def recreate(deployment: Deployment, new: ReplicaSet | None, old: tuple[ReplicaSet, ...], *, is_clear: bool) -> Sizes:
    """Take one step of a recreation: the old ones to zero; then, when `is_clear` of their pods, the new one up."""
    if doomed := active(old):
        return {s.uid: 0 for s in doomed}
    wanted = replicas(deployment)
    return {new.uid: wanted} if is_clear and new is not None and size(new) != wanted else {}


def is_scaled(deployment: Deployment, replica_sets: Iterable[ReplicaSet]) -> bool:
    """Say whether `replicas` changed since the active ReplicaSets were last sized."""
    wanted = replicas(deployment)
    return any((d := desired_annotation(s)) is not None and d != wanted for s in active(replica_sets))


def scale(deployment: Deployment, new: ReplicaSet | None, old: tuple[ReplicaSet, ...]) -> Sizes:
    """Spread a new `replicas` over the ReplicaSets; unchanged sizes are in the result where they only re-note it.

    One active (or only the latest) gets it all; a finished rollout loses its leftovers; in mid-rollout each grows or
    shrinks in proportion, so that a bad new template gets no more weight than it has. Source: `scale` in `sync.go`.
    """
    wanted = replicas(deployment)
    every = [*old, new] if new is not None else list(old)
    running = active(every)
    if len(running) <= 1:
        target = running[0] if running else new if new is not None else max(old, key=age_order, default=None)
        return {target.uid: wanted} if target is not None else {}
    if new is not None and size(new) == wanted == desired_annotation(new) == new.status.available_replicas:
        return {s.uid: 0 for s in active(old)}
    return _proportional(deployment, running) if is_rolling(deployment) else {}


def _proportional(deployment: Deployment, running: list[ReplicaSet]) -> Sizes:
    wanted = replicas(deployment)
    allowed = wanted + max_surge(deployment) if wanted else 0
    change = allowed - total_size(running)
    # Growing favours the large and new, shrinking takes from the large and old. The sort is stable.
    by_age = sorted(running, key=age_order, reverse=change > 0)
    ordered = sorted(by_age, key=size, reverse=True)
    sizes: Sizes = {}
    given = 0
    for replica_set in ordered:
        share = _share(deployment, replica_set, change, given)
        given += share
        sizes[replica_set.uid] = size(replica_set) + share
    largest = ordered[0].uid
    sizes[largest] = max(0, sizes[largest] + change - given)
    return sizes


def _share(deployment: Deployment, replica_set: ReplicaSet, change: int, given: int) -> int:
    """Return a ReplicaSet's part of `change`, of which `given` is spent. Source: `GetReplicaSetProportion`."""
    left = change - given
    if not change or not left:
        return 0
    wanted = replicas(deployment)
    current = size(replica_set)
    if wanted == 0:
        fraction = -current
    else:
        before = max_annotation(replica_set) or deployment.status.replicas
        if not before:
            return 0
        # Rounded half up: floor(a / b + 1/2), in integers.
        fraction = (2 * current * (wanted + max_surge(deployment)) + before) // (2 * before) - current
    return min(fraction, left) if change > 0 else max(fraction, left)
