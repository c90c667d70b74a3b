"""What it costs gateways to keep one view, and how soon one that joins agrees, over a real Redis.

Every gateway is a process on uvloop with the brain's own tables and `StateSync`. It begins and ends requests on
endpoints with random prompts at its share of the rate, as a brain does when it decides and when the access log tells.
The same process without `StateSync` is the floor; the difference is what sharing costs. Then one more gateway starts,
and the time is taken until its loads are within 5 % of the others' (the sum over endpoints of the differences), and
the same for one that starts with an empty Redis, from the first time it is reached again.

    python benchmarks/statesync_cost.py [--instances 3] [--endpoints 100] [--rate 300] [--seconds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import secrets
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import redis
import uvloop

from pybrix.api.config import GatewayConfiguration, RedisConfiguration, StateSyncConfiguration
from pybrix.api.identity import Uid
from pybrix.base.clock import SystemClock
from pybrix.gateway.accesslog.record import read_record
from pybrix.gateway.framework.types import InferenceRequest
from pybrix.gateway.indexes.learnt import LearntModel
from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.reservations import Reservations, TokenSource
from pybrix.gateway.scheduling.registry import Indexes
from pybrix.gateway.statesync.service import StateSync
from pybrix.gateway.view.facts import ModelKey, PodFacts
from pybrix.gateway.view.snapshot import ClusterView, build_view

REQUEST_S = 4.0
"""How long a request is in flight, in the mean."""
BLOCKS = 64
"""Blocks of a prompt (2,000 tokens), of which the first half is shared with many others."""
AGREED_RATIO = 0.05
TARGET_OPERATIONS, TARGET_CPU_RATIO, TARGET_AGREE_S = 300.0, 0.05, 1.0


class Load(NamedTuple):
    """What one gateway is given."""

    number: int
    endpoints: int
    rate: float
    is_shared: bool
    redis: str
    directory: str


def make_view(endpoints: int) -> ClusterView:
    return build_view(
        PodFacts(
            uid=Uid(f"7d3f0c52-31a5-4c1e-9a55-{number:012d}"),
            namespace="default",
            name=f"p{number}",
            model="m",
            port=8000,
            address=f"10.1.{number // 250}.{number % 250 + 1}",
        )
        for number in range(endpoints)
    )


class Gateway:
    """The tables of one brain, under a load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._chance = random.Random(load.number)
        self._clock = SystemClock()
        self.loads = LoadTable()
        self._indexes = Indexes()
        self._sizes: dict[ModelKey, LearntModel] = {}
        self._reservations = Reservations(self.loads, f"i{load.number}", TokenSource(secrets.token_bytes).issue, 10.0)
        self._view = make_view(load.endpoints)
        self._endpoints = list(self._view.by_host.values())
        self._held: deque[tuple[float, str, InferenceRequest]] = deque()
        self._done = 0
        self.sync: StateSync | None = None
        if load.is_shared:
            config = GatewayConfiguration(
                redis=RedisConfiguration(address=load.redis),
                statesync=StateSyncConfiguration(instance=f"gw-{load.number}"),
            )
            self.sync = StateSync(
                config,
                data_dir=Path(load.directory),
                clock=self._clock,
                draw=secrets.token_bytes,
                loads=self.loads,
                indexes=self._indexes,
                sizes=self._sizes,
                reservations=self._reservations,
                activity=lambda: self._done,
            )

    async def run(self) -> None:
        if self.sync is None:
            await self._work()
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sync.run(self._view))
            await self.sync.merged.wait()
            tasks.create_task(self._work())

    async def _work(self) -> None:
        if not self._load.rate:
            await asyncio.Event().wait()
        due_s = self._clock.monotonic_s()
        while True:
            due_s += self._chance.expovariate(self._load.rate)
            await asyncio.sleep(max(0.0, due_s - self._clock.monotonic_s()))
            self._begin(self._clock.monotonic_s())
            while self._held and self._held[0][0] <= self._clock.monotonic_s():
                self._end(self._clock.monotonic_s())

    def _begin(self, now_s: float) -> None:
        chance, prefix = self._chance, self._indexes.prefix
        shared, own = chance.randrange(200) * 1000 + 2**40, chance.getrandbits(48) + 2**50
        chain = [*range(shared, shared + BLOCKS // 2), *range(own, own + BLOCKS // 2)]
        # The fewest of two: about what a strategy does, at no cost that counts here.
        first, second = chance.choice(self._endpoints), chance.choice(self._endpoints)
        chosen = min(first, second, key=lambda each: self.loads.of(each.id).requests)
        request = InferenceRequest("default", "m", "/", "prefix-affinity", 8000, 2000, 200)
        held = prefix.match(chain, (chosen.id,))[0]
        prefix.insert(chosen.id, chain)
        uncached = 2000 - 2000 * held // BLOCKS
        self._indexes.backlogs.add(chosen.id, request, uncached, now_s)
        reservation = self._reservations.reserve((chosen,), Weight(2000, uncached, 200), now_s, request)
        # In the order in which they end: a deque will do.
        self._held.append((now_s + REQUEST_S, reservation, request))
        self._done += 1

    def _end(self, now_s: float) -> None:
        _, key, request = self._held.popleft()
        held = self._reservations.release(key)
        assert held is not None
        record = read_record(
            {
                "type": "DownstreamEnd",
                "status": 200,
                "duration_ms": 1000 * REQUEST_S,
                "ttft_ms": 300,
                "prompt_tokens": 2000,
                "completion_tokens": 200,
            }
        )
        entry = self.loads.entry(held.endpoint.id)
        entry.outcomes.add(record)
        entry.learnt.add(record, now_s)
        self._indexes.backlogs.learn(held.endpoint.id, request, 0.3, now_s)
        self._sizes.setdefault(ModelKey("default", "m"), LearntModel()).add(8000, record, now_s)
        self._done += 1

    def counts(self) -> list[int]:
        return [self.loads.of(endpoint.id).requests for endpoint in self._endpoints]


def _serve(load: Load, pipe: Connection) -> None:
    async def main() -> None:
        gateway = Gateway(load)
        loop = asyncio.get_running_loop()

        def answer() -> None:
            asked = pipe.recv()
            if asked == "end":
                task.cancel()
                return
            times, sync = os.times(), gateway.sync
            pipe.send(
                {
                    "cpu_s": times.user + times.system,
                    "at_s": time.monotonic(),
                    "counts": gateway.counts() if asked == "counts" else [],
                    "merged": sync is None or sync.merged.is_set(),
                    "problem": "" if sync is None else sync.problem,
                    "operations": 0 if sync is None else sync.operations,
                    "bytes": 0 if sync is None else sync.sent_bytes + sync.received_bytes,
                }
            )

        loop.add_reader(pipe.fileno(), answer)
        task = asyncio.ensure_future(gateway.run())
        try:
            await task
        except asyncio.CancelledError:
            loop.remove_reader(pipe.fileno())

    uvloop.run(main())


class Process:
    def __init__(self, load: Load) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(load, theirs))
        self._process.start()
        theirs.close()

    def ask(self, what: str) -> dict[str, Any]:
        self._pipe.send(what)
        if not self._pipe.poll(30):
            raise SystemExit("a gateway does not answer")
        found: dict[str, Any] = self._pipe.recv()
        return found

    def end(self) -> None:
        self._pipe.send("end")
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Redis:
    """A server of this run's own."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "r.sock"
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("no redis-server on PATH: apt-get install redis-server")
        self._command = [
            program,
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--dir",
            str(directory),
        ]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.02)

    def commands(self) -> int:
        return int(self.client.info("stats")["total_commands_processed"])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(gateways: Sequence[Process], seconds: float) -> tuple[float, float, list[dict[str, Any]]]:
    """Return CPU seconds a second of one gateway, bytes a second of one, and the last answers."""
    before = [each.ask("numbers") for each in gateways]
    time.sleep(seconds)
    after = [each.ask("numbers") for each in gateways]
    spans = [b["at_s"] - a["at_s"] for a, b in zip(before, after, strict=True)]
    cpu = sum((b["cpu_s"] - a["cpu_s"]) / s for a, b, s in zip(before, after, spans, strict=True)) / len(gateways)
    size = sum((b["bytes"] - a["bytes"]) / s for a, b, s in zip(before, after, spans, strict=True)) / len(gateways)
    return cpu, size, after


def difference(one: Process, other: Process) -> float:
    first, second = one.ask("counts")["counts"], other.ask("counts")["counts"]
    total = sum(abs(a - b) for a, b in zip(first, second, strict=True))
    return float(total / max(1, sum(first)))


def until_agreed(new: Process, others: Sequence[Process], since_s: float) -> float:
    """Return seconds from `since_s` until the differences are within bounds, or as small as they are among others."""
    while True:
        usual = difference(others[0], others[1]) if len(others) > 1 else 0.0
        if difference(new, others[0]) <= max(AGREED_RATIO, usual):
            return time.monotonic() - since_s
        if time.monotonic() - since_s > 30:
            raise SystemExit("the views do not come together")
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second, of all gateways together")
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    share = options.rate / options.instances
    with tempfile.TemporaryDirectory(prefix="pb") as place:
        server = Redis(Path(place))

        def start(number: int, rate: float, is_shared: bool) -> Process:
            directory = Path(place) / f"{number}-{is_shared}"
            directory.mkdir(exist_ok=True)
            return Process(Load(number, options.endpoints, rate, is_shared, str(server.socket), str(directory)))

        alone = [start(number, share, False) for number in range(options.instances)]
        time.sleep(REQUEST_S + 2)
        floor, _, _ = measure(alone, options.seconds)
        for each in alone:
            each.end()
        together = [start(number, share, True) for number in range(options.instances)]
        time.sleep(REQUEST_S + 3)
        commands, began_s = server.commands(), time.monotonic()
        shared, size, _ = measure(together, options.seconds)
        operations = (server.commands() - commands) / (time.monotonic() - began_s)
        stream_bytes = int(server.client.memory_usage("pybrix:statesync:all:messages", samples=0) or 0)
        usual = []
        for _ in range(50):
            usual.append(difference(together[0], together[-1]))
            time.sleep(0.02)

        joined = start(99, 0.0, True)
        while not joined.ask("numbers")["merged"]:
            time.sleep(0.005)
        merged_s = time.monotonic()
        join_s = until_agreed(joined, together, merged_s)

        server.stop()
        time.sleep(5)
        server.socket.unlink(missing_ok=True)
        server.start()
        back_s = time.monotonic()
        while any(each.ask("numbers")["problem"] for each in (*together, joined)):
            time.sleep(0.01)
        reached_s = time.monotonic()
        again_s = until_agreed(joined, together, reached_s)
        for each in (*together, joined):
            each.end()
        server.stop()

    cpu = shared - floor
    mean = sum(usual) / len(usual)
    print(f"{options.instances} gateways, {options.endpoints} endpoints, {options.rate:.0f} requests/s in all")
    rows = [
        ("CPU of one gateway's tables alone", f"{100 * floor:.2f} % of a core", ""),
        ("CPU of sharing, one gateway", f"{100 * cpu:.2f} % of a core", f"< {100 * TARGET_CPU_RATIO:.0f} %"),
        ("Redis operations, all together", f"{operations:.0f} a second", f"< {TARGET_OPERATIONS:.0f}"),
        ("bytes sent and received, one gateway", f"{size / 1024:.0f} KiB a second", ""),
        ("the stream in Redis", f"{stream_bytes / 2**20:.1f} MiB", ""),
        ("two views differ, in the mean", f"{100 * mean:.1f} %", ""),
        ("a gateway that joins agrees", f"{join_s:.2f} s after it is ready", f"< {TARGET_AGREE_S:.0f} s"),
        ("all agree after Redis came back empty", f"{again_s:.2f} s ({reached_s - back_s:.2f} s to reconnect)", ""),
    ]
    for name, value, target in rows:
        print(f"  {name:40} {value:32} {target}")
    is_met = operations < TARGET_OPERATIONS and cpu < TARGET_CPU_RATIO and join_s < TARGET_AGREE_S
    print("within the targets" if is_met else "NOT within the targets")


if __name__ == "__main__":
    main()
