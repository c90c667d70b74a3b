"""Foresee a rollout: the steps that the controller would take if every cluster came up and every end went well. Pure.

for step in foresee(fleet, sets): print(step.why, step.clusters, step.available)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from pybrix.api.identity import Uid
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet, RayClusterReplicaSetStatus
from pybrix.base.clock import format_rfc3339
from pybrix.controllers.rayclusterfleet.plan import plan
from pybrix.controllers.rayclusterfleet.state import Observed, observe
from pybrix.controllers.rayclusterfleet.status import next_status
from pybrix.runtime.actions import Create, Delete, Patch
from pybrix.runtime.rollout.progress import Outcome

MOST_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what is done, why, and how many clusters there are meanwhile."""

    why: tuple[str, ...]
    clusters: int
    """The most that exist at the same time, those on their way out included."""
    available: int
    """The fewest that serve."""


def foresee(fleet: RayClusterFleet, sets: Iterable[RayClusterReplicaSet], now: datetime) -> list[Step]:
    """Return the steps from what there is to the end; none when there is nothing to do, or the fleet is paused."""
    world = _World(fleet, list(sets), now)
    steps: list[Step] = []
    while len(steps) < MOST_STEPS and (step := world.step()) is not None:
        steps.append(step)
    return steps


class _World:
    """A fleet and its sets, where everything that is asked for happens at once."""

    def __init__(self, fleet: RayClusterFleet, sets: list[RayClusterReplicaSet], now: datetime) -> None:
        self._fleet = fleet
        self._sets = {s.uid: s for s in sets}
        self._now = now
        self._made = 0
        self._told()

    def step(self) -> Step | None:
        before = dict(self._sets)
        seen = self._observe()
        actions = [a for a in plan(seen).actions if isinstance(a, Create | Patch | Delete)]
        for action in actions:
            self._apply(action)
        why = tuple(self._why(a, before) for a in actions if self._is_shown(a, before))
        exists = sum(max(_size(before.get(uid)), _size(self._sets.get(uid))) for uid in {*before, *self._sets})
        serves = sum(min(_available(before.get(uid)), _size(self._sets.get(uid))) for uid in self._sets)
        if not actions and not self._settle():
            return None
        self._settle()
        self._told()
        return Step(why, exists, serves) if why else self.step()

    def _observe(self) -> Observed:
        existing = {uid: s.status.replicas or 0 for uid, s in self._sets.items()}
        return observe(self._fleet, self._sets.values(), existing)

    def _is_shown(self, action: Create | Patch | Delete, before: dict[Uid, RayClusterReplicaSet]) -> bool:
        return not isinstance(action, Patch) or (action.cls is RayClusterReplicaSet and "spec" in action.patch)

    def _why(self, action: Create | Patch | Delete, before: dict[Uid, RayClusterReplicaSet]) -> str:
        if isinstance(action, Create):
            spec = action.manifest["spec"]
            return f"Create replica set {action.manifest['metadata']['name']} with {spec['replicas']} clusters"
        return action.why if isinstance(action, Patch) else f"Delete replica set {action.key.name}: {action.why}"

    def _apply(self, action: Create | Patch | Delete) -> None:
        match action:
            case Create():
                self._made += 1
                data: dict[str, Any] = msgspec.to_builtins(dict(action.manifest))
                uid = Uid(f"foreseen-{self._made}")
                created = format_rfc3339(self._now)
                owners = [msgspec.to_builtins(self._fleet.owner_reference())]
                more = {"uid": uid, "creationTimestamp": created, "generation": 1, "ownerReferences": owners}
                data["metadata"] = {**data["metadata"], **more}
                self._sets[uid] = RayClusterReplicaSet.from_dict(data)
            case Delete():
                self._sets.pop(action.uid, None)
            case Patch(cls=cls) if cls is RayClusterReplicaSet:
                uid = next(s.uid for s in self._sets.values() if s.key == action.key)
                self._sets[uid] = _patched(self._sets[uid], action.patch)
            case Patch():
                annotations = {**self._fleet.metadata.annotations, **action.patch["metadata"].get("annotations", {})}
                metadata = msgspec.structs.replace(self._fleet.metadata, annotations=annotations)
                self._fleet = msgspec.structs.replace(self._fleet, metadata=metadata)

    def _settle(self) -> bool:
        """Let every set have what it asks for; say whether that changed anything."""
        changed = False
        for uid, replica_set in self._sets.items():
            size, generation = replica_set.spec.replicas, replica_set.metadata.generation
            status = RayClusterReplicaSetStatus(
                replicas=size, ready_replicas=size, available_replicas=size, observed_generation=generation
            )
            if status != replica_set.status:
                self._sets[uid] = msgspec.structs.replace(replica_set, status=status)
                changed = True
        return changed

    def _told(self) -> None:
        status, _ = next_status(self._observe(), Outcome(), self._now)
        self._fleet = msgspec.structs.replace(self._fleet, status=status)


def _size(replica_set: RayClusterReplicaSet | None) -> int:
    return 0 if replica_set is None else replica_set.spec.replicas


def _available(replica_set: RayClusterReplicaSet | None) -> int:
    return 0 if replica_set is None else replica_set.status.available_replicas


def _patched(replica_set: RayClusterReplicaSet, patch: Any) -> RayClusterReplicaSet:
    spec = patch.get("spec", {})
    annotations = {**replica_set.metadata.annotations, **patch.get("metadata", {}).get("annotations", {})}
    metadata = msgspec.structs.replace(
        replica_set.metadata, annotations=annotations, generation=replica_set.metadata.generation + bool(spec)
    )
    changes: dict[str, Any] = {}
    if "replicas" in spec:
        changes["replicas"] = spec["replicas"]
    if "minReadySeconds" in spec:
        changes["min_ready_seconds"] = spec["minReadySeconds"]
    return msgspec.structs.replace(
        replica_set, metadata=metadata, spec=msgspec.structs.replace(replica_set.spec, **changes)
    )
