"""Roll RayClusterFleets out: the shell around `plan` and `status`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import RayCluster
from pybrix.api.templates import RayClusterTemplate
from pybrix.controllers.rayclusterfleet.plan import is_complete, plan
from pybrix.controllers.rayclusterfleet.render import is_same_template
from pybrix.controllers.rayclusterfleet.state import Observed, observe, problem
from pybrix.controllers.rayclusterfleet.status import invalid_status, next_status
from pybrix.controllers.registration import Registration, Setup
from pybrix.kube.errors import KubeError, NotFound
from pybrix.kube.permissions import Permission
from pybrix.runtime.actions import Action, Create, Emit, Patch, PatchStatus, Plan
from pybrix.runtime.apply import Applier
from pybrix.runtime.controller import Controller, For, Owns, Result, Watches
from pybrix.runtime.differences import status_difference
from pybrix.runtime.lookups import (
    BY_HOLDER,
    held_or_orphaned,
    index_family,
    who_may_adopt,
)
from pybrix.runtime.owners import confirm_owner
from pybrix.runtime.ownview import OwnView
from pybrix.runtime.rollout.application import apply_rollout
from pybrix.runtime.rollout.revisions import ROLLBACK_TO

NAME = "rayclusterfleet"


class RayClusterFleetReconciler:
    """Observe from shared caches, plan one step, carry it out, tell how it is going."""

    def __init__(self, setup: Setup) -> None:
        manager = setup.manager
        self._client = manager.client
        # Of its own: what the sets' controller writes to them is news here, and the other way round.
        self._applier = Applier(manager.client, manager.recorder)
        self._clock = setup.clock
        self._concurrency = setup.concurrency(NAME)
        self._fleets = manager.informer(RayClusterFleet)
        self._sets = manager.informer(RayClusterReplicaSet)
        self._clusters = manager.informer(RayCluster)
        self._created_clusters = manager.expectations(RayCluster)
        self._own_fleets = OwnView(self._fleets, self._applier, setup.clock)
        self._own_sets = OwnView(self._sets, self._applier, setup.clock)
        self._unanswered: dict[Uid, ObjectKey] = {}
        """Sets whose creation was not answered, by fleet: they may exist, and the cache may not show them yet."""
        index_family(self._fleets, self._sets, self._clusters)

    def controller(self) -> Controller:
        return Controller(
            NAME,
            self.reconcile,
            sources=[
                For(self._fleets, when=lambda _, new: not self._own_fleets.is_own(new)),
                Owns(self._sets, RayClusterFleet, when=lambda _, new: not self._own_sets.is_own(new)),
                Watches(self._sets, self._who_may_adopt),
                # A cluster that goes makes room; all else about clusters is in the status of their set.
                Watches(self._clusters, self._whose_room, when=lambda _old, _new: False),
            ],
            optional=[self._clusters],
            concurrency=self._concurrency,
        )

    async def reconcile(self, key: ObjectKey) -> Plan | Result | None:
        cached = self._fleets.get(key)
        if cached is None:
            return None
        fleet = self._own_fleets.current(cached)
        if why := problem(fleet):
            return _complain(fleet, why, self._clock.now())
        await self._look_for_unanswered(fleet)
        seen = self._observe(fleet)
        if seen.claims.adopted:
            await confirm_owner(self._client, fleet)
        actions = plan(seen).actions
        if ROLLBACK_TO in fleet.metadata.annotations:
            # The fleet is another one afterwards: its status belongs to the next pass, which its change brings.
            await self._applier.apply(actions, controller=NAME)
            return Result(0.0)
        # What is written to the fleet itself comes last, together with its status.
        notes = [a for a in actions if isinstance(a, Patch) and a.cls is RayClusterFleet]
        steps = [a for a in actions if a not in notes]
        try:
            outcome, error = await apply_rollout(
                self._applier, self._client, steps, RayClusterReplicaSet, _is_same_template, controller=NAME
            )
        except KubeError:
            self._note_unanswered(fleet, steps)
            raise
        if error is not None and error.code >= 500:
            self._note_unanswered(fleet, steps)
        status, again_s = next_status(seen, outcome, self._clock.now())
        why = f"{status.updated_replicas} updated, {status.available_replicas} available of {status.replicas} clusters"
        version = fleet.metadata.resource_version
        difference = status_difference(fleet.status, status)
        told = PatchStatus(RayClusterFleet, key, difference, why, resource_version=version)
        await self._applier.apply([*(notes if error is None else ()), told], controller=NAME)
        if error is not None:
            raise error
        if difference and is_complete(msgspec.structs.replace(fleet, status=status)):
            # Its own write brings no pass, and old revisions are forgotten once the status says that all is done.
            return Result(0.0)
        return Result(again_s)

    def _note_unanswered(self, fleet: RayClusterFleet, steps: Iterable[Action]) -> None:
        for create in steps:
            if isinstance(create, Create):
                metadata = create.manifest["metadata"]
                self._unanswered[fleet.uid] = ObjectKey(metadata["namespace"], metadata["name"])

    async def _look_for_unanswered(self, fleet: RayClusterFleet) -> None:
        """Ask the API server for a set that may have been made: its clusters count, whatever the cache shows."""
        key = self._unanswered.get(fleet.uid)
        if key is not None and self._sets.get(key) is None:
            with suppress(NotFound):
                self._own_sets.wrote(await self._client.get(RayClusterReplicaSet, key))
        self._unanswered.pop(fleet.uid, None)

    def _observe(self, fleet: RayClusterFleet) -> Observed:
        cached = held_or_orphaned(self._sets, fleet)
        sets = self._own_sets.of_controller(cached, fleet.uid)
        existing = {
            s.uid: len(self._clusters.by_index(BY_HOLDER, s.uid)) + self._created_clusters.count_unseen(s.uid)
            for s in sets
        }
        return observe(fleet, sets, existing)

    def _whose_room(self, cluster: RayCluster) -> list[ObjectKey]:
        holder = cluster.metadata.controller
        replica_set = self._sets.by_uid(holder.uid) if holder is not None else None
        owner = replica_set.metadata.controller if replica_set is not None else None
        if owner is None or owner.kind != RayClusterFleet.gvk.kind:
            return []
        return [ObjectKey(cluster.metadata.namespace, owner.name)]

    def _who_may_adopt(self, replica_set: RayClusterReplicaSet) -> Iterable[ObjectKey]:
        return who_may_adopt(self._fleets, replica_set, lambda f: f.spec.selector)


def _is_same_template(found: Object, template: Any) -> bool:
    wanted = msgspec.convert(template, RayClusterTemplate)
    return isinstance(found, RayClusterReplicaSet) and is_same_template(found.spec.template, wanted)


def _complain(fleet: RayClusterFleet, why: str, now: datetime) -> Plan:
    """Tell once that a fleet cannot be worked on."""
    if not (difference := status_difference(fleet.status, invalid_status(fleet, why, now))):
        return Plan()
    version = fleet.metadata.resource_version
    told = PatchStatus(RayClusterFleet, fleet.key, difference, why, resource_version=version)
    return Plan((Emit(fleet, "InvalidSpec", why, type="Warning"), told))


_GROUP = RayClusterFleet.gvk.group
RAYCLUSTERFLEET = Registration(
    NAME,
    kinds=(RayClusterFleet,),
    watches="RayClusterFleets, their RayClusterReplicaSets and orphaned ones, RayClusters that go",
    permissions=(
        Permission(_GROUP, ("rayclusterfleets",), ("get", "list", "watch", "patch")),
        Permission(_GROUP, ("rayclusterfleets/status",), ("patch",)),
        # Owner references with blockOwnerDeletion need it where OwnerReferencesPermissionEnforcement is on.
        Permission(_GROUP, ("rayclusterfleets/finalizers",), ("update",)),
        # One is read by name when it cannot be created: is it the fleet's?
        Permission(_GROUP, ("rayclusterreplicasets",), ("get", "list", "watch", "create", "patch", "delete")),
        Permission("ray.io", ("rayclusters",), ("list", "watch")),
    ),
    build=lambda setup: [RayClusterFleetReconciler(setup).controller()],
)
