"""Run Jobs: the shell around `plan`."""

from __future__ import annotations

import random

from pybrix.api.batch import Job
from pybrix.api.core import Namespace, Pod
from pybrix.api.identity import ObjectKey
from pybrix.api.names import JOB_CONTROLLER
from pybrix.base.clock import Clock
from pybrix.base.hashing import random_suffix
from pybrix.cluster.workloads.job.plan import difference, plan
from pybrix.cluster.workloads.job.state import Observed, is_tracked, observe
from pybrix.cluster.workloads.job.tally import release
from pybrix.cluster.workloads.naming import name_pod
from pybrix.kube.errors import Conflict, StatusError
from pybrix.runtime.actions import Action, Create, Emit
from pybrix.runtime.claims import selector_problem
from pybrix.runtime.controller import Controller, For, Owns, Result, Watches
from pybrix.runtime.errors import TerminalError
from pybrix.runtime.lookups import (
    held_or_orphaned,
    index_family,
    is_ending,
    who_may_adopt,
)
from pybrix.runtime.manager import Manager
from pybrix.runtime.owners import confirm_owner
from pybrix.runtime.ownwrites import LAG_S, OwnWrites

BY_JOB = "job-tracked"


class JobReconciler:
    """Observe from shared caches, decide, carry it out, write how the Job stands."""

    def __init__(self, manager: Manager, clock: Clock, chance: random.Random) -> None:
        self._client = manager.client
        self._applier = manager.applier
        self._clock = clock
        self._chance = chance
        self._jobs = manager.informer(Job)
        self._pods = manager.informer(Pod)
        self._namespaces = manager.informer(Namespace)
        self._expectations = manager.expectations(Pod)
        self._writes = OwnWrites(manager.client, self._jobs)
        index_family(self._jobs, self._pods)
        self._pods.add_index(BY_JOB, _job_values)

    def controller(self) -> Controller:
        return Controller(
            "job",
            self.reconcile,
            sources=[For(self._jobs), Owns(self._pods, Job), Watches(self._pods, self._who_may_adopt)],
            reads=[self._namespaces],
            concurrency=4,
        )

    async def reconcile(self, key: ObjectKey) -> Result | None:
        job = self._jobs.get(key)
        await self._let_go(key, job)
        if job is None or job.spec.managed_by not in ("", JOB_CONTROLLER):
            return None
        if problem := selector_problem(job.spec.selector):
            raise TerminalError(problem)
        if not self._writes.is_visible(job.uid):
            return Result(LAG_S)
        seen = self._observe(job)
        if seen.claims.adopted:
            await confirm_owner(self._client, job)
        decision = plan(seen, self._clock.now())
        error: StatusError | None = None
        try:
            await self._applier.apply(self._named(decision.actions), controller="job")
        except Conflict:
            raise
        except StatusError as err:
            error = err
        status = decision.status
        why = f"{status.active} active, {status.succeeded} succeeded, {status.failed} failed"
        await self._writes.patch_status(job, difference(job.status, status), why)
        if error is not None:
            raise error
        return Result(decision.again_s if seen.is_settled else min(decision.again_s or LAG_S, LAG_S))

    def _observe(self, job: Job) -> Observed:
        return observe(
            job,
            held_or_orphaned(self._pods, job),
            is_settled=self._expectations.is_settled(job.uid),
            is_namespace_ending=is_ending(self._namespaces, job.metadata.namespace),
        )

    def _named(self, actions: tuple[Action, ...]) -> list[Action]:
        """Give new pods names, and tell of each."""
        named: list[Action] = []
        for action in actions:
            if not isinstance(action, Create) or action.owner is None:
                named.append(action)
                continue
            create = name_pod(action, random_suffix(self._chance))
            named.append(create)
            named.append(Emit(action.owner, "SuccessfulCreate", f"Created pod: {create.manifest['metadata']['name']}"))
        return named

    async def _let_go(self, key: ObjectKey, job: Job | None) -> None:
        """Take the finalizer off pods of a Job that is gone, or an earlier one of its name: nobody counts them."""
        for pod in self._pods.by_index(BY_JOB, str(key)):
            holder = pod.metadata.controller
            if holder is not None and (job is None or holder.uid != job.uid):
                await self._applier.apply([release(pod, "its Job is gone")], controller="job")

    def _who_may_adopt(self, pod: Pod) -> list[ObjectKey]:
        return who_may_adopt(self._jobs, pod, lambda j: j.spec.selector)


def _job_values(pod: Pod) -> list[str]:
    """Index the pods that are still to be counted by the key of their Job."""
    holder = pod.metadata.controller
    if holder is None or holder.kind != Job.gvk.kind or not is_tracked(pod):
        return []
    return [str(ObjectKey(pod.metadata.namespace, holder.name))]
