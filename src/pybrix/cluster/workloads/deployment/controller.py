"""Roll Deployments out: the shell around `plan` and `status`."""

from __future__ import annotations

from typing import Any

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.core import Namespace, Pod
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object
from pybrix.base.clock import Clock
from pybrix.cluster.workloads.deployment.plan import plan
from pybrix.cluster.workloads.deployment.state import Observed, is_rolling, observe, problem
from pybrix.cluster.workloads.deployment.status import next_status
from pybrix.cluster.workloads.templates import is_same_template
from pybrix.runtime.actions import Emit, Patch, PatchStatus, Plan
from pybrix.runtime.controller import Controller, For, Owns, Result, Watches
from pybrix.runtime.differences import status_difference
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
from pybrix.runtime.rollout.application import apply_rollout


class DeploymentReconciler:
    """Observe from shared caches, plan one step, carry it out, tell how it is going."""

    def __init__(self, manager: Manager, clock: Clock) -> None:
        self._client = manager.client
        self._applier = manager.applier
        self._clock = clock
        self._deployments = manager.informer(Deployment)
        self._sets = manager.informer(ReplicaSet)
        self._pods = manager.informer(Pod)
        self._namespaces = manager.informer(Namespace)
        # Names are fixed, so nothing is made twice; but a pass on a lagging cache would tell of it twice.
        self._expectations = manager.expectations(ReplicaSet)
        self._writes = OwnWrites(manager.client, self._deployments)
        index_family(self._deployments, self._sets, self._pods)

    def controller(self) -> Controller:
        return Controller(
            "deployment",
            self.reconcile,
            sources=[
                For(self._deployments),
                Owns(self._sets, Deployment),
                Watches(self._sets, self._who_may_adopt),
                Watches(self._pods, self._who_waits_for, when=lambda old, new: old.is_finished != new.is_finished),
            ],
            reads=[self._namespaces],
            concurrency=4,
        )

    async def reconcile(self, key: ObjectKey) -> Plan | Result | None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return None
        if why := problem(deployment):
            return _complain(deployment, why)
        if not (self._expectations.is_settled(deployment.uid) and self._writes.is_visible(deployment.uid)):
            return Result(LAG_S)
        seen = self._observe(deployment)
        if seen.claims.adopted:
            await confirm_owner(self._client, deployment)
        actions = () if is_ending(self._namespaces, key.namespace) else plan(seen).actions
        # What is written to the Deployment itself comes last, together with its status.
        notes = [a for a in actions if isinstance(a, Patch) and a.cls is Deployment]
        outcome, error = await apply_rollout(
            self._applier,
            self._client,
            [a for a in actions if a not in notes],
            ReplicaSet,
            _is_same_template,
            controller="deployment",
        )
        status, again_s = next_status(seen, outcome, self._clock.now())
        difference = status_difference(deployment.status, status)
        written = deployment
        for note in notes if error is None else ():
            written = await self._writes.patch(written, note.patch, note.why)
        why = f"{status.updated_replicas} updated, {status.available_replicas} available of {status.replicas} pods"
        await self._writes.patch_status(written, difference, why)
        if error is not None:
            raise error
        return Result(again_s)

    def _observe(self, deployment: Deployment) -> Observed:
        candidates = held_or_orphaned(self._sets, deployment)
        pods: list[Pod] = []
        if not is_rolling(deployment):
            pods = [pod for s in candidates for pod in self._pods.by_index(BY_HOLDER, s.uid)]
        return observe(deployment, candidates, pods)

    def _who_may_adopt(self, replica_set: ReplicaSet) -> list[ObjectKey]:
        return who_may_adopt(self._deployments, replica_set, lambda d: d.spec.selector)

    def _who_waits_for(self, pod: Pod) -> list[ObjectKey]:
        """Return the Deployment that recreates, and so waits for the pod to be gone."""
        holder = pod.metadata.controller
        replica_set = self._sets.by_uid(holder.uid) if holder is not None else None
        owner = replica_set.metadata.controller if replica_set is not None else None
        if owner is None:
            return []
        deployment = self._deployments.by_uid(owner.uid)
        return [deployment.key] if deployment is not None and not is_rolling(deployment) else []


def _is_same_template(replica_set: Object, template: Any) -> bool:
    return isinstance(replica_set, ReplicaSet) and is_same_template(replica_set.spec.template, template)


def _complain(deployment: Deployment, why: str) -> Plan:
    """Tell once per generation that a Deployment cannot be worked on."""
    generation = deployment.metadata.generation
    if deployment.status.observed_generation >= generation:
        return Plan()
    version = deployment.metadata.resource_version
    told = PatchStatus(Deployment, deployment.key, {"observedGeneration": generation}, why, resource_version=version)
    return Plan((Emit(deployment, "InvalidSpec", why, type="Warning"), told))
