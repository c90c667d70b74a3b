"""CPU of the gateway (Envoy + brain) over that of Envoy alone, from one run on one machine.

The same requests go through three gateways in turn: Envoy alone with a static cluster; the gateway without token usage;
the gateway with it. Each has the same engines behind it and real processes in it. CPU is what the kernel counts for the
processes of the gateway, divided by the requests they served; engines and load are in processes of their own. The ratio
of each round is taken, and the median of the rounds is shown.

    python benchmarks/gateway_overhead.py [--quick] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from pybrix.api.config import GatewayConfiguration
from support import engines as stand_ins
from support.gateways import Engines, Gateway, cpu_of, free_port, start_alone, start_gateway, wait_until_serving
from support.load import send_all
from support.wire import CHUNKS, request_of

ENGINES = ("127.66.90.1", "127.66.90.2", "127.66.90.3")
PROMPT = "hello " * 310
SHORT_CONNECTIONS = 64
STREAMS_AT_A_TIME = 64
TARGETS = {("short", True): 3.5, ("stream", True): 1.4, ("short", False): 2.7, ("stream", False): 1.15}
BRAIN_TARGET_US = 60.0
ALONE_US = 71.0
"""What a short request costs Envoy alone on the machine that the brain's microseconds were set for."""
BRAIN_TARGET = BRAIN_TARGET_US / ALONE_US
"""The brain's CPU for any request over that of Envoy alone for a short one: microseconds differ by machine."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU a request."""

    envoy_us: float
    brain_us: float

    @property
    def total_us(self) -> float:
        return self.envoy_us + self.brain_us


async def measure(gateway: Gateway, request: bytes, count: int, connections: int) -> Cost:
    before = cpu_of(gateway)
    await send_all(gateway.port, [request] * count, connections)
    # Records of the last requests are flushed within 50 ms; they belong to the bill.
    await asyncio.sleep(0.15)
    spent = {part: 1e6 * (after - before[part]) / count for part, after in cpu_of(gateway).items()}
    return Cost(spent["envoy"], spent.get("brain", 0.0))


async def start_ours(stack: AsyncExitStack, base: Path, engines: Engines, *, is_usage_counted: bool) -> Gateway:
    config = GatewayConfiguration(port=free_port(), is_usage_counted=is_usage_counted)
    name = "gateway, usage counted" if is_usage_counted else "gateway, without usage"
    return await start_gateway(stack, base, engines, config, name)


async def run(options: argparse.Namespace) -> bool:
    """Measure and print; return whether every target is reached."""
    loads = {
        "short": (request_of(PROMPT, is_stream=False), options.requests, SHORT_CONNECTIONS),
        "stream": (request_of(PROMPT, is_stream=True), options.streams, STREAMS_AT_A_TIME),
    }
    costs: dict[tuple[str, str], list[Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="pybrix-bench-") as name:
        base = Path(name)
        async with AsyncExitStack() as stack:
            engines = Engines(ENGINES, free_port())
            stack.enter_context(stand_ins.engines(engines.addresses, engines.port))
            gateways = [
                await start_alone(stack, base / "alone", engines),
                await start_ours(stack, base / "plain", engines, is_usage_counted=False),
                await start_ours(stack, base / "usage", engines, is_usage_counted=True),
            ]
            for gateway in gateways:
                await wait_until_serving(gateway, loads["short"][0])
                for request, _, connections in loads.values():
                    await send_all(gateway.port, [request] * (4 * connections), connections)
            for number in range(options.rounds):
                for kind, load in loads.items():
                    # Now forwards, now backwards: who comes after whom makes a difference on a small machine.
                    for gateway in gateways if number % 2 else reversed(gateways):
                        costs.setdefault((kind, gateway.name), []).append(await measure(gateway, *load))
    return report(costs, [gateway.name for gateway in gateways])


def report(costs: dict[tuple[str, str], list[Cost]], names: list[str]) -> bool:
    alone, without, counted = names
    print(f"{'':7} {'':24} {'Envoy us':>9} {'brain us':>9} {'ratio':>7} {'target':>7}")
    is_reached = True
    brains: list[tuple[str, str, float]] = []
    for kind in ("short", "stream"):
        floor = costs[kind, alone]
        for name in names:
            each = costs[kind, name]
            envoy_us, brain_us = (
                statistics.median(values)
                for values in ([cost.envoy_us for cost in each], [cost.brain_us for cost in each])
            )
            ratio = statistics.median(cost.total_us / base.total_us for cost, base in zip(each, floor, strict=True))
            target = TARGETS.get((kind, name == counted)) if name in (without, counted) else None
            line = f"{kind:7} {name:24} {envoy_us:9.1f} {brain_us:9.1f} {ratio:7.2f}"
            if target is not None:
                is_reached = is_reached and ratio <= target
                line += f" {target:7.2f}  {'reached' if ratio <= target else 'MISSED'}"
                short = costs["short", alone]
                shares = [cost.brain_us / base.total_us for cost, base in zip(each, short, strict=True)]
                brains.append((kind, name, statistics.median(shares)))
            print(line)
    print(
        f"brain over Envoy alone on the short request, at most {BRAIN_TARGET:.2f} "
        f"({BRAIN_TARGET_US:.0f} us where that costs {ALONE_US:.0f} us)"
    )
    for kind, name, share in brains:
        is_met = share <= BRAIN_TARGET
        is_reached = is_reached and is_met
        print(f"{kind:7} {name:44} {share:7.2f} {BRAIN_TARGET:7.2f}  {'reached' if is_met else 'MISSED'}")
    return is_reached


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a rough answer in a few seconds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--requests", type=int, help="short requests a round")
    parser.add_argument("--streams", type=int, help="streams a round")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 10)
    options.requests = options.requests or (2_000 if options.quick else 4_000)
    options.streams = options.streams or (128 if options.quick else 256)
    print(
        f"{options.rounds} rounds of {options.requests} short requests ({SHORT_CONNECTIONS} at a time) and "
        f"{options.streams} streams of {CHUNKS} chunks ({STREAMS_AT_A_TIME} at a time), {os.cpu_count()} CPUs"
    )
    is_reached = uvloop.run(run(options))
    sys.exit(0 if is_reached or not options.strict else 1)


if __name__ == "__main__":
    main()
