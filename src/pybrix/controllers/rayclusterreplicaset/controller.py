"""Keep the clusters of RayClusterReplicaSets: the shell around `plan` and `status`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import CLUSTER, HEAD, NODE_TYPE, RayCluster
from pybrix.base.hashing import random_suffix
from pybrix.controllers.rayclusterreplicaset.clusters import is_draining
from pybrix.controllers.rayclusterreplicaset.heads import is_named
from pybrix.controllers.rayclusterreplicaset.plan import Confirm, plan
from pybrix.controllers.rayclusterreplicaset.render import release_set
from pybrix.controllers.rayclusterreplicaset.requests import ask_head
from pybrix.controllers.rayclusterreplicaset.state import Head, Observed, confirm, is_held, observe, problem
from pybrix.controllers.rayclusterreplicaset.status import Failure, failed_status, next_status
from pybrix.controllers.registration import Registration, Setup
from pybrix.kube.errors import AlreadyExists, Conflict, StatusError
from pybrix.kube.permissions import Permission
from pybrix.runtime.actions import Action, Create, Delete, Emit, PatchStatus, Plan
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
from pybrix.runtime.ownwrites import LAG_S

NAME = "rayclusterreplicaset"
MISSING_S = 10.0
"""When to look again for a kind that the server does not know."""
MISSING = Failure(
    "KubeRayMissing", "the API server does not know RayCluster (ray.io/v1), or does not let it be read: install KubeRay"
)


class RayClusterReplicaSetReconciler:
    """Observe from shared caches, plan, carry out, tell how it is."""

    def __init__(self, setup: Setup) -> None:
        manager = setup.manager
        self._client = manager.client
        self._applier = manager.applier
        self._clock = setup.clock
        self._chance = setup.chance
        self._http = setup.http
        self._concurrency = setup.concurrency(NAME)
        self._sets = manager.informer(RayClusterReplicaSet)
        self._clusters = manager.informer(RayCluster)
        self._heads = manager.informer(Pod, label_selector=f"{NODE_TYPE}={HEAD}")
        self._expectations = manager.expectations(RayCluster)
        self._own_sets = OwnView(self._sets, manager.applier, setup.clock)
        self._own_clusters = OwnView(self._clusters, manager.applier, setup.clock)
        self._unanswered: dict[Uid, list[str]] = {}
        """Names of clusters whose creation was not answered, by set: they may exist, so they are tried again first."""
        index_family(self._sets, self._clusters, self._heads)

    def controller(self) -> Controller:
        return Controller(
            NAME,
            self.reconcile,
            sources=[
                For(self._sets, when=lambda _, new: not self._own_sets.is_own(new)),
                Owns(self._clusters, RayClusterReplicaSet),
                Watches(self._clusters, self._who_may_adopt),
                Watches(self._heads, self._whose_head, when=_matters),
            ],
            optional=[self._clusters],
            concurrency=self._concurrency,
        )

    async def reconcile(self, key: ObjectKey) -> Plan | Result | None:
        cached = self._sets.get(key)
        if cached is None:
            return None
        replica_set = self._own_sets.current(cached)
        is_blind = self._clusters.is_parked or self._clusters.is_forbidden
        if replica_set.metadata.is_terminating and is_held(replica_set) and (is_blind or problem(replica_set)):
            # Nothing can be known of its clusters, or which they are: it must not stay for ever.
            return Plan((release_set(replica_set, "its clusters cannot be drained"),))
        if is_blind or not self._clusters.has_synced:
            await self._tell_missing(replica_set)
            return Result(MISSING_S)
        if why := problem(replica_set):
            return self._complain(replica_set, why)
        if self._expectations.is_overdue(replica_set.uid):
            present = (await self._client.list(RayCluster, replica_set.metadata.namespace)).items
            self._expectations.renew(replica_set.uid, {cluster.uid for cluster in present})
        seen = await self._observe(replica_set)
        self._forget_answered(replica_set)
        if seen.claims.adopted:
            await confirm_owner(self._client, replica_set)
        while isinstance(step := plan(seen, self._clock.now()), Confirm):
            seen = await self._confirm(seen, step)
        failure: Failure | None = None
        error: StatusError | None = None
        try:
            await self._apply(replica_set, step.actions)
        except StatusError as err:
            if isinstance(err, Conflict) and not isinstance(err, AlreadyExists):
                raise
            is_creation = any(isinstance(a, Create) for a in step.actions)
            failure, error = Failure("FailedCreate" if is_creation else "FailedDelete", str(err)), err
        if replica_set.metadata.is_terminating and not seen.claims.owned and error is None:
            # It is gone, or about to be: there is nobody to tell anything.
            return Result(None if seen.is_settled else LAG_S)
        status, again_s = next_status(seen, failure, self._clock.now())
        why = f"{status.ready_replicas} of {seen.replicas} clusters ready"
        await self._write_status(replica_set, status_difference(replica_set.status, status), why)
        if error is not None:
            raise error
        looks = [step.requeue_after_s, again_s, None if seen.is_settled else LAG_S]
        return Result(min((look for look in looks if look is not None), default=None))

    async def _observe(self, replica_set: RayClusterReplicaSet) -> Observed:
        # With its own last writes: else a cluster that drains already would be sent away once more, or another one.
        clusters = [self._own_clusters.current(c) for c in held_or_orphaned(self._clusters, replica_set)]
        pods = {c.uid: pod for c in clusters if (pod := self._head_of(c)) is not None}
        # Only heads that drain are asked.
        drain = {
            c.uid: pods[c.uid] for c in clusters if c.uid in pods and is_draining(c) and not c.metadata.is_terminating
        }
        heads = {uid: Head(pod) for uid, pod in pods.items()} | await self._ask(drain)
        return observe(replica_set, clusters, heads, is_settled=self._expectations.is_settled(replica_set.uid))

    async def _confirm(self, seen: Observed, wanted: Confirm) -> Observed:
        """Read the heads of some clusters from the API server, and ask them."""
        by_name = ",".join(sorted(c.metadata.name for c in wanted.clusters))
        selector = f"{NODE_TYPE}={HEAD},{CLUSTER} in ({by_name})"
        found = (await self._client.list(Pod, seen.replica_set.metadata.namespace, label_selector=selector)).items
        pods: dict[Uid, Pod] = {}
        for cluster in wanted.clusters:
            heads = [pod for pod in found if (held := pod.metadata.controller) is not None and held.uid == cluster.uid]
            if (head := _foremost(heads)) is not None:
                pods[cluster.uid] = head
        return confirm(seen, frozenset(c.uid for c in wanted.clusters), await self._ask(pods))

    async def _ask(self, pods: Mapping[Uid, Pod]) -> dict[Uid, Head]:
        """Ask heads what they have to do, all at once."""
        answers = await asyncio.gather(*(ask_head(self._http, pod) for pod in pods.values()))
        return dict(zip(pods, answers, strict=True))

    def _head_of(self, cluster: RayCluster) -> Pod | None:
        return _foremost(self._heads.by_index(BY_HOLDER, cluster.uid))

    async def _apply(self, replica_set: RayClusterReplicaSet, actions: Sequence[Action]) -> None:
        """Claim and note one after the other; then create all, or delete all, at once.

        Raises:
            KubeError: the first failure.
        """
        together = [a for a in actions if isinstance(a, Create)]
        pairs: list[list[Action]] = []
        others: list[Action] = []
        for action in actions:
            if isinstance(action, Delete):
                pairs.append([action])
            elif isinstance(action, Emit) and pairs and action.reason == "SuccessfulDelete":
                pairs[-1].append(action)
            elif not isinstance(action, Create):
                others.append(action)
        await self._applier.apply(others, controller=NAME)
        work = [self._create(replica_set, c) for c in together]
        work += [self._applier.apply(pair, controller=NAME) for pair in pairs]
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if outcome is not None:
                raise outcome

    def _forget_answered(self, replica_set: RayClusterReplicaSet) -> None:
        """Drop the names of clusters that the cache shows: they exist, and are counted as that."""
        namespace, names = replica_set.metadata.namespace, self._unanswered.pop(replica_set.uid, [])
        if left := [name for name in names if self._clusters.get(ObjectKey(namespace, name)) is None]:
            self._unanswered[replica_set.uid] = left

    async def _create(self, replica_set: RayClusterReplicaSet, create: Create) -> None:
        """Create a cluster under a name that is known before the answer: if none comes, the same name is tried again.

        So a creation that succeeded unseen meets itself, and there is never one cluster too many.
        """
        names = self._unanswered.setdefault(replica_set.uid, [])
        name = names.pop(0) if names else f"{replica_set.metadata.name[:57]}-{random_suffix(self._chance)}"
        metadata = {k: v for k, v in create.manifest["metadata"].items() if k != "generateName"}
        named = replace(create, manifest={**create.manifest, "metadata": {**metadata, "name": name}})
        told = Emit(replica_set, "SuccessfulCreate", f"Created RayCluster: {name}")
        try:
            await self._applier.apply([named, told], controller=NAME)
        except AlreadyExists:
            # Somebody else's: the next attempt draws another name.
            raise
        except BaseException as error:
            if not isinstance(error, StatusError) or error.code >= 500:
                names.append(name)
            raise
        finally:
            if not names:
                self._unanswered.pop(replica_set.uid, None)

    async def _write_status(self, replica_set: RayClusterReplicaSet, difference: dict[str, Any], why: str) -> None:
        if difference:
            version = self._own_sets.current(replica_set).metadata.resource_version
            write = PatchStatus(RayClusterReplicaSet, replica_set.key, difference, why, resource_version=version)
            await self._applier.apply([write], controller=NAME)

    async def _tell_missing(self, replica_set: RayClusterReplicaSet) -> None:
        status = failed_status(replica_set, MISSING, self._clock.now())
        await self._write_status(replica_set, status_difference(replica_set.status, status), MISSING.message)

    def _complain(self, replica_set: RayClusterReplicaSet, why: str) -> Plan:
        """Tell once that a set cannot be worked on."""
        status = failed_status(replica_set, Failure("InvalidSpec", why), self._clock.now())
        status.observed_generation = replica_set.metadata.generation
        if not (difference := status_difference(replica_set.status, status)):
            return Plan()
        version = replica_set.metadata.resource_version
        told = PatchStatus(RayClusterReplicaSet, replica_set.key, difference, why, resource_version=version)
        return Plan((Emit(replica_set, "InvalidSpec", why, type="Warning"), told))

    def _who_may_adopt(self, cluster: RayCluster) -> Iterable[ObjectKey]:
        return who_may_adopt(self._sets, cluster, lambda s: s.spec.selector)

    def _whose_head(self, pod: Pod) -> list[ObjectKey]:
        holder = pod.metadata.controller
        cluster = self._clusters.by_uid(holder.uid) if holder is not None else None
        owner = cluster.metadata.controller if cluster is not None else None
        if owner is None or owner.kind != RayClusterReplicaSet.gvk.kind:
            return []
        return [ObjectKey(pod.metadata.namespace, owner.name)]


def _foremost(heads: Iterable[Pod]) -> Pod | None:
    """Return the head pod that counts: one that stays comes before one on its way out."""
    return min(heads, key=lambda pod: pod.metadata.is_terminating, default=None)


def _matters(old: Pod, new: Pod) -> bool:
    return (
        old.is_ready != new.is_ready
        or old.metadata.is_terminating != new.metadata.is_terminating
        or is_named(old) != is_named(new)
    )


_GROUP = RayClusterReplicaSet.gvk.group
RAYCLUSTERREPLICASET = Registration(
    NAME,
    kinds=(RayClusterReplicaSet,),
    watches="RayClusterReplicaSets, RayClusters, and the head pods of these",
    permissions=(
        Permission(_GROUP, ("rayclusterreplicasets",), ("get", "list", "watch", "patch")),
        Permission(_GROUP, ("rayclusterreplicasets/status",), ("patch",)),
        # Owner references with blockOwnerDeletion need it where OwnerReferencesPermissionEnforcement is on.
        Permission(_GROUP, ("rayclusterreplicasets/finalizers",), ("update",)),
        # One is read by name when it cannot be created: is it the set's?
        Permission("ray.io", ("rayclusters",), ("get", "list", "watch", "create", "patch", "delete")),
        Permission("", ("pods",), ("list", "watch", "patch")),
    ),
    build=lambda setup: [RayClusterReplicaSetReconciler(setup).controller()],
)
