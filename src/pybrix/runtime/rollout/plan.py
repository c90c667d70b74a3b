"""Decide the next step of a rollout, whatever the replicas are: which revisions are made, resized and forgotten.

    plan_rollout(Rolling(owner=deployment, goal=goal, new=..., old=..., render=...))

A revision is an object that keeps replicas of one template: a ReplicaSet of a Deployment, a RayClusterReplicaSet of a
RayClusterFleet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.api import names
from pybrix.api.meta import Object
from pybrix.runtime.actions import Action, Create, Delete, Emit, Patch, Plan
from pybrix.runtime.rollout import sizes
from pybrix.runtime.rollout.goal import Goal, Revision
from pybrix.runtime.rollout.revisions import annotations_of_new, next_revision, revision, size_annotations
from pybrix.runtime.rollout.sizes import Sizes


@dataclass(frozen=True, slots=True)
class Holder:
    """The object that keeps the replicas of one template."""

    obj: Object
    numbers: Revision
    min_ready_seconds: int = 0
    replicas: int = 0
    """Replicas that its status tells of."""
    is_observed: bool = True
    """Whether its status is about its present spec."""

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.obj.metadata.annotations


@dataclass(frozen=True, slots=True)
class Rolling:
    """What a rollout's next step follows from.

    Args:
        is_complete: whether the last written status is that of a finished rollout of the present spec.
        is_clear: whether no replica of an older template is left, not even one on its way out; only Recreate asks.
        min_ready_seconds: what the new revision is to have.
        old: the revisions of other templates, oldest first.
        render: makes the manifest of the present template's revision from its annotations and its size.
    """

    owner: Object
    goal: Goal
    is_paused: bool
    is_complete: bool
    is_clear: bool
    min_ready_seconds: int
    history_limit: int
    new: Holder | None
    old: tuple[Holder, ...]
    render: Callable[[dict[str, str], int], dict[str, Any]]

    @property
    def owned(self) -> list[Holder]:
        every = [*self.old, self.new] if self.new is not None else self.old
        return sorted(every, key=lambda holder: holder.numbers.age)

    @property
    def memory(self) -> dict[str, str]:
        """Return what every sized revision remembers of the goal."""
        return size_annotations(self.goal.replicas, self.goal.replicas + self.goal.max_surge)


def plan_rollout(seen: Rolling) -> Plan:
    """Return one step towards the present template at `replicas`.

    Every step is safe by itself: never more than `replicas + maxSurge` replicas, never fewer than
    `replicas - maxUnavailable` available ones by its own doing. A change of `replicas` is spread before a rollout goes
    on; what is paused is scaled, never rolled.
    """
    goal, owned = seen.goal, seen.owned
    old = [holder.numbers for holder in seen.old]
    new = seen.new.numbers if seen.new is not None else None
    targets: Sizes = {}
    if seen.is_paused or sizes.is_scaled(goal, (holder.numbers for holder in owned)):
        targets = _within_budget(seen, _changes(sizes.scale(goal, new, old), seen))
    if not targets and not seen.is_paused:
        if new is None and (goal.is_rolling or seen.is_clear):
            return Plan(tuple(_create(seen)))
        if not goal.is_rolling:
            targets = sizes.recreate(goal, new, old, is_clear=seen.is_clear)
        elif new is not None:
            targets = sizes.roll(goal, new, old)
    actions: list[Action] = []
    for holder in owned:
        actions += _resize(seen, holder, targets)
    if seen.new is not None:
        number = max(_next_revision(seen.old), revision(seen.new.annotations))
        actions += _note_revision(seen.owner, number)
    if not targets and (seen.is_paused or seen.is_complete):
        actions += _forget(seen)
    return Plan(tuple(actions))


def _changes(targets: Sizes, seen: Rolling) -> Sizes:
    """Keep the targets that change something: a size, or what the revision remembers of the goal."""
    return {
        holder.numbers.uid: target
        for holder in seen.owned
        if (target := targets.get(holder.numbers.uid)) is not None
        and (
            target != holder.numbers.size
            or (target > 0 and any(holder.annotations.get(k) != v for k, v in seen.memory.items()))
        )
    }


def _within_budget(seen: Rolling, targets: Sizes) -> Sizes:
    """Put growth off for which there is no room yet, because replicas on their way out still hold theirs."""
    owned = [holder.numbers for holder in seen.owned]
    leaving = sum(r.leaving for r in owned)
    if not leaving:
        return targets
    room = (
        seen.goal.replicas + seen.goal.max_surge - leaving - sum(min(r.size, targets.get(r.uid, r.size)) for r in owned)
    )
    kept: Sizes = {}
    for numbers in owned:
        target = targets.get(numbers.uid)
        growth = max(0, target - numbers.size) if target is not None else 0
        if target is not None and growth <= max(0, room):
            room -= growth
            kept[numbers.uid] = target
    return kept


def _next_revision(holders: Iterable[Holder]) -> int:
    return next_revision(holder.annotations for holder in holders)


def _create(seen: Rolling) -> list[Action]:
    owner = seen.owner
    number = _next_revision(seen.owned)
    annotations = annotations_of_new(owner.metadata.annotations, {}, number) | seen.memory
    count = sizes.size_of_new(seen.goal, [holder.numbers for holder in seen.old], 0)
    manifest = seen.render(annotations, count)
    why = f"no {manifest['kind']} of revision {number} exists"
    actions: list[Action] = [Create(manifest, why, owner=owner)]
    if count:
        actions.append(_scaled(owner, manifest["metadata"]["name"], 0, count))
    return [*actions, *_note_revision(owner, number)]


def _resize(seen: Rolling, holder: Holder, targets: Sizes) -> list[Action]:
    """Bring one revision's size and notes up to date, in one patch."""
    obj, numbers, present = holder.obj, holder.numbers, holder.annotations
    spec: dict[str, Any] = {}
    annotations: dict[str, str] = {}
    actions: list[Action] = []
    if seen.new is not None and numbers.uid == seen.new.numbers.uid:
        annotations |= annotations_of_new(seen.owner.metadata.annotations, present, _next_revision(seen.old))
        if holder.min_ready_seconds != seen.min_ready_seconds:
            spec["minReadySeconds"] = seen.min_ready_seconds
    why = f"revision {revision({**present, **annotations})} follows its {seen.owner.gvk.kind}'s metadata"
    if (target := targets.get(numbers.uid)) is not None:
        annotations |= {k: v for k, v in seen.memory.items() if present.get(k) != v}
        if numbers.size != target:
            spec["replicas"] = target
            event = _scaled(seen.owner, obj.metadata.name, numbers.size, target)
            why = event.why
            actions.append(event)
    patch: dict[str, Any] = {}
    if annotations:
        patch["metadata"] = {"annotations": annotations}
    if spec:
        patch["spec"] = spec
    if not patch:
        return []
    return [Patch(type(obj), obj.key, patch, why, resource_version=obj.metadata.resource_version), *actions]


