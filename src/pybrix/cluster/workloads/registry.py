"""Every controller of the cluster's own, what each watches, and how they run together.

manager = Manager(client, component="pybrix-workloads", clock=clock, chance=chance)
await run_workloads(manager, store, server.objects, clock=clock, chance=chance)     # until manager.stop()
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pybrix.base.clock import Clock
from pybrix.cluster.store.store import Store
from pybrix.cluster.workloads.binding.controller import BindingReconciler
from pybrix.cluster.workloads.deployment.controller import DeploymentReconciler
from pybrix.cluster.workloads.disruption.controller import disruption_loop
from pybrix.cluster.workloads.endpointslice.controller import EndpointSliceReconciler
from pybrix.cluster.workloads.eventexpiry.controller import event_expiry_loop
from pybrix.cluster.workloads.garbage.controller import garbage_loop
from pybrix.cluster.workloads.job.controller import JobReconciler
from pybrix.cluster.workloads.namespaces.controller import namespace_loop
from pybrix.cluster.workloads.raycluster.controller import RayClusterReconciler
from pybrix.cluster.workloads.replicaset.controller import ReplicaSetReconciler
from pybrix.cluster.workloads.statefulset.controller import StatefulSetReconciler
from pybrix.cluster.workloads.storeloop import Objects, StoreLoop
from pybrix.cluster.workloads.tainteviction.controller import TaintEvictionReconciler
from pybrix.cluster.workloads.volumeclaim.controller import VolumeClaimReconciler
from pybrix.runtime.controller import Controller
from pybrix.runtime.manager import Manager


@dataclass(frozen=True, slots=True)
class Listed:
    """A controller that works through the Kubernetes API."""

    name: str
    watches: str
    build: Callable[[Manager, Clock, random.Random], Controller]


@dataclass(frozen=True, slots=True)
class ListedLoop:
    """A controller that works on the store itself, because it concerns kinds that have no type here."""

    name: str
    watches: str
    build: Callable[[Store, Objects, Clock], StoreLoop[Any]]


CONTROLLERS = (
    Listed(
        "deployment",
        "Deployments, their ReplicaSets and orphaned ones, pods of those that recreate",
        lambda manager, clock, _chance: DeploymentReconciler(manager, clock).controller(),
    ),
    Listed(
        "replicaset",
        "ReplicaSets, their pods and orphaned ones",
        lambda manager, clock, chance: ReplicaSetReconciler(manager, clock, chance).controller(),
    ),
    Listed(
        "statefulset",
        "StatefulSets, their pods, revisions and claims, and orphaned ones",
        lambda manager, clock, _chance: StatefulSetReconciler(manager, clock).controller(),
    ),
    Listed(
        "job",
        "Jobs, their pods and orphaned ones",
        lambda manager, clock, chance: JobReconciler(manager, clock, chance).controller(),
    ),
    Listed(
        "raycluster",
        "RayClusters, where that kind is defined, their pods and Services",
        lambda manager, clock, _chance: RayClusterReconciler(manager, clock).controller(),
    ),
    Listed(
        "volumeclaim",
        "claims of volumes, pods that use them",
        lambda manager, _clock, _chance: VolumeClaimReconciler(manager).controller(),
    ),
    Listed(
        "endpointslice",
        "Services, their slices, the pods they select, zones of nodes",
        lambda manager, _clock, _chance: EndpointSliceReconciler(manager).controller(),
    ),
    Listed(
        "binding",
        "pods without a node, pods that free one, what nodes offer",
        lambda manager, clock, _chance: BindingReconciler(manager, clock).controller(),
    ),
    Listed(
        "tainteviction",
        "pods that come to a node, taints of nodes",
        lambda manager, clock, _chance: TaintEvictionReconciler(manager, clock).controller(),
    ),
)
LOOPS = (
    ListedLoop("garbage", "all objects", lambda store, objects, _clock: garbage_loop(store, objects)),
    ListedLoop("disruption", "disruption budgets, their pods, what keeps them", disruption_loop),
    ListedLoop("namespaces", "all objects", namespace_loop),
    ListedLoop("eventexpiry", "nothing: time alone ends Events", event_expiry_loop),
)


def add_workloads(manager: Manager, *, clock: Clock, chance: random.Random) -> None:
    """Add the controllers that work through the API to a manager, before it runs."""
    for listed in CONTROLLERS:
        manager.add(listed.build(manager, clock, chance))


def store_loops(store: Store, objects: Objects, *, clock: Clock) -> list[StoreLoop[Any]]:
    """Return the controllers that work on the store; each is to be run on the store's event loop."""
    return [listed.build(store, objects, clock) for listed in LOOPS]


async def run_workloads(
    manager: Manager, store: Store, objects: Objects, *, clock: Clock, chance: random.Random
) -> None:
    """Run all of them until `manager.stop()` or cancellation. The API server runs before and after."""
    add_workloads(manager, clock=clock, chance=chance)
    async with asyncio.TaskGroup() as group:
        loops = [group.create_task(loop.run(), name=loop.name) for loop in store_loops(store, objects, clock=clock)]
        await manager.run()
        for task in loops:
            task.cancel()
