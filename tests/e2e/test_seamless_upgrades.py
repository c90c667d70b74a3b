"""Three gateways behind a balancer, a hundred requests a second, and everything replaced, killed or cut off beneath
them: no request fails, no stream is cut.

Each row runs for some seconds in the tests, and for two minutes in `make soak`.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgpack
import msgspec
import pytest
import pytest_asyncio

from pybrix.envoy.wire import FALLBACK_STRATEGY
from pybrix.local.control import Control
from pybrix.local.layout import Layout
from tests.support.driven import driven
from tests.support.installation import PYBRIX, Installation, eventually, run
from tests.support.partition import Partition
from tests.support.redisserver import RedisServer, running_redis

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

STATESYNC = "pybrix:statesync:all:"
"""What keys begin with by which gateways of all namespaces tell each other what they know."""
RATE_PER_S = 100
SOAK_S = 120
DRAIN_S = 3
"""Longer than the longest answer of the load; an Envoy that is replaced takes so long to go."""


@dataclass
class World:
    """An installation of three gateways that share a Redis."""

    installation: Installation
    redis: RedisServer

    @property
    def control(self) -> Control:
        return Control(Layout(self.installation.data_dir))

    async def replace(self, pattern: str) -> list[str]:
        """Replace, one after the other, every component whose name matches; return their names."""
        names = [each.name for each in await self.control.components() if re.fullmatch(pattern, each.name)]
        for name in names:
            await self.control.replace(name)
        return names

    async def has_gateways(self, count: int) -> bool:
        names = [each.name for each in await self.control.components()]
        return sum(name.startswith("brain") for name in names) == count


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_redis() as redis:
        it = Installation(tmp_path_factory.mktemp("up"))
        options = ("--simulate", "3", "--gateways", "3", "--redis", str(redis.socket), "--drain-timeout", str(DRAIN_S))
        started = await asyncio.to_thread(it.up, *options)
        try:
            assert started.returncode == 0, started.stdout + started.stderr
            yield World(it, redis)
        finally:
            stopped = await asyncio.to_thread(it.down)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr


row = pytest.mark.parametrize(
    "seconds", [pytest.param(20.0, id="short"), pytest.param(SOAK_S, id="long", marks=pytest.mark.soak)]
)
"""For some seconds, and as a soak test for two minutes."""


async def again(act: Callable[[], Awaitable[object]], seconds: float) -> int:
    """Do something at least once, and over and over until the time is over; return how often."""
    end_s = monotonic() + seconds
    for count in itertools.count(1):
        await act()
        if monotonic() > end_s:
            return count
    raise AssertionError


@row
async def test_all_brains_are_restarted(world: World, seconds: float) -> None:
    before = [world.installation.pid(name) for name in ("brain", "brain-2", "brain-3")]
    async with driven(world.installation) as load:
        await again(lambda: world.replace("brain.*"), seconds)
    load.assert_nothing_failed(at_least=int(seconds * RATE_PER_S * 0.5))
    after = [world.installation.pid(name) for name in ("brain", "brain-2", "brain-3")]
    assert not {*before} & {*after}


@row
async def test_all_envoys_are_restarted_and_the_balancer(world: World, seconds: float) -> None:
    names = ("envoy", "envoy-2", "envoy-3", "balancer")
    before = [world.installation.pid(name) for name in names]
    async with driven(world.installation) as load:
        await again(lambda: world.replace("envoy.*|balancer"), seconds)
    load.assert_nothing_failed(at_least=int(seconds * RATE_PER_S * 0.5))
    after = [world.installation.pid(name) for name in names]
    assert not {*before} & {*after}


@row
async def test_a_brain_is_killed_every_five_seconds(world: World, seconds: float) -> None:
    victims = itertools.cycle(("brain", "brain-2", "brain-3"))

    async def kill() -> None:
        world.installation.process(next(victims)).kill()
        await asyncio.sleep(5)  # the interval is the row's subject

    async with driven(world.installation) as load:
        await again(kill, seconds - 5)
    load.assert_nothing_failed(at_least=int(seconds * RATE_PER_S * 0.5))
    assert load.report["strategies"].get(FALLBACK_STRATEGY, 0) > 0, "no gap was covered by Envoy itself"


@row
async def test_redis_is_away_and_comes_back_empty(world: World, seconds: float) -> None:
    async def outage() -> None:
        await asyncio.sleep(2)
        await world.redis.stop()
        await asyncio.sleep(min(seconds, 20))  # the length of the outage is the row's subject
        await world.redis.start()
        await asyncio.sleep(2)

    async with driven(world.installation) as load:
        await again(outage, seconds)
    load.assert_nothing_failed(at_least=int(seconds * RATE_PER_S * 0.5))


@row
async def test_one_gateway_is_cut_off_from_redis(world: World, seconds: float) -> None:
    file = Layout(world.installation.data_dir).gateway(2).configuration
    original = file.read_text()
    async with Partition(world.redis.socket).running() as network:
        file.write_text(original.replace(str(world.redis.socket), f"127.0.0.1:{network.port}"))
        try:
            await world.control.replace("brain-2")
            async with driven(world.installation) as load:
                await asyncio.sleep(2)
                network.cut()
                await asyncio.sleep(seconds)  # the length of the outage is the row's subject
                network.mend()
                await asyncio.sleep(2)
        finally:
            file.write_text(original)
            network.mend()
            await world.control.replace("brain-2")
    load.assert_nothing_failed(at_least=int(seconds * RATE_PER_S * 0.5))


@row
async def test_gateways_are_scaled_to_one_and_back(world: World, seconds: float) -> None:
    async def scale() -> None:
        for count in (1, 3):
            await world.control.scale(count)
            assert await world.has_gateways(count)

    async with driven(world.installation) as load:
        await again(scale, seconds)
    load.assert_nothing_failed(at_least=int(seconds * RATE_PER_S * 0.5))


@row
async def test_engines_are_rolled_while_brains_and_envoys_are(world: World, seconds: float) -> None:
    async def roll() -> None:
        await world.installation.kubectl("rollout", "restart", "deployment/simulated")
        async with asyncio.TaskGroup() as group:
            group.create_task(world.replace("brain|envoy-2"))
            group.create_task(world.installation.kubectl("rollout", "status", "deployment/simulated", "--timeout=100s"))

    async with driven(world.installation) as load:
        await again(roll, seconds - 5)
        await eventually(lambda: _has_pods(world, 3), "the old pods are gone", timeout_s=60)
    load.assert_nothing_failed(at_least=int(seconds * RATE_PER_S * 0.5))
    assert len(load.report["pods"]) >= 6, "old and new pods were to serve"


@row
async def test_brains_are_restarted_among_gateways_of_other_releases(world: World, seconds: float) -> None:
    async with world.redis.client() as redis, asyncio.TaskGroup() as group:
        others = group.create_task(_speak(redis, await _pod_uids(world)))
        async with driven(world.installation) as load:
            await again(lambda: world.replace("brain.*"), seconds)

            async def are_understood() -> bool:
                seen = (await _statesync(world))["instances"]
                formats = {each["name"]: each["format"] for each in seen if each["state"] == "live"}
                return formats.get("first-release") == 1 and formats.get("next-release") == 2

            await eventually(are_understood, "gateways of other releases are counted")
            assert "not-for-us" not in {each["name"] for each in (await _statesync(world))["instances"]}
            assert (await _statesync(world))["refusedMessages"] > 0
        others.cancel()
    load.assert_nothing_failed(at_least=int(seconds * RATE_PER_S * 0.5))


async def _speak(redis: Any, uids: list[str]) -> None:
    """Say what gateways of other releases say: less than ours, more than ours, and what ours cannot understand.

    Those that ours understand leave snapshots, too: a brain that starts late finds the first messages cut off.
    """
    endpoints = [[uid, 8000] for uid in uids]
    for number in itertools.count(1):
        head = {"n": 1, "s": number, "e": endpoints}
        first = {**head, "i": "first-release", "l": [[0, [2, 20, 20, 8]]]}
        following = {**head, "i": "next-release", "v": 2, "l": [[1, [1, 10, 10, 4, 77, 78]]], "zz": {"new": [1, 2]}}
        if number % 10 == 1:
            for said in (first, following):
                parts = [msgpack.packb({**said, "f": "ltrmu"}), msgpack.packb({**said, "l": []})]
                await redis.set(f"{STATESYNC}snapshot:{said['i']}", msgpack.packb(parts), px=900_000)
                said["w"] = number
        messages = [
            msgpack.packb(first),
            msgpack.packb(following),
            msgpack.packb({**head, "i": "not-for-us", "v": 9, "c": 9, "l": [[0, [9, 9, 9, 9]]]}),
            b"\xc1 no message at all",
        ]
        for message in messages:
            await redis.xadd(f"{STATESYNC}messages", {b"d": message}, maxlen=1024, approximate=True)
        await asyncio.sleep(0.1)


async def _statesync(world: World) -> dict[str, Any]:
    """Return what the first gateway knows of the others."""
    shown = await run(*PYBRIX, "gateway", "status", "--data-dir", str(world.installation.data_dir), "-o", "json")
    document: dict[str, Any] = msgspec.json.decode(shown.checked())["statesync"]
    return document


async def _pod_uids(world: World) -> list[str]:
    pods = await world.installation.get_json("pods", "-l", "model.aibrix.ai/name=simulated")
    return [str(pod["metadata"]["uid"]) for pod in pods["items"]]


async def _has_pods(world: World, count: int) -> bool:
    pods = await world.installation.get_json("pods", "-l", "model.aibrix.ai/name=simulated")
    return len(pods["items"]) == count
