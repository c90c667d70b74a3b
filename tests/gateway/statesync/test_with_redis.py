"""Whole brains share one view through a real Redis, which is stopped, emptied and partitioned."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from pybrix.api.config import GatewayConfiguration, RedisConfiguration, StateSyncConfiguration
from pybrix.cli.gateway import gateway
from tests.support.brains import BrainAddress, running_brain
from tests.support.gateway import make_pod
from tests.support.partition import Partition
from tests.support.podapi import PodApi
from tests.support.redisserver import running_redis
from tests.support.waiting import until

PODS = ("a", "b", "c")
BRIEF: dict[str, Any] = {"reservation_renewal_s": 0.5}
"""Requests that are not heard of are given up soon."""


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pb") as path:
        yield Path(path)


def make_api() -> PodApi:
    return PodApi(*(make_pod(name, ip=f"127.64.0.{at}") for at, name in enumerate(PODS, 1)))


@asynccontextmanager
async def gateways(
    place: Path, names: Sequence[str], *, redis: Sequence[RedisConfiguration] = (), peers_dir: str = "", **options: Any
) -> AsyncIterator[list[BrainAddress]]:
    """Run a brain for each name; the first answer of Redis is waited for by each at its start."""
    api = make_api()
    async with AsyncExitStack() as stack:
        found = []
        for at, name in enumerate(names):
            config = GatewayConfiguration(
                routing_strategy="least-request",
                redis=redis[at] if redis else RedisConfiguration(),
                statesync=StateSyncConfiguration(instance=name, peers_dir=peers_dir, interval_ms=50),
                limits=msgspec.structs.replace(GatewayConfiguration().limits, is_enabled=False),
                **options,
            )
            address = BrainAddress(place / f"{name}-run", place / f"{name}-data")
            found.append(await stack.enter_async_context(running_brain(address, api, config)))
        yield found


async def loads(brain: BrainAddress) -> dict[str, int]:
    """Return the requests in flight that a brain sees, by pod."""
    _, document = await brain.admin("/debug/view")
    return {each["pod"]: each["requestsInFlight"] for each in document["models"][0]["endpoints"]}


async def sync(brain: BrainAddress) -> dict[str, Any]:
    _, document = await brain.admin("/debug/view")
    found: dict[str, Any] = document["statesync"]
    return found


async def agree(brains: Sequence[BrainAddress], total: int) -> None:
    """Wait until all brains see the same requests in flight, so many in all."""

    async def do() -> bool:
        seen = [await loads(each) for each in brains]
        return all(each == seen[0] for each in seen) and sum(seen[0].values()) == total

    await until(do)


async def end(brain: BrainAddress, reservations: Sequence[str]) -> None:
    await brain.log(
        *({"reservation": each, "type": "DownstreamEnd", "status": 200, "duration_ms": 500} for each in reservations)
    )


async def begin(brain: BrainAddress, count: int) -> list[str]:
    return [(await brain.decide())[1]["x-pybrix-reservation"] for _ in range(count)]


async def test_three_brains_come_to_one_view_and_spread_requests_as_one(place: Path) -> None:
    async with running_redis() as redis, gateways(place, ("g1", "g2", "g3"), redis=[redis.config] * 3) as brains:
        held = []
        for each in brains:
            held.append((each, await begin(each, 4)))
            await agree(brains, 4 * len(held))
        # Every request went to the pod that had the fewest of all three brains' requests.
        assert sorted((await loads(brains[0])).values()) == [4, 4, 4]
        document = await sync(brains[0])
        assert (document["transport"], document["problem"]) == ("redis", None)
        assert [(each["name"], each["state"], each["requestsInFlight"]) for each in document["instances"]] == [
            ("g2", "live", 4),
            ("g3", "live", 4),
        ]
        shown = await asyncio.to_thread(CliRunner().invoke, gateway, ["status", "--run-dir", str(brains[0].run_dir)])
        lines = shown.output.splitlines()
        assert any(line.startswith("gateways, through Redis: ") for line in lines)
        rows = [line.split() for line in lines if line.startswith("  g")]
        assert [row[0] for row in rows] == ["g1", "g2", "g3"]
        assert [row[1] for row in rows[1:]] == ["live", "live"]
        assert sum("4 in flight, " in line and "by other gateways" in line for line in lines) == 3
        # What a brain says to Prometheus is its own: whoever adds up counts each request once.
        _, metrics = await brains[1].admin("/metrics")
        series = "pybrix_gateway_endpoint_requests_in_flight{"
        told = [float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(series)]
        assert sum(told) == 4
        assert "pybrix_gateway_statesync_peers 2.0" in metrics
        for each, reservations in held:
            await end(each, reservations)
        await agree(brains, 0)


async def test_a_brain_that_joins_begins_with_what_the_others_know(place: Path) -> None:
    async with running_redis() as redis, gateways(place, ("g1", "g2"), redis=[redis.config] * 2) as brains:
        await begin(brains[0], 6)
        await agree(brains, 6)
        async with gateways(place, ("g3",), redis=[redis.config]) as (joined,):
            # At its first answer, not a while after.
            assert sum((await loads(joined)).values()) == 6


async def test_redis_is_stopped_and_started_empty(place: Path) -> None:
    async with running_redis() as redis, gateways(place, ("g1", "g2", "g3"), redis=[redis.config] * 3) as brains:
        held = await begin(brains[0], 3)
        await agree(brains, 3)
        await redis.stop()

        async def is_told() -> bool:
            return all([bool((await sync(each))["problem"]) for each in brains])

        await until(is_told)
        # Decisions go on, by what each knows.
        held += await begin(brains[0], 2)
        other = await begin(brains[1], 1)
        await redis.start()
        await agree(brains, 6)
        await end(brains[0], held)
        await end(brains[1], other)
        await agree(brains, 0)
        assert all([(await sync(each))["problem"] is None for each in brains])


async def test_a_partitioned_brain_decides_alone_and_catches_up(place: Path) -> None:
    async with running_redis() as redis, Partition(redis.socket).running() as partition:
        beyond = msgspec.structs.replace(redis.config, address=f"127.0.0.1:{partition.port}")
        configs = [redis.config, redis.config, beyond]
        async with gateways(place, ("g1", "g2", "g3"), redis=configs, **BRIEF) as brains:
            await begin(brains[0], 2)
            await begin(brains[2], 1)
            await agree(brains, 3)
            partition.cut()

            async def is_alone() -> bool:
                # Requests of those that are not heard of count no longer, on either side.
                seen = [sum((await loads(each)).values()) for each in brains]
                return seen[2] <= 1 and seen[0] <= 2

            await until(is_alone)
            alone = await begin(brains[2], 4)
            assert len(alone) == 4
            partition.mend()

            async def is_one() -> bool:
                seen = [await loads(each) for each in brains]
                return seen[0] == seen[1] == seen[2] and sum(seen[0].values()) >= 4

            await until(is_one)


async def test_a_brain_that_vanishes_counts_until_its_requests_can_no_longer_be_believed(place: Path) -> None:
    async with running_redis() as redis, gateways(place, ("g1",), redis=[redis.config], **BRIEF) as (first,):
        async with gateways(place, ("g2",), redis=[redis.config], **BRIEF) as (second,):
            await begin(second, 5)
            await agree([first, second], 5)
        assert sum((await loads(first)).values()) == 5
        await agree([first], 0)
        (gone,) = (await sync(first))["instances"]
        assert (gone["name"], gone["state"]) == ("g2", "left")


async def test_hostile_entries_change_nothing(place: Path) -> None:
    async with running_redis() as redis, gateways(place, ("g1", "g2"), redis=[redis.config] * 2) as brains:
        await begin(brains[0], 2)
        await agree(brains, 2)
        async with redis.client() as client:
            stream = b"pybrix:statesync:all:messages"
            await client.xadd(stream, {"d": b"\xc1 no message"})
            await client.xadd(stream, {"other": b"x"})
            await client.xadd(stream, {"d": msgspec.msgpack.encode({"i": "g9", "n": 1, "s": 1, "v": 9, "c": 9})})
            await client.xadd(stream, {"d": b"x" * 1_000_000})
            await client.zadd("pybrix:statesync:all:instances", {b"../\xff": 9e12})
            await client.set("pybrix:statesync:all:snapshot:g1", b"\xff\xff")

        async def is_counted() -> bool:
            return all([(await sync(each))["refusedMessages"] == 3 for each in brains])

        await until(is_counted)
        await begin(brains[1], 1)
        await agree(brains, 3)


async def test_brains_of_one_machine_need_no_redis(place: Path) -> None:
    async with gateways(place, ("g1", "g2", "g3"), peers_dir=str(place / "peers")) as brains:
        held = await begin(brains[0], 3)
        held_2 = await begin(brains[1], 3)
        await agree(brains, 6)
        assert (await sync(brains[0]))["transport"] == "peers"
        async with gateways(place, ("g4",), peers_dir=str(place / "peers")) as (joined,):
            await agree([*brains, joined], 6)
        await end(brains[0], held)
        await end(brains[1], held_2)
        await agree(brains, 0)
    assert list((place / "peers").glob("*.sock")) == []


async def test_two_of_one_name_tell_each_other_apart(place: Path) -> None:
    peers = str(place / "peers")
    async with (
        gateways(place / "1", ("g1",), peers_dir=peers) as (first,),
        gateways(place / "2", ("g1",), peers_dir=peers) as (second,),
    ):
        await begin(first, 2)
        await agree([first, second], 2)
        told = [await sync(each) for each in (first, second)]
        assert len({each["instance"] for each in told}) == 2
        assert any("another gateway is called g1" in str(each["problem"]) for each in told)


async def test_a_restart_begins_warm_and_believes_in_no_request_that_is_not_heard_of(place: Path) -> None:
    async with gateways(place, ("g1",), **BRIEF) as (brain,):
        ended, renewed, _ = await begin(brain, 3)
    async with gateways(place, ("g1",), **BRIEF) as (brain,):
        assert sum((await loads(brain)).values()) == 3
        assert (await sync(brain))["restoredRequests"] == 3
        await end(brain, [ended])

        async def is_one() -> bool:
            await brain.log({"reservation": renewed, "type": "DownstreamPeriodic", "status": 0})
            return sum((await loads(brain)).values()) == 1

        await until(is_one)
        await end(brain, [renewed])
        await agree([brain], 0)
        _, metrics = await brain.admin("/metrics")
        assert "pybrix_gateway_reservations_expired_total 1.0" in metrics, "the third was given up"


async def test_a_redis_that_hangs_holds_up_no_decision(place: Path) -> None:
    async with running_redis() as redis, gateways(place, ("g1", "g2"), redis=[redis.config] * 2) as brains:
        await begin(brains[0], 2)
        await agree(brains, 2)
        redis.suspend()

        async def is_told() -> bool:
            return bool((await sync(brains[1]))["problem"])

        # Each is answered while Redis is silent, the first ones before anyone has noticed.
        assert len(await begin(brains[1], 20)) == 20
        await until(is_told)
        assert len(await begin(brains[1], 2)) == 2
        redis.resume()
        await agree(brains, 24)
