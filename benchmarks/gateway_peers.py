"""pybrix against Envoy alone, `vllm-router` and `sglang-router`: one run, one machine, the same engines behind each.

Every gateway runs in real processes on loopback with engine stand-ins behind it, and gets the same load in turn: short
chats, 32 KB prompts, streams as engines make them, one client alone; and then an engine's process is killed under load,
each time with a gateway started for it. CPU is what the kernel counts, user and system, for all processes of a gateway,
over the requests it served. The order of the gateways changes from round to round, each number is taken as a ratio to
Envoy alone in the same round, and medians over the rounds are shown: what else the machine does hits all alike.

The routers are installed from PyPI, wheels only, into virtual environments below ~/.cache/pybrix-bench.

    python benchmarks/gateway_peers.py [--seconds S] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from pybrix.api.config import GatewayConfiguration
from support import engines as stand_ins
from support.gateways import Engines, Gateway, cpu_of, free_port, start_alone, start_gateway, wait_until_serving
from support.load import Tally, lasting, send, send_for
from support.peers import PEERS, NotInstalled, Peer, install, start_peer
from support.wire import prompts, request_of

ALONE = "Envoy alone, least_request"
OURS = "pybrix, prefix-affinity"
CACHE_AWARE = "cache_aware"
POLICIES = (CACHE_AWARE, "round_robin")
"""Of the routers: the first is also the default of both."""
PREFIXES = 16
"""Beginnings that the prompts share, as of so many system prompts."""
KILL_THINK_MS = 20
"""What an answer takes while engines are killed: long enough that every engine has requests."""
KILL_CONNECTIONS = 32
FLUSH_S = 0.15
"""Records of the last requests reach the brain within 50 ms; they belong to the bill."""

Start = Callable[[AsyncExitStack, Path, Engines], Awaitable[Gateway]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A gateway that can be started."""

    name: str
    start: Start
    is_router: bool = False
    is_cache_aware: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of load."""

    title: str
    requests: Sequence[bytes]
    connections: int


@dataclass(frozen=True, slots=True)
class Result:
    """One case through one gateway in one round."""

    cpu_us: float
    """User and system time of all processes, a request."""
    parts_us: dict[str, float]
    """The same by process."""
    served_per_s: float
    p50_us: float
    """From a request's first byte to its answer's last one."""
    failed: int
    """Requests that got another answer than 200, or none."""


def alone() -> Candidate:
    return Candidate(ALONE, lambda stack, base, engines: start_alone(stack, base, engines, ALONE))


def ours() -> Candidate:
    async def start(stack: AsyncExitStack, base: Path, engines: Engines) -> Gateway:
        config = GatewayConfiguration(port=free_port(), routing_strategy="prefix-affinity")
        return await start_gateway(stack, base, engines, config, OURS)

    return Candidate(OURS, start)


def router(peer: Peer, policy: str) -> Candidate:
    name = f"{peer.package} {peer.version}, {policy}"
    return Candidate(
        name,
        lambda stack, base, engines: start_peer(stack, base, engines, peer, policy, name),
        is_router=True,
        is_cache_aware=policy == CACHE_AWARE,
    )


def candidates() -> list[Candidate]:
    """Return what can be compared here; say what cannot, and why."""
    found = [alone(), ours()]
    for peer in PEERS:
        try:
            install(peer)
        except NotInstalled as err:
            print(f"skipped: {err}")
            continue
        found += [router(peer, policy) for policy in POLICIES]
    return found


def cases() -> dict[str, Case]:
    short = [request_of(text, is_stream=False) for text in prompts(256, 2_000, prefixes=PREFIXES)]
    long = [request_of(text, is_stream=False) for text in prompts(128, 32_000, prefixes=PREFIXES)]
    stream = [request_of(text, is_stream=True) for text in prompts(256, 2_000, prefixes=PREFIXES)]
    return {
        "short": Case("short: prompt of 2 KB, 64 at a time", short, 64),
        "long": Case("long: prompt of 32 KB, 32 at a time", long, 32),
        "stream": Case("stream: 129 chunks 2 ms apart, 64 at a time", stream, 64),
        "one": Case("one: prompt of 2 KB, one client", short, 1),
    }


async def measure(gateway: Gateway, case: Case, seconds: float) -> Result:
    before = cpu_of(gateway)
    tally = await send_for(gateway.port, case.requests, case.connections, seconds)
    await asyncio.sleep(FLUSH_S)
    spent = {part: 1e6 * (after - before[part]) / tally.served for part, after in cpu_of(gateway).items()}
    p50_us = 1e6 * statistics.median(tally.times_s)
    return Result(sum(spent.values()), spent, tally.served / tally.elapsed_s, p50_us, tally.failed)


async def measure_kill(
    candidate: Candidate, base: Path, engines: Engines, running: stand_ins.Engines, seconds: float
) -> Tally:
    """Start a gateway, kill an engine after a third of the load, and return what came of the requests."""
    texts = prompts(256, 2_000, prefixes=PREFIXES)
    requests = [request_of(text, is_stream=False, think_ms=KILL_THINK_MS) for text in texts]
    async with AsyncExitStack() as stack:
        gateway = await candidate.start(stack, base, engines)
        await wait_until_serving(gateway, requests[0])
        await send_for(gateway.port, requests, KILL_CONNECTIONS, 0.3)
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(send(gateway.port, lasting(requests, seconds), KILL_CONNECTIONS))
            await asyncio.sleep(seconds / 3)
            running.kill()
        return load.result()


async def measure_kills(options: argparse.Namespace, found: Sequence[Candidate], base: Path) -> dict[str, list[Tally]]:
    """Kill an engine's process under every gateway in turn."""
    tallies: dict[str, list[Tally]] = {}
    port = free_port()
    everyone = Engines(addresses(options.engines), port)
    with stand_ins.engines(everyone.addresses[1:], port):
        for number in range(options.kills):
            for place, candidate in enumerate(found):
                with stand_ins.engines(everyone.addresses[:1], port) as victim:
                    tally = await measure_kill(
                        candidate, base / f"kill{number}-{place}", everyone, victim, 3 * options.seconds
                    )
                tallies.setdefault(candidate.name, []).append(tally)
    return tallies


