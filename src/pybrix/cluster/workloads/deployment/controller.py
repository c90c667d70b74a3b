"""Roll Deployments out: the shell around `plan` and `status`."""

from __future__ import annotations

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.core import Namespace, Pod
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.cluster.workloads.claims import compile_selector
from pybrix.cluster.workloads.deployment.plan import plan
from pybrix.cluster.workloads.deployment.revisions import is_same_template
from pybrix.cluster.workloads.deployment.state import Observed, is_rolling, observe, problem
from pybrix.cluster.workloads.deployment.status import Outcome, next_status
from pybrix.cluster.workloads.differences import status_difference
from pybrix.cluster.workloads.lookups import (
    BY_HOLDER,
    BY_NAMESPACE,
    held_or_orphaned,
    holder_values,
    is_ending,
    namespace_values,
)
from pybrix.cluster.workloads.owners import confirm_owner
from pybrix.cluster.workloads.ownwrites import OwnWrites
from pybrix.kube.errors import AlreadyExists, Conflict, NotFound, StatusError
from pybrix.runtime.actions import Action, Create, Emit, Patch, PatchStatus, Plan
from pybrix.runtime.controller import Controller, For, Owns, Result, Watches
from pybrix.runtime.manager import Manager

LAG_S = 5.0
"""When to look again if the cache does not catch up with our own writes."""


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
        self._deployments.add_index(BY_NAMESPACE, namespace_values)
        self._sets.add_index(BY_HOLDER, holder_values)
        self._pods.add_index(BY_HOLDER, holder_values)

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
        outcome, error = await self._apply([a for a in actions if a not in notes])
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

    async def _apply(self, actions: list[Action]) -> tuple[Outcome, StatusError | None]:
        """Carry out a plan; return what came of the ReplicaSet it creates, and the error to back off for."""
        create = next((a for a in actions if isinstance(a, Create)), None)
        if create is None:
            await self._applier.apply(actions, controller="deployment")
            return Outcome(), None
        name = str(create.manifest["metadata"]["name"])
        try:
            await self._applier.apply(actions, controller="deployment")
        except AlreadyExists:
            # The new collision count changes the Deployment, so the next pass comes by itself.
            return Outcome(is_collision=await self._is_collision(create)), None
        except Conflict:
            raise
        except StatusError as error:
            return Outcome(create_error=str(error)), error
        return Outcome(created=name), None

    async def _is_collision(self, create: Create) -> bool:
        """Say whether the name of a new ReplicaSet is taken by one that is not the Deployment's of this template.

        Raises:
            Conflict: it is the right one, on its way out; to be planned anew when it is gone.
        """
        metadata = create.manifest["metadata"]
        try:
            found = await self._client.get(ReplicaSet, ObjectKey(metadata["namespace"], metadata["name"]))
        except NotFound:
            raise Conflict(409, "Conflict", f"ReplicaSet {metadata['name']} just went") from None
        holder = found.metadata.controller
        is_own = holder is not None and create.owner is not None and holder.uid == create.owner.uid
        if is_own and is_same_template(found.spec.template, create.manifest["spec"]["template"]):
            raise Conflict(409, "Conflict", f"ReplicaSet {metadata['name']} is being deleted")
        return True

    def _who_may_adopt(self, replica_set: ReplicaSet) -> list[ObjectKey]:
        if replica_set.metadata.controller is not None:
            return []
        return [
            d.key
            for d in self._deployments.by_index(BY_NAMESPACE, replica_set.metadata.namespace)
            if not problem(d) and compile_selector(d.spec.selector).matches(replica_set.metadata.labels)
        ]

    def _who_waits_for(self, pod: Pod) -> list[ObjectKey]:
        """Return the Deployment that recreates, and so waits for the pod to be gone."""
        holder = pod.metadata.controller
        replica_set = self._sets.by_uid(holder.uid) if holder is not None else None
        owner = replica_set.metadata.controller if replica_set is not None else None
        if owner is None:
            return []
        deployment = self._deployments.by_uid(owner.uid)
        return [deployment.key] if deployment is not None and not is_rolling(deployment) else []


def _complain(deployment: Deployment, why: str) -> Plan:
    """Tell once per generation that a Deployment cannot be worked on."""
    generation = deployment.metadata.generation
    if deployment.status.observed_generation >= generation:
        return Plan()
    version = deployment.metadata.resource_version
    told = PatchStatus(Deployment, deployment.key, {"observedGeneration": generation}, why, resource_version=version)
    return Plan((Emit(deployment, "InvalidSpec", why, type="Warning"), told))