def _scaled(owner: Object, name: str, before: int, after: int) -> Emit:
    direction = "up" if after > before else "down"
    return Emit(owner, "ScalingReplicaSet", f"Scaled {direction} replica set {name} from {before} to {after}")


def _note_revision(owner: Object, number: int) -> list[Action]:
    if owner.metadata.annotations.get(names.DEPLOYMENT_REVISION) == str(number):
        return []
    patch = {"metadata": {"annotations": {names.DEPLOYMENT_REVISION: str(number)}}}
    version = owner.metadata.resource_version
    return [Patch(type(owner), owner.key, patch, f"its template is revision {number}", resource_version=version)]


def _forget(seen: Rolling) -> list[Action]:
    """Delete the oldest empty revisions beyond `revisionHistoryLimit`."""
    kept = [holder for holder in seen.old if not holder.obj.metadata.is_terminating]
    surplus = len(kept) - seen.history_limit
    by_revision = sorted(kept, key=lambda holder: revision(holder.annotations))
    why = f"{len(kept)} old revisions exist, the limit is {seen.history_limit}"
    return [
        Delete(type(holder.obj), holder.obj.key, holder.numbers.uid, why, owner=seen.owner)
        for holder in by_revision[: max(0, surplus)]
        if not holder.numbers.size and not holder.numbers.leaving and not holder.replicas and holder.is_observed
    ]
