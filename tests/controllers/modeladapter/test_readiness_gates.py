"""Pods that wait for their adapters."""

from __future__ import annotations

import asyncio

import pytest

from pybrix.api.meta import find_condition
from tests.support.adapters import LONG_S, World

pytestmark = pytest.mark.looptime


async def test_a_readiness_gate_opens_when_the_adapters_are_loaded() -> None:
    world = World()
    world.add_pod("old", owner="v1")
    world.add_adapter("all")
    world.add_adapter("one", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.add_pod("new", owner="v2", ready=False, containers_ready=True, gate=True)
        world.engine("new").load_s = 3
        await asyncio.sleep(2)
        assert gate_of(world, "new") == ("False", "Loading")
        await asyncio.sleep(5)
        assert gate_of(world, "new") == ("True", "AllLoaded")
        assert sorted(world.engine("new").adapters) == ["all", "one"]
        assert "new" not in world.endpoints("all")
        world.set_ready("new", True)
        await asyncio.sleep(0.5)
        assert world.ready("all") == ["new", "old"]


async def test_a_readiness_gate_opens_for_a_pod_that_no_adapter_wants() -> None:
    world = World()
    world.add_pod("lone", ready=False, containers_ready=True, gate=True, labels={"app": "llama"})
    world.add_adapter("sql", podSelector={"matchLabels": {"app": "other"}})
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert gate_of(world, "lone") == ("True", "AllLoaded")


async def test_a_readiness_gate_is_no_hostage_of_a_broken_adapter() -> None:
    world = World()
    world.add_pod("a", ready=False, containers_ready=True, gate=True)
    world.engine("a").refuses["sql"] = "broken"
    world.add_adapter()
    async with world.running():
        await asyncio.sleep(60)
        assert gate_of(world, "a") == ("True", "LoadingFailed")


def gate_of(world: World, pod: str) -> tuple[str, str]:
    found = find_condition(world.pod(pod).status.conditions, "adapter.model.aibrix.ai/loaded")
    return (found.status, found.reason) if found is not None else ("", "")
