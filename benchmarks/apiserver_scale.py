"""The embedded API server at scale: 10,000 pods, as objects only, written, listed, watched and updated.

    python benchmarks/apiserver_scale.py                     # about a minute
    python benchmarks/apiserver_scale.py --pods 1000

Rates are of this machine as it is now, clients included; from the server's CPU time for one write follows what a core
could do by itself. The server is a process of its own, as in `pybrix up`, without controllers and node agent. A write
counts when its answer has been read; the process is killed (SIGKILL) at the end, started again, and every acknowledged
write must be there. Two floors are measured in the same run: committing the same rows to SQLite, one transaction each,
and moving the bytes of the list through the same TLS without a server behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from support.apiserver import ApiProcess, serve

WRITES_GOAL = 2000.0
LIST_GOAL_S = 2.0
MEMORY_GOAL_MIB = 600.0
NAMESPACE = "default"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
MERGE = "application/merge-patch+json"


def make_pod(number: int) -> dict[str, Any]:
    """Return a pod as a controller of ours makes one: an engine with probes, ports and environment."""
    probe = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5, "failureThreshold": 3}
    engine = {
        "name": "engine",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", "meta-llama/Llama-3.1-8B-Instruct", "--served-model-name", "llama-8b", "--port", "8000"],
        "ports": [{"name": "http", "containerPort": 8000}],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "HF_HOME", "value": "/models"},
        ],
        "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "4", "memory": "24Gi"}},
        "readinessProbe": probe,
        "livenessProbe": probe,
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(number),
            "labels": {"model.aibrix.ai/name": "llama-8b", "app": f"group-{number % 100}"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"},
        },
        "spec": {
            "containers": [engine],
            "volumes": [{"name": "models", "emptyDir": {}}],
            # Nothing runs them, on any cluster.
            "schedulingGates": [{"name": "pybrix.ai/benchmark"}],
        },
    }


def name_of(number: int) -> str:
    return f"engine-{number:06d}"


def status_of(number: int, turn: int) -> dict[str, Any]:
    """Return what a node agent writes when a pod has become ready."""
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": f"2026-01-01T00:{turn % 60:02d}:00Z"}
    return {
        "status": {
            "phase": "Running",
            "podIP": f"10.{turn % 200}.{number >> 8 & 255}.{number & 255}",
            "conditions": [condition],
        }
    }


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes
    media: str = "application/json"


@dataclass(frozen=True, slots=True)
class Written:
    """Acknowledged writes a second, and what each cost the server."""

    per_s: float
    cpu_s: float

    def print(self, label: str, floor_per_s: float) -> None:
        share = self.per_s / floor_per_s
        line(label, f"{self.per_s:,.0f}", f"{share:.3f} of SQLite alone; {self.cpu_s * 1e6:.0f} us CPU each")


async def write_all(api: ApiProcess, requests: Sequence[Request], width: int) -> Written:
    """Send every request over `width` connections. A refusal ends the run."""
    pending = iter(requests)

    async def work() -> None:
        async with api.connect() as connection:
            for request in pending:
                code, body = await connection.send(request.method, request.path, request.body, request.media)
                if code not in (200, 201):
                    raise SystemExit(f"{request.method} {request.path}: {code} {body[:300]!r}")

    started_s, used_s = time.perf_counter(), api.cpu_s()
    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(work())
    taken_s = time.perf_counter() - started_s
    return Written(len(requests) / taken_s, (api.cpu_s() - used_s) / len(requests))


def encode(data: Any) -> bytes:
    return msgspec.json.encode(data)


async def list_all(api: ApiProcess, *, rounds: int = 3, query: str = "") -> tuple[float, bytes]:
    """Return the median time of a whole list, and its last body."""
    taken: list[float] = []
    body = b""
    async with api.connect() as connection:
        for _ in range(rounds):
            started_s = time.perf_counter()
            code, body = await connection.send("GET", PODS + query, b"", "")
            taken.append(time.perf_counter() - started_s)
            assert code == 200, body[:300]
    return statistics.median(taken), body


async def list_in_pages(api: ApiProcess, limit: int) -> float:
    started_s = time.perf_counter()
    async with api.connect() as connection:
        token = ""
        while True:
            _, body = await connection.send("GET", f"{PODS}?limit={limit}&continue={token}", b"", "")
            token = msgspec.json.decode(body)["metadata"].get("continue", "")
            if not token:
                return time.perf_counter() - started_s


@dataclass(slots=True)
class FanOut:
    """How changes reached the watchers: events a second together, and writes a second meanwhile."""

    events_per_s: float
    writes_per_s: float
    last_after_s: float
    """From the last acknowledgement until the last watcher had everything."""


async def fan_out(api: ApiProcess, watchers: int, requests: Sequence[Request], width: int) -> FanOut:
    """Let watchers follow all pods while they are updated."""
    want = len(requests)
    arrived: list[float] = []
    version = await current_version(api)

    async def watch(is_watching: asyncio.Event) -> None:
        async with api.connect() as connection:
            count = 0
            async for piece in connection.stream(f"{PODS}?watch=1&resourceVersion={version}", is_watching.set):
                count += piece.count(b'{"type":"MODIFIED"')
                if count >= want:
                    arrived.append(time.perf_counter())
                    return
            raise SystemExit(f"a watch ended after {count} of {want} events")

    async with asyncio.TaskGroup() as group:
        ready = [asyncio.Event() for _ in range(watchers)]
        for event in ready:
            group.create_task(watch(event))
        for event in ready:
            await event.wait()
        started_s = time.perf_counter()
        written = await write_all(api, requests, width)
        ended_s = time.perf_counter()
    last_s = max(arrived)
    return FanOut(watchers * want / (last_s - started_s), written.per_s, max(last_s - ended_s, 0.0))


async def current_version(api: ApiProcess) -> str:
    async with api.connect() as connection:
        _, body = await connection.send("GET", f"{PODS}?limit=1", b"", "")
    return str(msgspec.json.decode(body)["metadata"]["resourceVersion"])


def commit_floor(directory: Path, bodies: Sequence[bytes]) -> float:
    """Return commits a second of SQLite alone, each row durable before the next."""
    connection = sqlite3.connect(directory / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE log (revision INTEGER PRIMARY KEY, name TEXT NOT NULL, body BLOB NOT NULL)")
    started_s = time.perf_counter()
    for number, body in enumerate(bodies):
        connection.execute("INSERT INTO log VALUES (?, ?, ?)", (number, f"pod-{number}", body))
    rate = len(bodies) / (time.perf_counter() - started_s)
    connection.close()
    return rate


async def transfer_floor(api: ApiProcess, num_bytes: int) -> float:
    """Return the seconds that as many bytes take from one process to another through the same TLS."""
    async with api.connect(port=api.floor_port) as connection:
        started_s = time.perf_counter()
        code, body = await connection.send("GET", f"/?bytes={num_bytes}", b"", "")
        assert (code, len(body)) == (200, num_bytes)
        return time.perf_counter() - started_s


def line(label: str, value: str, note: str = "") -> None:
    print(f"  {label:<44}{value:>14}   {note}".rstrip(), flush=True)


async def measure(options: argparse.Namespace, directory: Path) -> bool:
    width, number = options.connections, options.pods
    api = await ApiProcess.start(directory)
    met: list[bool] = []
    try:
        bodies = [encode(make_pod(n)) for n in range(number)]
        floor = commit_floor(directory, bodies[:5000])
        print(f"{number} pods of {len(bodies[0])} bytes as sent, {width} connections")
        pods = await write_all(api, [Request("POST", PODS, body) for body in bodies], width)
        pods.print("pods created /s", floor)
        patches = [
            Request("PATCH", f"{PODS}/{name_of(n)}/status", encode(status_of(n, 1)), MERGE) for n in range(number)
        ]
        statuses = await write_all(api, patches, width)
        statuses.print("status patches /s", floor)
        leases = await write_leases(api, number, width)
        leases.print("leases renewed /s", floor)
        # What is written all the time, in a cluster that runs.
        sustained = 2 / (1 / statuses.per_s + 1 / leases.per_s)
        line("sustained: status and lease in turn /s", f"{sustained:,.0f}", f"goal {WRITES_GOAL:,.0f}")
        met.append(sustained >= WRITES_GOAL)
        listed_s, body = await list_all(api)
        pipe_s = await transfer_floor(api, len(body))
        line(
            "list of all",
            f"{listed_s:.2f} s",
            f"goal {LIST_GOAL_S:.0f} s; {len(body) / 2**20:.0f} MiB, {listed_s / pipe_s:.1f} times the bytes alone",
        )
        met.append(listed_s <= LIST_GOAL_S)
        line(
            "list by a label, 1 in 100",
            f"{(await list_all(api, query='?labelSelector=app%3Dgroup-7'))[0] * 1000:.0f} ms",
        )
        line("list in pages of 500", f"{await list_in_pages(api, 500):.2f} s")
        turns = [
            Request("PATCH", f"{PODS}/{name_of(n)}/status", encode(status_of(n, 2)), MERGE)
            for n in range(min(options.updates, number))
        ]
        spread = await fan_out(api, options.watchers, turns, width)
        line(
            f"events to {options.watchers} watchers /s",
            f"{spread.events_per_s:,.0f}",
            f"while {spread.writes_per_s:,.0f} writes/s; the last {spread.last_after_s * 1000:.0f} ms behind",
        )
        memory_mib = api.peak_memory_mib()
        line("memory at most", f"{memory_mib:.0f} MiB", f"goal {MEMORY_GOAL_MIB:.0f} MiB")
        met.append(memory_mib <= MEMORY_GOAL_MIB)
        version = await current_version(api)
        await api.kill()
        started_s = time.perf_counter()
        api = await ApiProcess.start(directory)
        restarted_s = time.perf_counter() - started_s
        lost = await lost_writes(api, number, min(options.updates, number))
        line("started again after SIGKILL in", f"{restarted_s:.2f} s", f"{lost} acknowledged writes lost of {version}")
        met.append(lost == 0)
    finally:
        await api.kill()
    return all(met)


async def write_leases(api: ApiProcess, number: int, width: int) -> Written:
    """Renew leases, as every holder does every few seconds."""
    holders = min(number, 1000)
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15},
    }
    await write_all(
        api,
        [Request("POST", LEASES, encode({**body, "metadata": {"name": f"lease-{n}"}})) for n in range(holders)],
        width,
    )
    requests = []
    for turn in range(max(number // holders, 1)):
        for n in range(holders):
            spec = {"spec": {"renewTime": f"2026-01-01T00:00:00.{turn:06d}Z"}}
            requests.append(Request("PATCH", f"{LEASES}/lease-{n}", encode(spec), MERGE))
    return await write_all(api, requests, width)


async def lost_writes(api: ApiProcess, number: int, updated: int) -> int:
    """Count pods that do not have what was acknowledged last."""
    _, body = await list_all(api, rounds=1)
    found = {pod["metadata"]["name"]: pod["status"].get("podIP") for pod in msgspec.json.decode(body)["items"]}
    want = {name_of(n): status_of(n, 2 if n < updated else 1)["status"]["podIP"] for n in range(number)}
    return sum(found.get(name) != address for name, address in want.items())


async def main(options: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        return await measure(options, Path(directory))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--updates", type=int, default=2000, help="pods that are updated under the watchers")
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        uvloop.run(serve(arguments.serve))
        sys.exit(0)
    sys.exit(0 if uvloop.run(main(arguments)) else 1)
