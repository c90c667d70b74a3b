"""Controllers: which keys changes become, and what follows from how a pass ends."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.core import Node, Pod
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import ObjectMeta, OwnerReference
from pybrix.kube.errors import AlreadyExists, Conflict, TooManyRequests
from pybrix.kube.informer import Informer
from pybrix.runtime.actions import Action, Patch, Plan
from pybrix.runtime.controller import (
    Controller,
    For,
    Owns,
    Reconciler,
    Result,
    Source,
    Watches,
)
from pybrix.runtime.errors import Retry, TerminalError
from tests.support.bare_pods import key, make_pod
from tests.support.memoryapi import MemoryApi

pytestmark = pytest.mark.looptime


class Log:
    """A reconciler that notes (time, key) and ends each pass as scripted; and an executor that notes actions."""

    def __init__(self, *outcomes: Plan | Result | Exception | None) -> None:
        self.passes: list[tuple[float, str]] = []
        self.applied: list[Action] = []
        self._outcomes = list(outcomes)

    async def reconcile(self, key: ObjectKey) -> Plan | Result | None:
        self.passes.append((round(asyncio.get_running_loop().time() - self.began_s, 3), str(key)))
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def apply(self, actions: Iterable[Action], *, controller: str = "") -> None:
        self.applied.extend(actions)

    def start(self) -> None:
        self.began_s = asyncio.get_running_loop().time()
        self.passes.clear()

    @property
    def keys(self) -> list[str]:
        return [key for _, key in self.passes]

    @property
    def times(self) -> list[float]:
        return [at_s for at_s, _ in self.passes]


@asynccontextmanager
async def running(controller: Controller, log: Log) -> AsyncIterator[None]:
    log.start()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(informer.run()) for informer in set(controller.informers)]
        tasks.append(group.create_task(controller.run(log)))
        while not controller.is_running:  # noqa: ASYNC110 Virtual time.
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        log.start()
        yield
        for task in tasks:
            task.cancel()


def follow(api: MemoryApi, cls: type[Any]) -> Informer[Any]:
    return Informer(api, cls, chance=random.Random(1))


def pod_controller(api: MemoryApi, log: Log, *, reconcile: Reconciler | None = None, **options: Any) -> Controller:
    return Controller("pods", reconcile or log.reconcile, sources=[For(follow(api, Pod), **options)])


async def passes_after(log: Log, seconds: float) -> list[float]:
    """Create a pod, let time pass, and return when it was reconciled after that."""
    api = MemoryApi()
    async with running(pod_controller(api, log), log):
        api.put(make_pod())
        await asyncio.sleep(seconds)
        return log.times


async def test_what_is_there_is_reconciled_first_and_then_what_changes() -> None:
    api, log = MemoryApi(), Log()
    a = api.put(make_pod("a"))
    controller = pod_controller(api, log)
    log.start()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(controller.informers[0].run()), group.create_task(controller.run(log))]
        await asyncio.sleep(1)
        assert log.keys == ["default/a"]
        api.change(a, {"metadata": {"labels": {"x": "y"}}})
        await asyncio.sleep(1)
        api.remove(a)
        await asyncio.sleep(1)
        assert log.keys == ["default/a"] * 3
        for task in tasks:
            task.cancel()


async def test_children_lead_to_their_controller_of_the_right_kind_and_group() -> None:
    api, log = MemoryApi(), Log()
    owner = api.put(ReplicaSet(metadata=ObjectMeta(name="web", namespace="default")))
    deployment = api.put(Deployment(metadata=ObjectMeta(name="shop", namespace="default")))
    pods, sets = follow(api, Pod), follow(api, ReplicaSet)
    controller = Controller("sets", log.reconcile, sources=[For(sets), Owns(pods, ReplicaSet)])
    async with running(controller, log):
        api.put(make_pod("child", owner=owner))
        api.put(make_pod("foreign", owner=deployment))
        api.put(make_pod("orphan"))
        namesake = make_pod("namesake")
        reference = OwnerReference(
            api_version="else.io/v1", kind="ReplicaSet", name="n", uid=owner.uid, controller=True
        )
        namesake.metadata.owner_references = [reference]
        api.put(namesake)
        await asyncio.sleep(1)
        assert log.keys == ["default/web"]


async def test_a_watched_object_concerns_those_of_before_and_of_now() -> None:
    api, log = MemoryApi(), Log()
    node = api.put(Node(metadata=ObjectMeta(name="n", labels={"pod": "a"})))
    sources: list[Source] = [
        For(follow(api, Pod)),
        Watches(follow(api, Node), lambda seen: [key(seen.metadata.labels["pod"])]),
    ]
    async with running(Controller("pods", log.reconcile, sources=sources), log):
        api.change(node, {"metadata": {"labels": {"pod": "b"}}})
        await asyncio.sleep(1)
        assert sorted(log.keys) == ["default/a", "default/b"]


async def test_a_mapping_that_fails_for_one_object_does_not_stop_the_others() -> None:
    api, log = MemoryApi(), Log()
    api.put(Node(metadata=ObjectMeta(name="without-label")))
    api.put(Node(metadata=ObjectMeta(name="n", labels={"pod": "b"})))
    source = Watches(follow(api, Node), lambda seen: [key(seen.metadata.labels["pod"])])
    controller = Controller("pods", log.reconcile, sources=[source])
    log.start()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(controller.informers[0].run()), group.create_task(controller.run(log))]
        await asyncio.sleep(1)
        assert log.keys == ["default/b"]
        for task in tasks:
            task.cancel()


def generation_changed(old: Pod, new: Pod) -> bool:
    """Let changes of the spec and the beginning of a deletion through, but no change of status."""
    return (
        old.metadata.generation != new.metadata.generation or old.metadata.is_terminating != new.metadata.is_terminating
    )


async def test_a_predicate_filters_modifications_only() -> None:
    api, log = MemoryApi(), Log()
    async with running(pod_controller(api, log, when=generation_changed), log):
        pod = api.put(make_pod())
        await asyncio.sleep(1)
        api.change(pod, {"status": {"phase": "Running"}})
        await asyncio.sleep(1)
        assert len(log.passes) == 1
        api.change(pod, {"spec": {"nodeName": "n"}})
        await asyncio.sleep(1)
        api.change(pod, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
        await asyncio.sleep(1)
        api.remove(pod)
        await asyncio.sleep(1)
        assert len(log.passes) == 4


async def test_a_plan_is_applied_and_looked_at_again_when_it_says() -> None:
    action = Patch(Pod, key(), {"metadata": {"labels": {"x": "y"}}}, "label it")
    log = Log(Plan((action,), requeue_after_s=30), Result(60))
    assert await passes_after(log, 1000) == [0, 30, 90]
    assert log.applied == [action]


async def test_faults_back_off_and_success_starts_afresh() -> None:
    log = Log(*[RuntimeError("a fault")] * 3, Result(10), RuntimeError("again"))
    assert await passes_after(log, 100) == [0, 0.005, 0.015, 0.035, 10.035, 10.04]


async def test_a_fault_of_one_key_does_not_hold_up_another() -> None:
    api, log = MemoryApi(), Log()

    async def reconcile(key: ObjectKey) -> None:
        await log.reconcile(key)
        if key.name == "bad":
            raise RuntimeError("a fault")

    async with running(pod_controller(api, log, reconcile=reconcile), log):
        api.put(make_pod("bad"))
        api.put(make_pod("good"))
        await asyncio.sleep(60)
        assert log.keys.count("default/good") == 1
        assert log.keys.count("default/bad") > 5


async def test_a_conflict_is_planned_again() -> None:
    assert await passes_after(Log(Conflict(409, "Conflict", "newer")), 100) == [0, 0.005]


async def test_conflicts_wait_a_second_at_most_and_leave_other_faults_their_own_time() -> None:
    times = await passes_after(Log(*[Conflict(409, "Conflict", "newer")] * 30, RuntimeError("a fault")), 100)
    waits = [round(after - before, 3) for before, after in itertools.pairwise(times)]
    assert waits[:9] == [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0]
    assert set(waits[9:30]) == {1.0}
    assert waits[30:] == [1.28]


async def test_a_name_that_stays_taken_is_tried_ever_more_rarely() -> None:
    times = await passes_after(Log(*[AlreadyExists(409, "AlreadyExists", "taken")] * 30), 100)
    assert len(times) == 15


async def test_a_reconciler_says_when_to_try_again() -> None:
    assert await passes_after(Log(Retry(20), Retry(20)), 100) == [0, 20, 40]


async def test_an_overloaded_server_gets_the_time_it_asks_for() -> None:
    busy = TooManyRequests(429, "TooManyRequests", "later", {"retryAfterSeconds": 7})
    assert await passes_after(Log(busy), 100) == [0, 7]


async def test_a_terminal_error_waits_for_a_change() -> None:
    api, log = MemoryApi(), Log(TerminalError("it cannot be"))
    async with running(pod_controller(api, log), log):
        pod = api.put(make_pod())
        await asyncio.sleep(5000)
        assert len(log.passes) == 1
        api.change(pod, {"spec": {"nodeName": "n"}})
        await asyncio.sleep(1)
        assert len(log.passes) == 2


async def test_passes_run_side_by_side_but_never_two_of_one_key() -> None:
    api, log = MemoryApi(), Log()
    under_way: list[ObjectKey] = []
    most = 0

    async def reconcile(key: ObjectKey) -> None:
        nonlocal most
        assert key not in under_way
        under_way.append(key)
        most = max(most, len(under_way))
        await asyncio.sleep(10)
        under_way.remove(key)

    controller = Controller("pods", reconcile, sources=[For(follow(api, Pod))], concurrency=3)
    async with running(controller, log):
        pods = [api.put(make_pod(f"p{n}")) for n in range(5)]
        await asyncio.sleep(1)
        for pod in pods:
            api.change(pod, {"spec": {"nodeName": "n"}})
        await asyncio.sleep(100)
        assert most == 3
        assert under_way == []


async def test_it_waits_for_what_it_only_reads() -> None:
    api, log = MemoryApi(), Log()
    api.missing.add("Node")
    api.put(make_pod())
    nodes = follow(api, Node)
    controller = Controller("pods", log.reconcile, sources=[For(follow(api, Pod))], reads=[nodes])
    log.start()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(informer.run()) for informer in controller.informers]
        tasks.append(group.create_task(controller.run(log)))
        await asyncio.sleep(60)
        assert controller.is_parked
        assert log.passes == []
        api.missing.clear()
        await asyncio.sleep(60)
        assert not controller.is_parked
        assert log.keys == ["default/a"]
        for task in tasks:
            task.cancel()


def passes_counted(**labels: str) -> float:
    """Return how many passes of the controller `pods` were counted with these labels."""
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "pybrix_reconcile_total" and {"controller": "pods", **labels}.items() <= sample.labels.items()
    )


async def test_passes_are_counted_by_cause_and_by_result() -> None:
    results = ("success", "error", "conflict", "terminal", "requeue")
    causes = ("start", "Pod", "request", "requeue", "retry")
    before = {r: passes_counted(result=r) for r in results}, {c: passes_counted(cause=c) for c in causes}
    await passes_after(Log(RuntimeError("a fault"), Conflict(409, "Conflict", "newer"), Result(1), None), 10)
    got = {r: passes_counted(result=r) - was for r, was in before[0].items()}
    assert got == {"success": 1, "error": 1, "conflict": 1, "terminal": 0, "requeue": 1}
    got = {c: passes_counted(cause=c) - was for c, was in before[1].items()}
    assert got == {"start": 0, "Pod": 1, "request": 0, "requeue": 1, "retry": 2}


async def test_a_kind_that_is_optional_parks_nobody() -> None:
    api, log = MemoryApi(), Log()
    api.missing.add("Node")
    api.put(make_pod("a"))
    pods, nodes = Informer(api, Pod), Informer(api, Node)
    controller = Controller("pods", log.reconcile, sources=[For(pods)], reads=[nodes], optional=[nodes])
    tasks = [asyncio.create_task(work) for work in (pods.run(), nodes.run(), controller.run(log))]
    log.start()
    await asyncio.sleep(1)
    assert controller.is_running
    assert not controller.is_parked
    assert nodes.is_parked
    assert log.keys == ["default/a"]
    for task in tasks:
        task.cancel()
