"""Keep the pods of StatefulSets: the shell around `plan` and `status`."""

from __future__ import annotations

from pybrix.api.apps import ControllerRevision, StatefulSet
from pybrix.api.core import Namespace, PersistentVolumeClaim, Pod
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.cluster.workloads.statefulset.plan import plan
from pybrix.cluster.workloads.statefulset.render import claim_names
from pybrix.cluster.workloads.statefulset.revisions import resolve
from pybrix.cluster.workloads.statefulset.state import Observed, observe, ordinals, problem, set_name_of
from pybrix.cluster.workloads.statefulset.status import next_status
from pybrix.kube.errors import AlreadyExists, StatusError
from pybrix.runtime.actions import Action, Create, Emit
from pybrix.runtime.controller import Controller, For, Owns, Result, Watches
from pybrix.runtime.differences import status_difference
from pybrix.runtime.errors import TerminalError
from pybrix.runtime.lookups import (
    BY_NAMESPACE,
    held_or_orphaned,
    index_family,
    is_ending,
    who_may_adopt,
)
from pybrix.runtime.manager import Manager
from pybrix.runtime.owners import confirm_owner
from pybrix.runtime.ownwrites import LAG_S, OwnWrites


class StatefulSetReconciler:
    """Observe from shared caches, plan one step, carry it out, tell how it is going."""

    def __init__(self, manager: Manager, clock: Clock) -> None:
        self._client = manager.client
        self._applier = manager.applier
        self._clock = clock
        self._sets = manager.informer(StatefulSet)
        self._pods = manager.informer(Pod)
        self._revisions = manager.informer(ControllerRevision)
        self._volume_claims = manager.informer(PersistentVolumeClaim)
        self._namespaces = manager.informer(Namespace)
        self._expectations = manager.expectations(Pod)
        self._revision_expectations = manager.expectations(ControllerRevision)
        self._writes = OwnWrites(manager.client, self._sets)
        index_family(self._sets, self._pods, self._revisions)

    def controller(self) -> Controller:
        return Controller(
            "statefulset",
            self.reconcile,
            sources=[
                For(self._sets),
                Owns(self._pods, StatefulSet),
                Owns(self._revisions, StatefulSet),
                Watches(self._pods, self._who_may_adopt),
                Watches(self._volume_claims, self._who_has_claim),
            ],
            reads=[self._namespaces],
            concurrency=4,
        )

    async def reconcile(self, key: ObjectKey) -> Result | None:
        stateful_set = self._sets.get(key)
        if stateful_set is None:
            return None
        if why := problem(stateful_set):
            raise TerminalError(why)
        if not self._writes.is_visible(stateful_set.uid):
            return Result(LAG_S)
        seen = self._observe(stateful_set)
        if seen.claims.adopted or seen.revisions.adopted:
            await confirm_owner(self._client, stateful_set)
        revisions = resolve(seen)
        actions = plan(seen, revisions, self._clock.now()).actions
        is_collision = False
        error: StatusError | None = None
        try:
            await self._applier.apply(actions, controller="statefulset")
        except AlreadyExists as err:
            is_collision = await self._is_revision_taken(actions)
            error = None if is_collision else err
        except StatusError as err:
            error = err
        if isinstance(error, AlreadyExists):
            await self._applier.apply([Emit(stateful_set, "FailedCreate", str(error), type="Warning")])
        status, again_s = next_status(seen, revisions, self._clock.now(), is_collision=is_collision)
        why = f"{status.ready_replicas} of {len(seen.wanted)} pods ready, {status.updated_replicas} updated"
        await self._writes.patch_status(stateful_set, status_difference(stateful_set.status, status), why)
        if error is not None:
            raise error
        if not seen.is_settled:
            again_s = min(again_s or LAG_S, LAG_S)
        return Result(again_s)

    def _observe(self, stateful_set: StatefulSet) -> Observed:
        namespace = stateful_set.metadata.namespace
        pods = held_or_orphaned(self._pods, stateful_set)
        numbers = {*ordinals(stateful_set), *(int(p.metadata.name.rpartition("-")[2]) for p in pods if set_name_of(p))}
        wanted = [name for n in numbers for name in claim_names(stateful_set, n).values()]
        found = (self._volume_claims.get(ObjectKey(namespace, name)) for name in wanted)
        is_settled = self._expectations.is_settled(stateful_set.uid)
        return observe(
            stateful_set,
            pods,
            held_or_orphaned(self._revisions, stateful_set),
            [claim for claim in found if claim is not None],
            is_settled=is_settled and self._revision_expectations.is_settled(stateful_set.uid),
            is_namespace_ending=is_ending(self._namespaces, namespace),
        )

    async def _is_revision_taken(self, actions: tuple[Action, ...]) -> bool:
        """Say whether the name of the revision to create is that of another's."""
        create = next(
            (a for a in actions if isinstance(a, Create) and a.manifest["kind"] == "ControllerRevision"), None
        )
        if create is None or create.owner is None:
            return False
        metadata = create.manifest["metadata"]
        found = await self._client.get(ControllerRevision, ObjectKey(metadata["namespace"], metadata["name"]))
        holder = found.metadata.controller
        return holder is None or holder.uid != create.owner.uid

    def _who_may_adopt(self, pod: Pod) -> list[ObjectKey]:
        return [k for k in who_may_adopt(self._sets, pod, lambda s: s.spec.selector) if k.name == set_name_of(pod)]

    def _who_has_claim(self, claim: PersistentVolumeClaim) -> list[ObjectKey]:
        """Return the sets whose pods may wait for this claim, by its name."""
        return [
            s.key
            for s in self._sets.by_index(BY_NAMESPACE, claim.metadata.namespace)
            for template in s.spec.volume_claim_templates
            if claim.metadata.name.startswith(f"{template['metadata']['name']}-{s.metadata.name}-")
        ]
