"""The controller ends at any moment and begins anew: the end is always the same."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from pybrix.api.core import EndpointSlice, Service
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from tests.support.adapters import World

pytestmark = pytest.mark.looptime

LAST_CALL = 400
"""Crashes happen up to this call; a run without one makes more."""
CHUNKS = 20
CRASHES_A_CHUNK = 10
SETTLED_S = 120.0
"""Virtual seconds after the last change in which everything that can happen has happened."""


@dataclass
class Crash:
    """Ends the controller at its n-th call of the API or an engine; 0 never."""

    at: int
    calls: int = 0
    task: asyncio.Task[None] | None = None

    def count(self, _call: str) -> None:
        self.calls += 1
        if self.calls == self.at and self.task is not None:
            self.task.cancel()
            # Whoever is calling goes no further either.
            raise asyncio.CancelledError


async def change_everything(world: World) -> None:
    """Do in 25 seconds what happens to adapters in a year."""
    await asyncio.sleep(4)
    world.edit("all", artifactURL="huggingface://org/all-v2")
    world.edit("one", artifactURL="huggingface://org/one-v2")
    await asyncio.sleep(3)
    world.add_pod("d", owner="v2")
    world.terminate_pod("a")
    await asyncio.sleep(2)
    world.remove_pod("a")
    world.delete_adapter("doomed")
    await asyncio.sleep(3)
    world.restart_engine("b")
    world.edit("two", replicas=1)
    await asyncio.sleep(2)
    world.edit("moving", podSelector={"matchLabels": {"app": "other"}})
    world.edit("all", artifactURL="huggingface://org/all-v3")
    await asyncio.sleep(2)
    world.restart_engine("c", is_told=False)
    world.add_adapter("late")
    world.edit("all", artifactURL="huggingface://org/all-v2")


def make_world() -> World:
    world = World()
    for pod in "abc":
        world.add_pod(pod, owner="v1")
    world.add_pod("o", labels={"app": "other"})
    world.add_adapter("all")
    world.add_adapter("one", replicas=1)
    world.add_adapter("two", replicas=2)
    world.add_adapter("doomed")
    world.add_adapter("moving")
    return world


async def play(crash: Crash) -> World:
    world = make_world()
    world.api.before = world.api.after = world.engines.before = crash.count
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        changes = group.create_task(change_everything(world))
        crash.task = group.create_task(world.build(http).run())
        with suppress(asyncio.CancelledError):
            # Until it is ended, or long after everything is over.
            await asyncio.wait([crash.task], timeout=300)
            if crash.task.done():
                await asyncio.sleep(0.3)
        await changes
        first, crash.task = crash.task, None
        if first.done():
            again = group.create_task(world.build(http).run())
            await asyncio.sleep(SETTLED_S)
            again.cancel()
        first.cancel()
    world.api.before = world.api.after = world.engines.before = lambda _call: None
    await world.engines.finish()
    return world


def end_of(world: World) -> dict[str, Any]:
    """Return what must be the same after every course of events."""
    names = [adapter.metadata.name for adapter in world.api.all(ModelAdapter)]
    return {
        "adapters": sorted(names),
        "phases": {name: world.phase(name) for name in names},
        "everywhere": {name: world.ready(name) for name in ("all", "late", "moving")},
        "artifacts": {world.engine(pod).adapters.get("all") for pod in "bcd"},
        "one": [world.engine(pod).adapters.get("one") for pod in world.ready("one")],
        "counts": {name: len(world.ready(name)) for name in ("one", "two")},
        "services": sorted(service.metadata.name for service in world.api.all(Service)),
    }


WANT = {
    "adapters": ["all", "late", "moving", "one", "two"],
    "phases": dict.fromkeys(("all", "late", "moving", "one", "two"), "Running"),
    "everywhere": {"all": ["b", "c", "d"], "late": ["b", "c", "d"], "moving": ["o"]},
    "artifacts": {"org/all-v2"},
    "one": ["org/one-v2"],
    "counts": {"one": 1, "two": 1},
    "services": ["all", "late", "moving", "one", "two"],
}


def misplaced(world: World) -> list[str]:
    """Return adapters in engines that no slice lists, and endpoints without the adapter."""
    wrong = [
        f"{name} is loaded in {world.loaded(name)} and listed in {world.ready(name)}"
        for name in ("all", "one", "two", "doomed", "moving", "late")
        if world.loaded(name) != world.ready(name)
    ]
    listed = {e.target_ref.name for s in world.api.all(EndpointSlice) for e in s.endpoints if e.target_ref}
    return wrong + [f"{pod} is gone" for pod in listed if pod not in "bcdo"]


async def test_without_a_crash() -> None:
    crash = Crash(0)
    world = await play(crash)
    assert end_of(world) == WANT
    assert misplaced(world) == []
    assert crash.calls > LAST_CALL


@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_a_crash_at_any_call_changes_nothing_in_the_end(chunk: int) -> None:
    """200 different points, spread over the calls that are made while things change."""
    for index in range(CRASHES_A_CHUNK):
        at = 1 + (chunk + index * CHUNKS) * LAST_CALL // (CHUNKS * CRASHES_A_CHUNK)
        world = await play(Crash(at))
        assert (at, end_of(world)) == (at, WANT)
        assert (at, misplaced(world)) == (at, [])
