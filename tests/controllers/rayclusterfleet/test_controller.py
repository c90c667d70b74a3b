"""The controllers of fleets and their sets in virtual time: deadlines, kinds that come late, rights, and no storm."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
import pytest
from prometheus_client import REGISTRY

from pybrix.api.config import ControllersConfiguration
from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object, find_condition
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import RayCluster
from pybrix.controllers.rayclusterfleet.controller import RAYCLUSTERFLEET
from pybrix.controllers.rayclusterreplicaset.controller import MISSING, RAYCLUSTERREPLICASET
from pybrix.controllers.rayclusterreplicaset.plan import SETTLE_S
from pybrix.controllers.registration import Setup
from pybrix.kube.interface import Client
from pybrix.runtime.expectations import EXPIRY_S
from pybrix.runtime.leader import LeaderConfig
from pybrix.runtime.manager import Manager
from tests.support.clocks import LoopClock
from tests.support.fleets import LABELS, FleetApi, SimulatedHeads, SimulatedKubeRay, lost, make_fleet, make_set
from tests.support.permissions import RecordingClient, Use, check_permissions

HEADLESS = {"metadata": {"labels": LABELS}, "spec": {"workerGroupSpecs": []}}
pytestmark = pytest.mark.looptime


class World:
    """Both controllers over an API in memory, with a KubeRay."""

    def __init__(self, client: Callable[[FleetApi], Client] = lambda api: api) -> None:
        self.api = FleetApi()
        self.client = client(self.api)
        self.kuberay = SimulatedKubeRay(self.api, random.Random(1))

    @property
    def fleet(self) -> RayClusterFleet:
        (fleet,) = self.api.all(RayClusterFleet)
        return fleet

    @property
    def replica_set(self) -> RayClusterReplicaSet:
        return self.api.all(RayClusterReplicaSet)[-1]

    def progressing(self) -> tuple[str, str]:
        condition = find_condition(self.fleet.status.conditions, "Progressing")
        assert condition is not None
        return condition.status, condition.reason

    def edit(self, **spec: object) -> None:
        self.api.change(self.fleet, {"spec": spec})

    @asynccontextmanager
    async def running(self, leader: LeaderConfig | None = None) -> AsyncIterator[None]:
        chance = random.Random(1)
        manager = Manager(self.client, component="test", clock=LoopClock(), chance=chance, leader=leader)
        http = cast(aiohttp.ClientSession, SimulatedHeads())
        setup = Setup(manager, ControllersConfiguration(), LoopClock(), random.Random(1), http)
        for registration in (RAYCLUSTERREPLICASET, RAYCLUSTERFLEET):
            for controller in registration.build(setup):
                manager.add(controller)
        async with asyncio.TaskGroup() as group:
            kuberay = group.create_task(self.kuberay.run())
            running = group.create_task(manager.run())
            try:
                yield
            finally:
                manager.stop()
                await running
                kuberay.cancel()


async def test_a_rollout_that_is_stuck_is_told_by_time_alone() -> None:
    world = World()
    world.kuberay.broken_images = {"broken"}
    world.api.put(make_fleet(2, progressDeadlineSeconds=60))
    async with world.running():
        await asyncio.sleep(30)
        assert world.progressing() == ("True", "NewReplicaSetAvailable")
        world.edit(template=make_fleet(image="broken").to_dict()["spec"]["template"])
        await asyncio.sleep(50)
        assert world.progressing() == ("True", "ReplicaSetUpdated")
        # Nothing happens any more, and still it is told.
        await asyncio.sleep(20)
        assert world.progressing() == ("False", "ProgressDeadlineExceeded")
        available = find_condition(world.fleet.status.conditions, "Available")
        assert available is not None
        assert available.status == "True", "the old clusters serve"


async def test_a_spec_that_cannot_be_worked_on_is_told_until_it_is_mended() -> None:
    world = World()
    fleet, bare = make_fleet(1), make_set("bare")
    for obj in (fleet, bare):
        world.api.put(type(obj).from_dict(obj.to_dict() | {"spec": obj.to_dict()["spec"] | {"template": HEADLESS}}))

    def failures() -> list[tuple[str, str]]:
        of_fleet, of_set = world.fleet.status.conditions, world.replica_set.status.conditions
        found = (find_condition(of_fleet, "ReplicaFailure"), find_condition(of_set, "ReplicaFailure"))
        return [(c.reason, c.message) for c in found if c is not None]

    async with world.running():
        await asyncio.sleep(10)
        told = failures()
        assert [reason for reason, _ in told] == ["InvalidSpec"] * 2
        assert all("headGroupSpec" in message for _, message in told)
        writes = world.api.writes
        world.api.end_watches()
        await asyncio.sleep(60)
        assert world.api.writes == writes
        for found in (world.fleet, world.replica_set):
            world.api.change(found, {"spec": {"template": make_fleet().to_dict()["spec"]["template"]}})
        await asyncio.sleep(60)
        assert failures() == []
        assert world.fleet.status.available_replicas == 1


async def test_pause_and_resume_are_kept_in_the_status() -> None:
    world = World()
    world.api.put(make_fleet(1))
    async with world.running():
        await asyncio.sleep(30)
        world.edit(paused=True, template=make_fleet(image="v2").to_dict()["spec"]["template"])
        await asyncio.sleep(30)
        assert world.progressing() == ("Unknown", "DeploymentPaused")
        assert len(world.api.all(RayClusterReplicaSet)) == 1
        world.edit(paused=False)
        await asyncio.sleep(100)
        assert world.progressing() == ("True", "NewReplicaSetAvailable")
        assert len(world.api.all(RayClusterReplicaSet)) == 2


async def test_availability_comes_at_its_moment() -> None:
    world = World()
    world.api.put(make_fleet(1, minReadySeconds=40))
    async with world.running():
        await asyncio.sleep(20)
        assert (world.fleet.status.ready_replicas, world.fleet.status.available_replicas) == (1, 0)
        await asyncio.sleep(40)
        assert world.fleet.status.available_replicas == 1


async def test_kuberay_may_come_later_and_go_again() -> None:
    world = World()
    world.api.missing.add("RayCluster")
    world.api.put(make_fleet(1))
    async with world.running():
        await asyncio.sleep(60)
        of_set, of_fleet = world.replica_set.status.conditions, world.fleet.status.conditions
        for failure in (find_condition(of_set, "ReplicaFailure"), find_condition(of_fleet, "ReplicaFailure")):
            assert failure is not None
            assert (failure.status, failure.reason, failure.message) == ("True", MISSING.reason, MISSING.message)
        world.api.missing.clear()
        await asyncio.sleep(60)
        assert world.fleet.status.available_replicas == 1
        assert find_condition(world.fleet.status.conditions, "ReplicaFailure") is None
        # The definition is deleted, and all RayClusters with it; then it comes back.
        world.api.missing.add("RayCluster")
        for cluster in world.api.all(RayCluster):
            world.api.remove(cluster)
        world.api.end_watches()
        await asyncio.sleep(60)
        world.api.missing.clear()
        await asyncio.sleep(90)
        assert world.fleet.status.available_replicas == 1


def reconciles() -> float:
    names = ("rayclusterfleet", "rayclusterreplicaset")
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "pybrix_reconcile_total" and sample.labels["controller"] in names
    )


async def test_nothing_is_written_or_looked_at_without_a_cause() -> None:
    world = World()
    world.api.put(make_fleet(3))
    before = reconciles()
    async with world.running():
        await asyncio.sleep(60)
        assert world.fleet.status.available_replicas == 3
        # A set, three clusters, each with an Event; status and notes of the fleet and the set.
        assert world.api.writes <= 24
        assert reconciles() - before <= 30
        writes, passes = world.api.writes, reconciles()
        await asyncio.sleep(24 * 3600)
        assert (world.api.writes, reconciles()) == (writes, passes)


async def test_the_rights_are_enough_and_the_least() -> None:
    world = World(RecordingClient)
    world.api.put(make_fleet(2))
    async with world.running():
        await asyncio.sleep(30)
        for number in range(12):
            world.edit(template=make_fleet(image=f"v{number}").to_dict()["spec"]["template"])
            await asyncio.sleep(120)
    group = RayClusterFleet.gvk.group
    check_permissions(
        cast(RecordingClient, world.client).used,
        (*RAYCLUSTERREPLICASET.permissions, *RAYCLUSTERFLEET.permissions),
        unused=[
            # Reads of an owner before it adopts, or of a child whose name is taken.
            Use("get", group, "rayclusterfleets"),
            Use("get", group, "rayclusterreplicasets"),
            Use("get", "ray.io", "rayclusters"),
            # The API server's own check of owner references, and a set's notes about failed clusters.
            Use("update", group, "rayclusterfleets/finalizers"),
            Use("update", group, "rayclusterreplicasets/finalizers"),
        ],
    )


async def test_a_creation_whose_answer_is_lost_is_not_made_twice() -> None:
    world = World()
    world.api.put(make_set(replicas=1))
    async with world.running():
        # The set's clusters are created, nobody answers, and watches tell nothing either.
        world.api.after += [lost(), lost()]
        world.api.hold()
        await asyncio.sleep(20)
        assert len(world.api.all(RayCluster)) == 1
        world.api.release()
        await asyncio.sleep(20)
        assert len(world.api.all(RayCluster)) == 1
        assert world.replica_set.status.available_replicas == 1


@pytest.mark.parametrize("late", [(Pod,), (RayCluster,)])
async def test_late_views_end_no_cluster_that_serves(late: tuple[type[Object], ...]) -> None:
    world = World()
    world.api.put(make_fleet(2))
    found: list[Uid] = []
    left_s: list[float] = []

    def leave(cluster: RayCluster) -> None:
        (head,) = world.kuberay.heads(cluster)
        found.extend({head.uid} & world.api.found)
        left_s.append(world.api.clock.monotonic_s() - world.api.left_at_s[head.uid])

    world.api.on_cluster_leaves = leave
    async with world.running():
        await asyncio.sleep(0.5)
        # Both clusters get ready. Then of one kind only what was before is known, of the other what is.
        world.api.hold(*late)
        await asyncio.sleep(20)
        assert len(world.api.found) == 2
        world.edit(replicas=1)
        await asyncio.sleep(60)
        world.api.release()
        await asyncio.sleep(60)
    assert found == []
    assert len(left_s) == 1
    assert left_s[0] >= SETTLE_S


async def test_a_drain_goes_on_by_what_was_written_while_the_watch_lags() -> None:
    world = World()
    replica_set = world.api.put(make_set(replicas=2))
    async with world.running():
        await asyncio.sleep(20)
        world.api.hold(RayCluster)
        world.api.change(replica_set, {"spec": {"replicas": 1}})
        await asyncio.sleep(40)
        assert len(world.api.all(RayCluster)) == 1


async def test_a_head_that_is_seen_hidden_late_is_shown_again_when_it_is_wanted() -> None:
    world = World()
    replica_set = world.api.put(make_set(replicas=2))
    async with world.running():
        await asyncio.sleep(20)
        world.api.hold(Pod)
        world.api.change(replica_set, {"spec": {"replicas": 1}})
        await asyncio.sleep(1)
        assert len(world.api.found) == 1
        # It is taken back by a view of its head in which it was never hidden.
        world.api.change(replica_set, {"spec": {"replicas": 2}})
        await asyncio.sleep(20)
        world.api.release()
        await asyncio.sleep(10)
        assert len(world.api.found) == len(world.api.all(RayCluster)) == 2


async def test_however_late_a_watch_is_there_is_never_one_too_many() -> None:
    world = World()
    world.api.put(make_set(replicas=2))
    async with world.running():
        world.api.hold(RayCluster)
        await asyncio.sleep(2)
        world.api.change(world.replica_set, {"spec": {"replicas": 3}})
        await asyncio.sleep(2 * EXPIRY_S)
        assert len(world.api.all(RayCluster)) == 2
        world.api.release()
        await asyncio.sleep(60)
        assert len(world.api.all(RayCluster)) == 3
        assert world.replica_set.status.available_replicas == 3


async def test_clusters_of_a_deleted_set_are_drained_before_it_goes() -> None:
    world = World()
    world.api.put(make_set(replicas=2))
    left_s: list[float] = []

    def leave(cluster: RayCluster) -> None:
        (head,) = world.kuberay.heads(cluster)
        assert head.uid not in world.api.found
        left_s.append(world.api.clock.monotonic_s() - world.api.left_at_s[head.uid])

    world.api.on_cluster_leaves = leave
    async with world.running():
        await asyncio.sleep(30)
        assert len(world.api.found) == 2
        await world.api.delete(RayClusterReplicaSet, world.replica_set.key)
        await asyncio.sleep(1)
        assert world.api.found == set()
        assert len(world.api.all(RayCluster)) == 2
        await asyncio.sleep(60)
        assert (world.api.all(RayCluster), world.api.all(RayClusterReplicaSet)) == ([], [])
    assert len(left_s) == 2
    assert min(left_s) >= SETTLE_S


async def test_a_deleted_set_goes_when_its_clusters_cannot_be_known() -> None:
    world = World()
    world.api.put(make_set(replicas=1))
    async with world.running():
        await asyncio.sleep(30)
        world.api.missing.add("RayCluster")
        world.api.end_watches()
        await asyncio.sleep(60)
        await world.api.delete(RayClusterReplicaSet, world.replica_set.key)
        await asyncio.sleep(60)
        assert world.api.all(RayClusterReplicaSet) == []


async def test_two_processes_with_an_election_make_nothing_twice() -> None:
    world = World()
    world.api.put(make_fleet(2))
    config = LeaderConfig(ObjectKey("default", "lease"), "a", 15, 10, 2)
    async with world.running(config), world.running(dataclasses.replace(config, identity="b")):
        await asyncio.sleep(60)
        assert len(world.api.all(RayCluster)) == 2
        assert world.fleet.status.available_replicas == 2


async def test_a_name_whose_answer_was_lost_is_free_again_once_its_cluster_is_seen() -> None:
    world = World()
    replica_set = world.api.put(make_set(replicas=1))
    async with world.running():
        world.api.after.append(lost())
        await asyncio.sleep(20)
        assert len(world.api.all(RayCluster)) == 1
        world.api.change(replica_set, {"spec": {"replicas": 2}})
        await asyncio.sleep(20)
        assert len(world.api.all(RayCluster)) == 2
