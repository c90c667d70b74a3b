"""How a changed, bad or foreign artifact gets into engines, or does not."""

from __future__ import annotations

import asyncio

import pytest

from pybrix.api.meta import find_condition
from tests.support.adapters import LONG_S, World, world_of

pytestmark = pytest.mark.looptime


async def test_a_changed_artifact_rolls_one_pod_at_a_time() -> None:
    """AIBrix: a changed artifactURL does nothing for what is loaded."""
    world = world_of("a", "b", "c")
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.edit(artifactURL="huggingface://org/sql-v2")
        fewest = 3
        for _ in range(600):
            await asyncio.sleep(0.1)
            fewest = min(fewest, len(world.ready()))
        assert fewest == 2
        assert {world.engine(p).adapters["sql"] for p in "abc"} == {"org/sql-v2"}
        assert world.ready() == ["a", "b", "c"]
        assert world.watcher.wrong == []
        assert ("Normal", "Reloading") in world.events()


async def test_a_changed_artifact_of_a_single_copy_moves_to_a_free_pod_first() -> None:
    world = world_of("a", "b", replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        (first,) = world.ready()
        world.edit(artifactURL="huggingface://org/sql-v2")
        await asyncio.sleep(LONG_S)
        (second,) = world.ready()
        assert second != first
        assert world.engine(second).adapters["sql"] == "org/sql-v2"
        assert world.loaded() == [second]
        assert world.watcher.wrong == []


async def test_a_changed_artifact_of_the_only_pod_is_reloaded_in_place() -> None:
    world = world_of("a")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.edit(artifactURL="huggingface://org/sql-v2")
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        assert world.engine("a").adapters["sql"] == "org/sql-v2"


async def test_a_bad_artifact_takes_one_pod_and_no_more() -> None:
    world = world_of("a", "b", "c")
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        for pod in "abc":
            world.engine(pod).refuses["sql"] = "no such repository"
        world.edit(artifactURL="huggingface://org/typo")
        await asyncio.sleep(600)
        assert len(world.ready()) == 2
        assert world.watcher.wrong == []
        failed = [record for record in world.adapter().status.pods if record.state == "Failed"]
        assert [(record.reason, record.message) for record in failed] == [("AdapterRefused", "no such repository")]
        for pod in "abc":
            world.engine(pod).refuses.clear()
        world.edit(artifactURL="huggingface://org/sql-v3")
        await asyncio.sleep(60)
        assert {world.engine(p).adapters["sql"] for p in "abc"} == {"org/sql-v3"}
        assert world.ready() == ["a", "b", "c"]


async def test_a_bad_artifact_does_not_destroy_a_single_copy_that_serves() -> None:
    world = world_of("a", "b", replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        (first,) = world.ready()
        for pod in "ab":
            world.engine(pod).refuses["sql"] = "no such repository"
        world.edit(artifactURL="huggingface://org/typo")
        await asyncio.sleep(3600)
        assert world.ready() == [first]
        assert world.engine(first).adapters["sql"] == "org/sql"
        assert world.watcher.wrong == []


@pytest.mark.parametrize("is_told", [True, False], ids=["the kubelet says so", "only the list shows it"])
async def test_an_engine_that_restarted_gets_its_adapter_back(is_told: bool) -> None:
    """AIBrix: noticed every 10 s, and meanwhile Ready with the endpoint listed."""
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.restart_engine("a", is_told=is_told)
        await asyncio.sleep(0.3 if is_told else 15)
        if is_told:
            assert world.ready() == ["b"]
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a", "b"]
        assert world.engine("a").adapters == {"sql": "org/sql"}
        assert ("Warning", "ModelAdapterLost") in world.events()


async def test_failing_pods_are_retried_with_growing_pauses() -> None:
    """AIBrix: the counts are never persisted, so it tries every 10 s for ever."""
    world = world_of("a")
    world.engine("a").refuses["sql"] = "bad adapter"
    async with world.running():
        await asyncio.sleep(3600)
        assert world.phase() == "Failed"
        assert world.condition("Ready") == ("False", "ModelAdapterLoadingError")
        assert world.condition("Bound") == ("False", "ModelAdapterLoadingError")
        condition = find_condition(world.adapter().status.conditions, "Ready")
        assert condition is not None
        assert condition.message == "Loading failed on all pods: a: AdapterRefused: bad adapter"
        (record,) = world.adapter().status.pods
        # 1 + 2 + ... + 256, then every 300 s.
        assert 17 <= record.attempts <= 21
        attempts = record.attempts
    async with world.running():
        # Another process goes on where this one stopped.
        await asyncio.sleep(700)
        (record,) = world.adapter().status.pods
        assert attempts + 1 <= record.attempts <= attempts + 4
        world.engine("a").refuses.clear()
        await asyncio.sleep(400)
        assert world.ready() == ["a"]
        assert world.condition("Bound") == ("True", "StableInstanceFound")
        assert ("Normal", "ModelAdapterLoaded") in world.events()


async def test_a_retry_does_not_change_what_the_status_says() -> None:
    world = world_of("a")
    world.engine("a").refuses["sql"] = "bad adapter"
    async with world.running():
        await asyncio.sleep(1)
        phases, messages, states = set(), set(), set()
        for _ in range(400):
            await asyncio.sleep(0.1)
            status = world.adapter().status
            phases.add(status.phase)
            messages |= {c.message for c in status.conditions if c.type == "Ready"}
            states |= set(world.states().values())
        assert phases == {"Failed"}
        assert messages == {"Loading failed on all pods: a: AdapterRefused: bad adapter"}
        assert states == {"Failed", "Reloading"}


async def test_another_pod_is_taken_when_one_keeps_failing() -> None:
    world = world_of("a", "b", "c", replicas=1)
    for pod in "abc":
        world.engine(pod).load_s = 0.1
    async with world.running():
        await asyncio.sleep(0.05)
        (first,) = world.states()
        world.engine(first).refuses["sql"] = "broken here"
        await asyncio.sleep(60)
        (second,) = world.ready()
        assert second != first
        assert world.loaded() == [second]
        await asyncio.sleep(3600)
        assert world.ready() == [second]


async def test_an_engine_that_hangs_holds_up_nobody() -> None:
    """AIBrix: one dead pod blocks the single worker 30 s a call (#700)."""
    world = World()
    world.add_pod("hung", labels={"app": "hung"})
    world.add_pod("a")
    world.engine("hung").hangs = True
    for number in range(20):
        world.add_adapter(f"stuck-{number}", podSelector={"matchLabels": {"app": "hung"}})
    async with world.running():
        await asyncio.sleep(5)
        world.add_adapter("sql")
        await asyncio.sleep(2)
        assert world.ready() == ["a"]


async def test_what_others_loaded_is_neither_counted_nor_unloaded() -> None:
    world = world_of("a")
    world.engine("a").adapters["sql"] = "/somebody/elses"
    world.engine("a").adapters["other"] = "/somebody/elses"
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.phase() == "Failed"
        world.delete_adapter()
        await asyncio.sleep(5)
        assert world.engine("a").adapters == {"sql": "/somebody/elses", "other": "/somebody/elses"}


async def test_what_is_loaded_from_the_same_artifact_is_taken_over() -> None:
    world = world_of("a")
    world.engine("a").adapters["sql"] = "org/sql"
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        assert world.engine("a").num_loads == 0


async def test_adapters_of_aibrix_are_taken_over_and_made_sure_of() -> None:
    world = World()
    for pod in "ab":
        world.add_pod(pod, sidecar=True)
        # A sidecar's paths do not tell the artifact.
        world.engine(pod).adapters["sql"] = "/tmp/aibrix/adapters/sql"
    adapter = world.add_adapter()
    world.api.change(adapter, {"status": {"phase": "Running", "instances": ["a", "b"], "readyReplicas": 2}})
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(0.5)
        assert world.ready() != []
        await asyncio.sleep(60)
        assert world.ready() == ["a", "b"]
        assert {world.engine(p).num_loads for p in "ab"} == {1}
        assert world.watcher.wrong == []
