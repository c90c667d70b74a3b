"""Which pods an adapter moves to, and when."""

from __future__ import annotations

import asyncio

import pytest

from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.engine.page import Average, EnginePage
from tests.support.adapters import LONG_S, World, world_of

pytestmark = pytest.mark.looptime


async def test_match_expressions_count() -> None:
    """AIBrix: only matchLabels are used."""
    world = World()
    world.add_pod("a", labels={"app": "llama", "tier": "gold"})
    world.add_pod("b", labels={"app": "llama", "tier": "lead"})
    selector = {
        "matchLabels": {"app": "llama"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}],
    }
    world.add_adapter(podSelector=selector)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.loaded() == ["a"]


async def test_a_pod_that_loses_its_label_is_unloaded() -> None:
    """AIBrix: such a pod makes no event, and nothing ever unloads a deselected pod."""
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.api.change(world.pod("a"), {"metadata": {"labels": {"app": "other"}}})
        await asyncio.sleep(0.5)
        assert world.ready() == ["b"]
        assert world.loaded() == ["a", "b"]
        await asyncio.sleep(LONG_S)
        assert world.loaded() == ["b"]
        assert world.adapter().status.instances == ["b"]


async def test_a_changed_selector_moves_the_adapter_make_before_break() -> None:
    world = World()
    world.add_pod("a", labels={"app": "llama"})
    world.add_pod("b", labels={"app": "next"})
    world.add_adapter(replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.edit(podSelector={"matchLabels": {"app": "next"}})
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["b"]
        assert world.loaded() == ["b"]
        assert world.watcher.wrong == []


async def test_a_rolling_upgrade_never_leaves_the_slice_empty() -> None:
    """AIBrix: picks old pods, keeps dead addresses, and takes rounds of migration."""
    world = World()
    for number in range(5):
        world.add_pod(f"old-{number}", owner="v1")
    world.add_adapter("all")
    world.add_adapter("one", replicas=1)
    world.add_adapter("two", replicas=2)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        for number in range(5):
            world.add_pod(f"new-{number}", owner="v2")
            await asyncio.sleep(3)
            world.terminate_pod(f"old-{number}")
            await asyncio.sleep(3)
            world.remove_pod(f"old-{number}")
        await asyncio.sleep(LONG_S)
        assert world.watcher.wrong == []
        assert len(world.ready("all")) == 5
        assert len(world.ready("one")) == 1
        assert len(world.ready("two")) == 2
        for name in ("one", "two"):
            assert world.loaded(name) == world.ready(name)


async def test_a_new_generation_takes_over_once_and_for_all() -> None:
    world = World()
    for number in range(3):
        world.add_pod(f"old-{number}", owner="v1")
    world.add_adapter("one", replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.add_pod("new-0", owner="v2")
        await asyncio.sleep(1)
        assert set(world.ready("one")) >= {"new-0"}
        await asyncio.sleep(LONG_S)
        assert world.ready("one") == ["new-0"]
        world.add_pod("new-1", owner="v2")
        world.add_pod("old-3", owner="v1")
        await asyncio.sleep(LONG_S)
        assert world.ready("one") == ["new-0"]
        assert world.loaded("one") == ["new-0"]
        assert world.watcher.wrong == []


async def test_fewer_replicas_keep_those_that_serve() -> None:
    world = world_of("a", "b", "c", replicas=3)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.edit(replicas=1)
        await asyncio.sleep(0.5)
        assert world.condition("Scheduled") == ("True", "Scaled")
        assert world.phase() == "Scaled"
        await asyncio.sleep(LONG_S)
        assert len(world.ready()) == 1
        assert world.loaded() == world.ready()
        assert world.phase() == "Running"
        world.edit(replicas=2)
        await asyncio.sleep(LONG_S)
        assert len(world.ready()) == 2
        assert world.watcher.wrong == []


async def test_pods_are_not_filled_beyond_what_they_take() -> None:
    world = World()
    for pod in "ab":
        world.add_pod(pod, args=("serve", "m", "--enable-lora", "--max-loras", "2"))
    for number in range(5):
        world.add_adapter(f"x{number}", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert [len(world.engine(p).adapters) for p in "ab"] == [2, 2]
        (left,) = [a.metadata.name for a in world.api.all(ModelAdapter) if a.status.phase != "Running"]
        assert world.condition("Scheduled", left) == ("False", "ModelAdapterUnavailable")
        gone = "x0" if left != "x0" else "x1"
        world.delete_adapter(gone)
        await asyncio.sleep(LONG_S)
        assert world.phase(left) == "Running"


@pytest.mark.parametrize("policy", ["leastLatency", "leastThroughput"])
async def test_metrics_decide_where_the_policy_says_so(policy: str) -> None:
    """AIBrix: a pod that its metrics cache lacks fails the pass (#239)."""
    world = World()
    for number, pod in enumerate(("busy", "idle")):
        world.add_pod(pod)
        busy = 1.0 - number
        page = EnginePage(
            e2e=Average(9.0 * busy + 1, 1), prompt_tokens=9e5 * busy, generation_tokens=1.0, started_s=0.0
        )
        world.engine(pod).page = page
    for number in range(3):
        world.add_adapter(f"x{number}", replicas=1, schedulerName=policy)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert sorted(world.engine("idle").adapters) == ["x0", "x1", "x2"]
        # Without a page of each pod the number of adapters decides, and an Event says so.
        world.add_pod("mute")
        world.add_adapter("x3", replicas=1, schedulerName=policy)
        await asyncio.sleep(LONG_S)
        assert "x3" not in world.engine("idle").adapters
        assert world.events().count(("Normal", "PolicyFallback")) == 1


async def test_adapters_spread_and_stay() -> None:
    world = World()
    for pod in "abcd":
        world.add_pod(pod)
    for number in range(20):
        world.add_adapter(f"x{number}", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert [len(world.engine(p).adapters) for p in "abcd"] == [5, 5, 5, 5]
        world.add_pod("e")
        world.api.forget_writes()
        await asyncio.sleep(600)
        assert world.engine("e").adapters == {}


async def test_a_pod_recreated_under_its_name_is_another_pod() -> None:
    world = World()
    world.add_pod("web-0")
    world.add_adapter()
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        first = world.pod("web-0").uid
        world.remove_pod("web-0")
        second = world.add_pod("web-0").uid
        assert first != second
        await asyncio.sleep(2)
        (piece,) = world.slices()
        assert [e.target_ref.uid for e in piece.endpoints if e.target_ref] == [second]
        assert [w for w in world.watcher.wrong if "gone" in w] == []


async def test_only_a_smaller_number_in_the_spec_is_scaling() -> None:
    world = world_of("a", "b", "c")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.remove_pod("c")
        await asyncio.sleep(LONG_S)
        assert world.adapter().status.desired_replicas == 2
        assert "Scaled" not in [reason for _, reason in world.events()]
        world.edit(replicas=1)
        await asyncio.sleep(LONG_S)
        assert len(world.ready()) == 1
        assert ("Normal", "Scaled") in world.events()