def addresses(count: int) -> list[str]:
    return [f"127.66.91.{number}" for number in range(1, count + 1)]


async def run(options: argparse.Namespace) -> bool:
    """Measure and print; return whether every target is reached."""
    found, loads = candidates(), cases()
    results: dict[tuple[str, str], list[Result]] = {}
    direct_us: list[float] = []
    with tempfile.TemporaryDirectory(prefix="pybrix-bench-") as name:
        base = Path(name)
        async with AsyncExitStack() as stack:
            engines = Engines(addresses(options.engines), free_port())
            stack.enter_context(stand_ins.engines(engines.addresses, engines.port))
            gateways = [
                await candidate.start(stack, base / str(place), engines) for place, candidate in enumerate(found)
            ]
            for gateway in gateways:
                await wait_until_serving(gateway, loads["short"].requests[0])
                for case in loads.values():
                    await send_for(gateway.port, case.requests, case.connections, 0.3)
            for number in range(options.rounds):
                for kind, case in loads.items():
                    # Who comes after whom makes a difference on a small machine.
                    turn = gateways if number % 2 else gateways[::-1]
                    for gateway in turn[number % len(turn) :] + turn[: number % len(turn)]:
                        result = await measure(gateway, case, options.seconds)
                        results.setdefault((kind, gateway.name), []).append(result)
                one = loads["one"]
                tally = await send_for(engines.port, one.requests, 1, options.seconds, address=engines.addresses[0])
                direct_us.append(1e6 * statistics.median(tally.times_s))
        kills = await measure_kills(options, found, base)
    report(loads, found, results)
    report_latency(loads["one"], found, results, direct_us)
    report_kills(found, kills)
    return report_targets(found, results, kills)


def medians(results: Sequence[Result], of: Callable[[Result], float]) -> float:
    return statistics.median(of(result) for result in results)


def ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of each round."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def report(loads: dict[str, Case], found: Sequence[Candidate], results: dict[tuple[str, str], list[Result]]) -> None:
    for kind in ("short", "long", "stream"):
        print(f"\n{loads[kind].title}\n{'':36} {'CPU us':>8} {'ratio':>7} {'req/s':>8} {'ratio':>7} {'p50 ms':>8}")
        floor = results[kind, ALONE]
        for candidate in found:
            each = results[kind, candidate.name]
            cpu = ratio([result.cpu_us for result in each], [result.cpu_us for result in floor])
            rate = ratio([result.served_per_s for result in each], [result.served_per_s for result in floor])
            line = (
                f"{candidate.name:36} {medians(each, lambda result: result.cpu_us):8.0f} {cpu:7.2f} "
                f"{medians(each, lambda result: result.served_per_s):8.0f} {rate:7.2f} "
                f"{medians(each, lambda result: result.p50_us) / 1000:8.1f}"
            )
            notes = []
            if len(each[0].parts_us) > 1:
                notes += [
                    f"{part} {statistics.median(result.parts_us[part] for result in each):.0f}"
                    for part in each[0].parts_us
                ]
            if failed := sum(result.failed for result in each):
                notes.append(f"{failed} FAILED")
            print(f"{line}   {', '.join(notes)}".rstrip())


def report_latency(
    case: Case, found: Sequence[Candidate], results: dict[tuple[str, str], list[Result]], direct_us: Sequence[float]
) -> None:
    print(f"\n{case.title}: added to the engine's own {statistics.median(direct_us):.0f} us (p50)")
    print(f"{'':36} {'added us':>8} {'ratio':>7}")

    def added_us(name: str) -> list[float]:
        return [result.p50_us - direct for result, direct in zip(results["one", name], direct_us, strict=True)]

    for candidate in found:
        added = added_us(candidate.name)
        print(f"{candidate.name:36} {statistics.median(added):8.0f} {ratio(added, added_us(ALONE)):7.2f}")


def report_kills(found: Sequence[Candidate], kills: dict[str, list[Tally]]) -> None:
    print(
        f"\nkill: an engine's process killed under load, {KILL_CONNECTIONS} at a time, answers after {KILL_THINK_MS} ms"
    )
    print(f"{'':36} {'requests':>8} {'not 200':>8} {'cut':>7} {'slowest ms':>11}")
    for candidate in found:
        each = kills[candidate.name]
        served, refused, cut = (
            sum(numbers) for numbers in zip(*[(one.served, one.refused, one.cut) for one in each], strict=True)
        )
        slowest_ms = 1000 * max(max(one.times_s, default=0.0) for one in each)
        print(f"{candidate.name:36} {served + refused + cut:8} {refused:8} {cut:7} {slowest_ms:11.0f}")


def report_targets(
    found: Sequence[Candidate], results: dict[tuple[str, str], list[Result]], kills: dict[str, list[Tally]]
) -> bool:
    """Print what is aimed at, and whether it is reached."""
    print()
    is_reached = True
    for kind, title, rivals in (
        ("stream", "CPU a stream, under every router's", [one for one in found if one.is_router]),
        ("long", "CPU a 32 KB prompt, under the cache-aware routers'", [one for one in found if one.is_cache_aware]),
    ):
        for rival in rivals:
            share = ratio(
                [result.cpu_us for result in results[kind, OURS]],
                [result.cpu_us for result in results[kind, rival.name]],
            )
            is_reached = is_reached and share < 1
            print(f"{title}: {share:.2f} of {rival.name}: {'reached' if share < 1 else 'MISSED'}")
    failed = sum(one.failed for one in kills[OURS])
    print(f"requests failed while an engine is killed, 0: {failed}: {'reached' if not failed else 'MISSED'}")
    return is_reached and not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.7, help="of load for each gateway, case and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=1, help="engines killed under each gateway")
    parser.add_argument("--engines", type=int, default=8)
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    options = parser.parse_args()
    if min(options.rounds, options.kills) < 1 or options.engines < 2 or options.seconds <= 0:
        parser.error("at least one round, one kill, two engines and some time")
    print(
        f"{options.rounds} rounds of {options.seconds:g} s for each gateway and case, {options.engines} engines, "
        f"{os.cpu_count()} CPUs"
    )
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    is_reached = uvloop.run(run(options))
    sys.exit(0 if is_reached or not options.strict else 1)


if __name__ == "__main__":
    main()
