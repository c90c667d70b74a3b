"""Turn RayClusters into pods that run Ray: the shell around `plan` and `status`."""

from __future__ import annotations

import sys
from pathlib import Path

from pybrix.api.core import Pod, Service
from pybrix.api.identity import ObjectKey
from pybrix.api.ray import RayCluster
from pybrix.base.clock import Clock
from pybrix.cluster.workloads.raycluster.plan import plan
from pybrix.cluster.workloads.raycluster.render import service_name
from pybrix.cluster.workloads.raycluster.state import observe
from pybrix.cluster.workloads.raycluster.status import next_status
from pybrix.runtime.controller import Controller, For, Owns, Result
from pybrix.runtime.differences import status_difference
from pybrix.runtime.lookups import BY_HOLDER, holder_values
from pybrix.runtime.manager import Manager
from pybrix.runtime.ownwrites import LAG_S, OwnWrites

NO_RAY_S = 30.0
"""When to look again for a Ray that somebody installs."""


def installed_ray() -> str:
    """Return the path of the program `ray` beside this Python; empty when there is none."""
    program = Path(sys.executable).with_name("ray")
    return str(program) if program.is_file() else ""


class RayClusterReconciler:
    """Observe from shared caches, plan, carry out, tell how it is."""

    def __init__(self, manager: Manager, clock: Clock) -> None:
        self._applier = manager.applier
        self._clock = clock
        self._clusters = manager.informer(RayCluster)
        self._pods = manager.informer(Pod)
        self._services = manager.informer(Service)
        self._expectations = manager.expectations(Pod)
        self._writes = OwnWrites(manager.client, self._clusters)
        self._pods.add_index(BY_HOLDER, holder_values)

    def controller(self) -> Controller:
        return Controller(
            "raycluster",
            self.reconcile,
            sources=[For(self._clusters), Owns(self._pods, RayCluster), Owns(self._services, RayCluster)],
            concurrency=4,
        )

    async def reconcile(self, key: ObjectKey) -> Result | None:
        cluster = self._clusters.get(key)
        if cluster is None:
            return None
        if not self._writes.is_visible(cluster.uid):
            return Result(LAG_S)
        service = self._services.get(ObjectKey(key.namespace, service_name(cluster)))
        seen = observe(
            cluster,
            self._pods.by_index(BY_HOLDER, cluster.uid),
            installed_ray(),
            has_service=service is not None,
            is_settled=self._expectations.is_settled(cluster.uid),
        )
        await self._applier.apply(plan(seen).actions, controller="raycluster")
        if not cluster.metadata.is_terminating:
            status = next_status(seen, self._clock.now())
            why = f"{status.ready_worker_replicas} of {status.desired_worker_replicas} workers ready"
            await self._writes.patch_status(cluster, status_difference(cluster.status, status), why)
        if not seen.ray:
            return Result(NO_RAY_S)
        return Result(None if seen.is_settled else LAG_S)
