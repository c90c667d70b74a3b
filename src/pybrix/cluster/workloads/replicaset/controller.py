"""Keep the pods of ReplicaSets: the shell around `plan` and `status`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence

from pybrix.api.apps import ReplicaSet
from pybrix.api.core import Namespace, Pod
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.base.hashing import random_suffix
from pybrix.cluster.workloads.naming import name_pod
from pybrix.cluster.workloads.replicaset.plan import plan, slow_start_batches
from pybrix.cluster.workloads.replicaset.state import Observed, observe
from pybrix.cluster.workloads.replicaset.status import Failure, next_status
from pybrix.kube.errors import Conflict, StatusError
from pybrix.runtime.actions import Action, Create, Delete, Emit, Patch
from pybrix.runtime.claims import selector_problem
from pybrix.runtime.controller import Controller, For, Owns, Result, Watches
from pybrix.runtime.differences import status_difference
from pybrix.runtime.errors import TerminalError
from pybrix.runtime.lookups import (
    BY_HOLDER,
    held_or_orphaned,
    index_family,
    is_ending,
    who_may_adopt,
)
from pybrix.runtime.manager import Manager
from pybrix.runtime.owners import confirm_owner
from pybrix.runtime.ownwrites import LAG_S, OwnWrites


class ReplicaSetReconciler:
    """Observe from shared caches, plan, and carry out in batches that grow."""

    def __init__(self, manager: Manager, clock: Clock, chance: random.Random) -> None:
        self._client = manager.client
        self._applier = manager.applier
        self._clock = clock
        self._chance = chance
        self._sets = manager.informer(ReplicaSet)
        self._pods = manager.informer(Pod)
        self._namespaces = manager.informer(Namespace)
        self._expectations = manager.expectations(Pod)
        self._writes = OwnWrites(manager.client, self._sets)
        index_family(self._sets, self._sets, self._pods)

    def controller(self) -> Controller:
        return Controller(
            "replicaset",
            self.reconcile,
            sources=[For(self._sets), Owns(self._pods, ReplicaSet), Watches(self._pods, self._who_may_adopt)],
            reads=[self._namespaces],
            concurrency=4,
        )

    async def reconcile(self, key: ObjectKey) -> Result | None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            return None
        if not self._writes.is_visible(replica_set.uid):
            return Result(LAG_S)
        if problem := selector_problem(replica_set.spec.selector):
            raise TerminalError(problem)
        seen = self._observe(replica_set)
        if seen.claims.adopted:
            await confirm_owner(self._client, replica_set)
        actions = plan(seen, self._clock.now()).actions
        failure, error = None, None
        try:
            await self._apply(actions)
        except Conflict:
            raise
        except StatusError as err:
            is_creation = any(isinstance(a, Create) for a in actions)
            failure, error = Failure("FailedCreate" if is_creation else "FailedDelete", str(err)), err
        status, again_s = next_status(seen, failure, self._clock.now())
        difference = status_difference(replica_set.status, status)
        await self._writes.patch_status(
            replica_set, difference, f"{status.ready_replicas} of {seen.replicas} pods ready"
        )
        if error is not None:
            raise error
        if not seen.is_settled:
            again_s = min(again_s or LAG_S, LAG_S)
        return Result(again_s)

    def _observe(self, replica_set: ReplicaSet) -> Observed:
        pods = held_or_orphaned(self._pods, replica_set)
        # They count only when some pods have to go.
        related = self._related(replica_set) if len(pods) > (replica_set.spec.replicas or 0) else []
        return observe(
            replica_set,
            pods,
            related,
            is_settled=self._expectations.is_settled(replica_set.uid),
            is_namespace_ending=is_ending(self._namespaces, replica_set.metadata.namespace),
        )

    def _related(self, replica_set: ReplicaSet) -> list[Pod]:
        """Return the pods of all ReplicaSets with the same controller; its own when it has none."""
        controller = replica_set.metadata.controller
        siblings = self._sets.by_index(BY_HOLDER, controller.uid) if controller is not None else [replica_set]
        return [pod for sibling in siblings for pod in self._pods.by_index(BY_HOLDER, sibling.uid)]

    async def _apply(self, actions: Sequence[Action]) -> None:
        """Claim one after the other; then create in growing batches, or delete all at once.

        Raises:
            KubeError: the first failure; batches after it are not begun.
        """
        await self._applier.apply([a for a in actions if isinstance(a, Patch)], controller="replicaset")
        creates = [a for a in actions if isinstance(a, Create)]
        begun = 0
        for size in slow_start_batches(len(creates)):
            await self._together([self._creation(c) for c in creates[begun : begun + size]])
            begun += size
        pairs = [a for a in actions if isinstance(a, Delete | Emit)]
        await self._together([pairs[i : i + 2] for i in range(0, len(pairs), 2)])

    def _creation(self, create: Create) -> list[Action]:
        named = name_pod(create, random_suffix(self._chance))
        assert create.owner is not None
        told = Emit(create.owner, "SuccessfulCreate", f"Created pod: {named.manifest['metadata']['name']}")
        return [named, told]

    async def _together(self, sequences: Iterable[Sequence[Action]]) -> None:
        """Apply sequences at the same time, each to its end or its first failure."""
        work = (self._applier.apply(sequence, controller="replicaset") for sequence in sequences)
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if outcome is not None:
                raise outcome

    def _who_may_adopt(self, pod: Pod) -> list[ObjectKey]:
        return who_may_adopt(self._sets, pod, lambda s: s.spec.selector)
