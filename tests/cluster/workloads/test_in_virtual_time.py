"""Deployment and ReplicaSet controllers over hours of virtual time: deadlines, refusals, and that nothing churns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.core import Event, Namespace, Pod
from pybrix.api.meta import ObjectMeta, find_condition
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.registry import add_workloads
from pybrix.kube.errors import Conflict, Forbidden, KubeError, Unreachable
from pybrix.runtime.manager import Manager
from tests.support.clocks import LoopClock
from tests.support.memoryapi import MemoryApi
from tests.support.workloads import LABELS, make_deployment, make_pod, make_replica_set, make_template

pytestmark = pytest.mark.looptime

LONG_S = 60.0
"""Virtual seconds in which everything that can happen has happened."""


class Cluster:
    """Deployments over an API in memory; the test is the kubelet."""

    def __init__(self) -> None:
        self.api = MemoryApi()
        self.clock = LoopClock()
        self.api.put(Namespace(metadata=ObjectMeta(name="default")))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        chance = random.Random(1)
        manager = Manager(self.api, component="test", clock=self.clock, chance=chance)
        add_workloads(manager, clock=self.clock, chance=chance)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(manager.run())
            await asyncio.sleep(LONG_S)
            yield
            manager.stop()
            await work

    @property
    def pods(self) -> list[Pod]:
        return self.api.all(Pod)

    @property
    def deployment(self) -> Deployment:
        return self.api.all(Deployment)[0]

    @property
    def progressing(self) -> tuple[str, str]:
        condition = find_condition(self.deployment.status.conditions, "Progressing")
        return (condition.status, condition.reason) if condition is not None else ("", "")

    def put_deployment(self, replicas: int = 3, **more: Any) -> None:
        wanted = make_deployment(replicas, **more)
        self.api.put(wanted)

    def edit(self, **spec: Any) -> None:
        self.api.change(self.deployment, {"spec": spec})

    async def make_ready(self, count: int = 1000) -> None:
        for pod in [p for p in self.pods if not p.is_ready][:count]:
            now = format_rfc3339(self.clock.now())
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": now}
            self.api.change(pod, {"status": {"phase": "Running", "conditions": [condition]}})
        await asyncio.sleep(LONG_S)

    async def roll_out(self) -> None:
        for _ in range(20):
            await self.make_ready()

    async def writes_within(self, seconds: float) -> int:
        before = self.api.revision
        await asyncio.sleep(seconds)
        return self.api.revision - before


async def test_a_finished_rollout_is_quiet_for_a_day() -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.put_deployment(3)
        await asyncio.sleep(LONG_S)
        await cluster.roll_out()
        assert cluster.progressing == ("True", "NewReplicaSetAvailable")
        assert cluster.deployment.status.available_replicas == 3
        assert await cluster.writes_within(24 * 3600) == 0


async def test_the_deadline_of_ten_minutes_passes_without_any_event() -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.put_deployment(3)
        await asyncio.sleep(500)
        assert cluster.progressing == ("True", "ReplicaSetUpdated")
        await asyncio.sleep(200)
        assert cluster.progressing == ("False", "ProgressDeadlineExceeded")
        assert await cluster.writes_within(24 * 3600) == 0
        await cluster.roll_out()
        assert cluster.progressing == ("True", "NewReplicaSetAvailable")


async def test_progress_moves_the_deadline() -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.put_deployment(3)
        for _ in range(3):
            await asyncio.sleep(500)
            assert cluster.progressing == ("True", "ReplicaSetUpdated")
            await cluster.make_ready(1)
        assert cluster.progressing == ("True", "NewReplicaSetAvailable")


async def test_pods_become_available_when_min_ready_seconds_are_over() -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.put_deployment(2, minReadySeconds=300)
        await asyncio.sleep(LONG_S)
        await cluster.make_ready()
        assert (cluster.deployment.status.ready_replicas, cluster.deployment.status.available_replicas) == (2, 0)
        await asyncio.sleep(200)
        assert cluster.deployment.status.available_replicas == 0
        await asyncio.sleep(100)
        assert cluster.deployment.status.available_replicas == 2
        assert await cluster.writes_within(3600) == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        pytest.param("create", Forbidden(403, "Forbidden", "quota"), id="a creation is refused"),
        pytest.param("create", Unreachable("reset"), id="a creation gets no answer"),
        pytest.param("patch", Conflict(409, "Conflict", "modified"), id="a patch meets something newer"),
        pytest.param("patch", Unreachable("reset"), id="a patch gets no answer"),
        pytest.param("delete", Unreachable("reset"), id="a deletion gets no answer"),
    ],
)
async def test_failures_on_the_way_change_nothing_in_the_end(call: str, error: KubeError) -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.api.fail_next(call, *[error] * 7)
        cluster.put_deployment(5)
        await asyncio.sleep(LONG_S)
        await cluster.roll_out()
        cluster.api.fail_next(call, *[error] * 7)
        cluster.edit(template=make_template("v2"))
        await asyncio.sleep(LONG_S)
        await cluster.roll_out()
        assert [p.spec.containers[0].image for p in cluster.pods] == ["v2"] * 5
        assert cluster.progressing == ("True", "NewReplicaSetAvailable")
        assert not any(c.type == "ReplicaFailure" for c in cluster.deployment.status.conditions)
        assert await cluster.writes_within(24 * 3600) == 0


async def test_a_refused_pod_is_told_and_refused_again_only_after_growing_pauses() -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.put_deployment(50)
        await asyncio.sleep(0)
        cluster.api.remove(cluster.api.all(Deployment)[0])
        await asyncio.sleep(LONG_S)
        for replica_set in cluster.api.all(ReplicaSet):
            cluster.api.remove(replica_set)
        for pod in cluster.pods:
            cluster.api.remove(pod)
        await asyncio.sleep(LONG_S)
        # Of what a ReplicaSet creates, only pods: its Event follows each refusal.
        refusals: list[KubeError] = [Forbidden(403, "Forbidden", "exceeded quota")] * 400
        cluster.api.fail_next("create", *refusals)
        cluster.api.calls.clear()
        cluster.api.put(make_replica_set("lone", 50))
        await asyncio.sleep(LONG_S)
        (replica_set,) = cluster.api.all(ReplicaSet)
        failure = find_condition(replica_set.status.conditions, "ReplicaFailure")
        assert failure is not None
        assert (failure.reason, failure.message) == ("FailedCreate", "exceeded quota")
        # One pod and one Event a pass; passes 5 ms, 10 ms, 20 ms, ... apart.
        assert cluster.api.calls.count("create") < 40


async def test_an_orphaned_pod_is_adopted_and_not_replaced() -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.api.put(make_pod("orphan", node=""))
        cluster.api.put(make_replica_set("lone", 1))
        await asyncio.sleep(LONG_S)
        (pod,) = cluster.pods
        assert pod.metadata.name == "orphan"
        assert [r.name for r in pod.metadata.owner_references] == ["lone"]


async def test_a_spec_that_cannot_work_is_told_once() -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.put_deployment(1, selector={"matchLabels": {"app": "other"}})
        assert await cluster.writes_within(LONG_S) == 2
        (event,) = cluster.api.all(Event)
        assert (event.type, event.reason) == ("Warning", "InvalidSpec")
        assert cluster.deployment.status.observed_generation == 1
        assert cluster.pods == []


async def test_rollouts_survive_a_cut_off_api_and_lost_watches() -> None:
    cluster = Cluster()
    chance = random.Random(7)
    async with cluster.running():
        cluster.put_deployment(6)
        await asyncio.sleep(LONG_S)
        await cluster.roll_out()
        for round_ in range(12):
            match round_ % 4:
                case 0:
                    cluster.api.go_down()
                    await asyncio.sleep(chance.random() * 30)
                    cluster.api.is_down = False
                case 1:
                    cluster.edit(template=make_template(f"v{round_}"), replicas=chance.randint(1, 9))
                case 2:
                    cluster.api.compact()
                    cluster.api.end_watches()
                case 3 if cluster.pods:
                    cluster.api.remove(chance.choice(cluster.pods))
            await cluster.make_ready(chance.randint(0, 3))
        cluster.edit(replicas=4)
        await cluster.roll_out()
        assert [p.spec.containers[0].image for p in cluster.pods] == ["v9"] * 4
        assert all(LABELS.items() <= p.metadata.labels.items() for p in cluster.pods)
        assert await cluster.writes_within(24 * 3600) == 0
