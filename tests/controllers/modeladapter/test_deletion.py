"""How an adapter leaves."""

from __future__ import annotations

import asyncio

import pytest

from pybrix.api.core import EndpointSlice, Event
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from tests.support.adapters import LONG_S, World, world_of

pytestmark = pytest.mark.looptime


async def test_deletion_unloads_everywhere_and_lets_go() -> None:
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.delete_adapter()
        await asyncio.sleep(2)
        assert world.loaded() == []
        assert world.api.all(ModelAdapter) == []
        assert world.api.all(EndpointSlice) == []


async def test_deletion_unloads_from_pods_that_are_not_listed_as_instances() -> None:
    """AIBrix: only status.instances are unloaded; a pod that was briefly not Ready keeps the adapter."""
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.set_ready("a", False)
        await asyncio.sleep(5)
        world.delete_adapter()
        await asyncio.sleep(2)
        assert world.loaded() == []


async def test_a_dead_pod_delays_a_deletion_no_longer_than_the_deadline() -> None:
    """AIBrix: 30 s for each unreachable pod in turn (#237)."""
    world = world_of("a", "b", "c", "d")
    async with world.running():
        await asyncio.sleep(LONG_S)
        for pod in "abc":
            world.engine(pod).hangs = True
        world.delete_adapter()
        await asyncio.sleep(25)
        assert world.loaded() == ["a", "b", "c"]
        assert len(world.api.all(ModelAdapter)) == 1
        await asyncio.sleep(7)
        assert world.api.all(ModelAdapter) == []
        assert ("Warning", "UnloadIncomplete") in world.events()


async def test_deletion_does_not_wait_for_pods_that_are_gone() -> None:
    world = world_of("a")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.engine("a").hangs = True
        world.delete_adapter()
        await asyncio.sleep(1)
        assert len(world.api.all(ModelAdapter)) == 1
        world.remove_pod("a")
        await asyncio.sleep(1)
        assert world.api.all(ModelAdapter) == []


async def test_an_adapter_deleted_while_it_loads_is_not_left_behind() -> None:
    world = world_of("a")
    world.engine("a").load_s = 5
    async with world.running():
        await asyncio.sleep(1)
        world.delete_adapter()
        await asyncio.sleep(20)
        assert world.loaded() == []
        assert world.api.all(ModelAdapter) == []


async def test_an_unload_that_the_engine_refuses_is_told_with_its_words() -> None:
    world = World()
    world.add_pod("a")
    world.add_adapter(additionalConfig={"api-key": "one"})
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.engine("a").wants_key = "other"
        world.delete_adapter()
        await asyncio.sleep(40)
        assert world.api.all(ModelAdapter) == []
        (told,) = [event.message for event in world.api.all(Event) if event.reason == "UnloadIncomplete"]
        assert told == "not unloaded from a: AdapterRefused: Unauthorized"
