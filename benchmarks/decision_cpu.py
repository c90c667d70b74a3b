"""CPU of one decision of the brain, over the floor: a bare httptools server that answers 200 to everything.

Both serve in a process of their own, on uvloop and a Unix socket; a client in another process sends a chat request of
2 KB on 16 connections. CPU is user + system time of the server's process over the requests it answered, with the
access-log record of each request (batches of 50) taken in as well where the table says so.

    python benchmarks/decision_cpu.py [--requests 20000] [--endpoints 8]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import multiprocessing
import os
import random
import resource
import secrets
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import httptools
import msgpack
import msgspec
import uvloop

from pybrix.api.identity import Uid
from pybrix.base.clock import SystemClock
from pybrix.gateway.accesslog.sink import LogSink
from pybrix.gateway.decision.server import DecisionServer
from pybrix.gateway.director import Director
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations, TokenSource
from pybrix.gateway.presence import EnvoyPresence
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.view.facts import PodFacts
from pybrix.gateway.view.snapshot import build_view

CONNECTIONS = 16
RECORDS_PER_BATCH = 50
TARGET_US = 80.0

_PROMPT = "hello " * 310
_BODY = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": _PROMPT}], "stream": False})
_HEAD = (
    "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:8080\r\ncontent-type: application/json\r\n"
    "authorization: Bearer sk-0123456789\r\nx-request-id: 5c6d2d1e-6f0d-4a67-9c38-6f1c1f0f5a11\r\n"
    "x-envoy-internal: true\r\nx-forwarded-for: 127.0.0.1\r\nx-envoy-expected-rq-timeout-ms: 100\r\n"
    f"content-length: {len(_BODY)}\r\n\r\n"
)
REQUEST = _HEAD.encode() + _BODY


class Floor(asyncio.Protocol):
    """Parse the request and answer: what no server on httptools does for less."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def make_director(endpoints: int, strategy: str) -> Director:
    pods = [
        PodFacts(uid=Uid(f"u{n}"), namespace="default", name=f"p{n}", model="m", port=8000, address=f"127.64.0.{n}")
        for n in range(1, endpoints + 1)
    ]
    view, loads = build_view(pods), LoadTable()
    return Director(
        view=lambda: view,
        profile=Profile(build_strategies(random.Random(1))),
        default_strategy=strategy,
        loads=loads,
        reservations=Reservations(loads, secrets.token_hex(4), TokenSource(secrets.token_bytes).issue, 10.0),
        chance=random.Random(1),
        clock=SystemClock(),
        metrics=MetricsTable(),
    )


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def serve(base: Path, kind: str, endpoints: int, control: Connection) -> None:
    """Serve until told to stop; say what it cost."""
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []  # uvloop closes a server that nobody holds
    connect: Callable[[], asyncio.Protocol] = Floor
    if kind != "floor":
        director = make_director(endpoints, kind)
        presence = EnvoyPresence(lambda: None)
        connect = DecisionServer(director.decide, 32 << 20, lambda: True, presence).connect
        sink = LogSink(director.account, presence)
        servers.append(await loop.create_unix_server(sink.connect, str(base / "log.sock")))
    servers.append(await loop.create_unix_server(connect, str(base / "decide.sock")))
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
    control.send("ready")
    await loop.run_in_executor(None, control.recv)
    before_s = cpu_s()
    control.send("go")
    await loop.run_in_executor(None, control.recv)
    control.send(cpu_s() - before_s)
    for each in servers:
        each.close()


def server(base: Path, kind: str, endpoints: int, control: Connection) -> None:
    uvloop.run(serve(base, kind, endpoints, control))


async def load(base: Path, requests: int, *, with_log: bool) -> None:
    """Send the requests on all connections, one at a time on each; report each reservation as Envoy does."""
    left = itertools.count(1)
    log = await asyncio.open_unix_connection(str(base / "log.sock")) if with_log else None
    records: list[object] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_unix_connection(str(base / "decide.sock"))
        while next(left) <= requests:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            if log is None:
                continue
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
            records.append([0, end_record(fields["x-pybrix-reservation"], fields["x-pybrix-endpoints"])])
            if len(records) >= RECORDS_PER_BATCH:
                log[1].write(msgpack.packb(["pybrix", records, {}]))
                records.clear()
        writer.close()

    await asyncio.gather(*[connection() for _ in range(CONNECTIONS)])
    if log is not None:
        log[1].write(msgpack.packb(["pybrix", records, {}]))
        await log[1].drain()
        log[1].close()
        # The server reads what is in the socket before it reports its time.
        await asyncio.sleep(0.1)


def end_record(reservation: str, hosts: str) -> dict[str, object]:
    return {
        "reservation": reservation,
        "request_id": "5c6d2d1e-6f0d-4a67-9c38-6f1c1f0f5a11",
        "type": "DownstreamEnd",
        "cluster": "default/m",
        "upstream": hosts.partition(",")[0],
        "status": 200,
        "flags": "-",
        "ttft_ms": 12,
        "duration_ms": 40,
        "prompt_tokens": 310,
        "completion_tokens": 20,
        "cached_tokens": None,
        "attempts": 1,
    }


def measure(kind: str, requests: int, endpoints: int, *, with_log: bool) -> float:
    """Return the server's CPU in microseconds a request."""
    with tempfile.TemporaryDirectory(prefix="pb") as name:
        base = Path(name)
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=server, args=(base, kind, endpoints, theirs))
        process.start()
        try:
            assert ours.recv() == "ready"
            uvloop.run(load(base, requests // 10, with_log=with_log))
            ours.send("start")
            assert ours.recv() == "go"
            uvloop.run(load(base, requests, with_log=with_log))
            ours.send("stop")
            spent_s: float = ours.recv()
        finally:
            process.terminate()
            process.join()
        return 1e6 * spent_s / requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--endpoints", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many is shown")
    options = parser.parse_args()
    rows = (
        ("floor: httptools, answers 200", "floor", False),
        ("decision, random", "random", False),
        ("decision, least-request", "least-request", False),
        ("decision, least-request + access log", "least-request", True),
        ("decision, prefix-affinity + access log", "prefix-affinity", True),
    )
    print(f"{options.requests} requests of {len(REQUEST)} bytes, {options.endpoints} endpoints, {os.cpu_count()} CPUs")
    floor_us = 0.0
    for title, kind, with_log in rows:
        rounds = [measure(kind, options.requests, options.endpoints, with_log=with_log) for _ in range(options.rounds)]
        best_us = min(rounds)
        floor_us = floor_us or best_us
        print(f"{title:40} {best_us:7.1f} us CPU a request   {best_us / floor_us:5.2f} x the floor")
    print(f"target for the last row: {TARGET_US:.0f} us")


if __name__ == "__main__":
    main()
