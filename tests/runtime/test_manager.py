"""The manager: everything starts, waits and ends in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pybrix.api.apps import ReplicaSet
from pybrix.api.core import Lease, Node, Pod
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import ObjectMeta
from pybrix.kube.informer import Informer
from pybrix.runtime.actions import Create, Delete, Plan
from pybrix.runtime.controller import Controller, For, Owns
from pybrix.runtime.leader import LeaderConfig
from pybrix.runtime.manager import Manager
from tests.support.bare_pods import make_pod
from tests.support.clocks import LoopClock
from tests.support.memoryapi import MemoryApi

pytestmark = pytest.mark.looptime


def make_manager(api: MemoryApi, name: str = "", *, grace_s: float = 10.0) -> Manager:
    leader = LeaderConfig(ObjectKey("default", "lease"), name) if name else None
    chance = random.Random(name)
    return Manager(api, component="test", clock=LoopClock(), chance=chance, leader=leader, grace_s=grace_s)


def add_replicas(manager: Manager) -> None:
    """Add a small ReplicaSet controller whose pods have generated names."""
    sets, pods = manager.informer(ReplicaSet), manager.informer(Pod)
    pods.add_index("owner", lambda pod: [pod.metadata.controller.uid] if pod.metadata.controller else [])
    expectations = manager.expectations(Pod)

    async def reconcile(key: ObjectKey) -> Plan | None:
        owner = sets.get(key)
        if owner is None or not expectations.is_settled(owner.uid):
            return None
        have, want = pods.by_index("owner", owner.uid), owner.spec.replicas or 0
        why = f"{len(have)}/{want} pods exist"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": f"{owner.metadata.name}-"}}
        create = [Create(pod, why, owner=owner)] * (want - len(have))
        delete = [Delete(Pod, p.key, p.uid, why, owner=owner) for p in have[want:]]
        return Plan((*create, *delete))

    manager.add(Controller("replicas", reconcile, sources=[For(sets), Owns(pods, ReplicaSet)], concurrency=2))


@asynccontextmanager
async def running(*managers: Manager) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(manager.run()) for manager in managers]
    await asyncio.sleep(5)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_controller_converges_and_never_overshoots() -> None:
    api = MemoryApi()
    manager = make_manager(api)
    add_replicas(manager)
    async with running(manager):
        web = api.put(ReplicaSet.from_dict({"metadata": {"name": "web", "namespace": "a"}, "spec": {"replicas": 7}}))
        twin = api.put(ReplicaSet.from_dict({"metadata": {"name": "web", "namespace": "b"}, "spec": {"replicas": 2}}))
        await asyncio.sleep(5)
        owners = [p.metadata.controller.uid for p in api.all(Pod) if p.metadata.controller]
        assert (owners.count(web.uid), owners.count(twin.uid)) == (7, 2)
        api.remove(api.all(Pod)[0])
        api.change(twin, {"spec": {"replicas": 1}})
        await asyncio.sleep(5)
        assert sorted(p.metadata.namespace for p in api.all(Pod)) == ["a"] * 7 + ["b"]
        assert api.calls.count("create") == 10
        assert api.calls.count("delete") == 1


async def test_informers_are_shared_per_kind_and_selection() -> None:
    manager = make_manager(MemoryApi())
    assert manager.informer(Pod) is manager.informer(Pod)
    assert manager.informer(Pod) is not manager.informer(Pod, label_selector="a=b")
    assert manager.informer(Pod) is not manager.informer(Pod, namespace="a")


async def test_a_foreign_informer_is_refused() -> None:
    api = MemoryApi()
    manager = make_manager(api)

    async def reconcile(key: ObjectKey) -> None: ...

    with pytest.raises(ValueError, match="the informer of Pod is not the manager's"):
        manager.add(Controller("pods", reconcile, sources=[For(Informer(api, Pod))]))


async def test_an_informer_asked_for_later_follows_too() -> None:
    api = MemoryApi()
    api.put(make_pod())
    manager = make_manager(api)
    async with running(manager):
        pods = manager.informer(Pod)
        await pods.wait_synced()
        assert len(pods.list()) == 1


async def test_a_missing_kind_parks_only_its_controller() -> None:
    api = MemoryApi()
    api.missing.add("Node")
    manager = make_manager(api)
    add_replicas(manager)
    seen: list[ObjectKey] = []

    async def reconcile(key: ObjectKey) -> None:
        seen.append(key)

    manager.add(Controller("nodes", reconcile, sources=[For(manager.informer(Node))]))
    assert not manager.is_healthy
    async with running(manager):
        api.put(ReplicaSet.from_dict({"metadata": {"name": "web", "namespace": "a"}, "spec": {"replicas": 1}}))
        await asyncio.sleep(5)
        assert len(api.all(Pod)) == 1
        assert manager.is_ready
        assert manager.describe()["controllers"] == {"replicas": "running", "nodes": "parked"}
        api.missing.clear()
        api.put(Node(metadata=ObjectMeta(name="n")))
        await asyncio.sleep(30)
        assert seen == [ObjectKey("", "n")]
        assert manager.describe()["controllers"] == {"replicas": "running", "nodes": "running"}
    assert not manager.is_healthy


async def test_it_is_not_ready_before_its_caches_are() -> None:
    api = MemoryApi()
    api.is_down = True
    manager = make_manager(api)
    add_replicas(manager)
    async with running(manager):
        assert manager.is_healthy
        assert not manager.is_ready
        api.is_down = False
        await asyncio.sleep(30)
        assert manager.is_ready
        age_s = manager.describe()["informers"]["pods"]["age_s"]
        assert 0 <= age_s <= 30


async def test_stopping_lets_a_pass_finish_and_begins_no_other() -> None:
    api = MemoryApi()
    manager = make_manager(api)
    log: list[str] = []

    async def reconcile(key: ObjectKey) -> None:
        log.append(f"begin {key.name}")
        await asyncio.sleep(8)
        log.append(f"end {key.name}")

    manager.add(Controller("pods", reconcile, sources=[For(manager.informer(Pod))]))
    api.put(make_pod("a"))
    api.put(make_pod("b"))
    task = asyncio.create_task(manager.run())
    await asyncio.sleep(5)
    manager.stop()
    await asyncio.wait_for(task, 10)
    assert log == ["begin a", "end a"]
    assert api.watch_count == 0


async def test_stopping_does_not_wait_for_a_pass_that_never_ends() -> None:
    api = MemoryApi()
    manager = make_manager(api, grace_s=3)

    async def reconcile(key: ObjectKey) -> None:
        await asyncio.Event().wait()

    manager.add(Controller("pods", reconcile, sources=[For(manager.informer(Pod))]))
    api.put(make_pod("a"))
    task = asyncio.create_task(manager.run())
    await asyncio.sleep(5)
    manager.stop()
    await asyncio.wait_for(task, 4)


async def test_of_two_only_the_leader_works_and_the_other_is_ready_to() -> None:
    api = MemoryApi()
    first, second = make_manager(api, "first"), make_manager(api, "second")
    add_replicas(first)
    add_replicas(second)
    task = asyncio.create_task(first.run())
    await asyncio.sleep(5)
    async with running(second):
        assert (first.is_leader, second.is_leader) == (True, False)
        assert second.is_ready
        web = api.put(ReplicaSet.from_dict({"metadata": {"name": "web", "namespace": "a"}, "spec": {"replicas": 3}}))
        await asyncio.sleep(5)
        assert len(api.all(Pod)) == 3
        first.stop()
        await asyncio.wait_for(task, 5)
        assert api.all(Lease)[0].spec.holder_identity is None, "the lease is given back after the last pass"
        api.change(web, {"spec": {"replicas": 5}})
        await asyncio.sleep(5)
        assert second.is_leader
        assert len(api.all(Pod)) == 5


async def test_a_standby_that_is_stopped_ends() -> None:
    api = MemoryApi()
    first, second = make_manager(api, "first"), make_manager(api, "second")
    async with running(first):
        task = asyncio.create_task(second.run())
        await asyncio.sleep(5)
        second.stop()
        await asyncio.wait_for(task, 5)
        assert first.is_leader


async def test_losing_the_lead_and_winning_it_again_starts_from_everything_there_is() -> None:
    api = MemoryApi()
    manager = make_manager(api, "only")
    add_replicas(manager)
    async with running(manager):
        lease = api.all(Lease)[0]
        api.change(lease, {"spec": {"holderIdentity": "usurper"}})
        await asyncio.sleep(3)
        assert not manager.is_leader
        api.put(ReplicaSet.from_dict({"metadata": {"name": "web", "namespace": "a"}, "spec": {"replicas": 3}}))
        await asyncio.sleep(5)
        assert api.all(Pod) == []
        await asyncio.sleep(30)
        assert manager.is_leader
        assert len(api.all(Pod)) == 3


async def test_background_work_runs_while_leading_and_begins_again_after_a_failure() -> None:
    api = MemoryApi()
    begun: list[str] = []
    first, second = make_manager(api, "first"), make_manager(api, "second")

    def add_loop(manager: Manager, name: str) -> None:
        async def work() -> None:
            begun.append(name)
            if begun == ["first"]:
                raise ValueError("once")
            await asyncio.Event().wait()

        manager.add_loop("work", work)
        with pytest.raises(ValueError, match="there is a loop 'work' already"):
            manager.add_loop("work", work)

    add_loop(first, "first")
    add_loop(second, "second")
    async with running(first):
        await asyncio.sleep(10)
        assert begun == ["first", "first"]
        async with running(second):
            assert begun == ["first", "first"]
            first.stop()
            await asyncio.sleep(10)
            assert begun == ["first", "first", "second"]
