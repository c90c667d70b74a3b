"""Gateways as the benchmarks start them: real processes on loopback, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.api.identity import Uid
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess
from pybrix.gateway.view.facts import PodFacts
from pybrix.gateway.view.persist import render_view
from pybrix.gateway.view.snapshot import build_view
from support.load import send
from support.wire import MODEL

START_TIMEOUT_S = 30.0
FIRST_PORT = 28_000
"""Where the search for free ports begins: below those that the kernel gives to clients."""
_ports = itertools.count(FIRST_PORT)


def free_port() -> int:
    """Return a port that nobody listens on, another one each time."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("0.0.0.0", port))
            return port
    raise RuntimeError("no port is free")


@dataclass(frozen=True, slots=True)
class Engines:
    """Where the engines behind a gateway listen."""

    addresses: Sequence[str]
    port: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """What is measured: a port and the processes behind it, each with what it is called."""

    name: str
    port: int
    pids: Mapping[str, int]
    log: Path
    """Of the process that says most when nothing works."""


def _cpu_s(pid: int) -> float:
    """Return user and system time of a process, ended threads included, to the nanosecond."""
    try:
        # The kernel's number of a process's CPU clock: clock_getcpuclockid(3).
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])
                found.setdefault(parent, []).append(int(entry.name))
    return found


def cpu_of(gateway: Gateway) -> dict[str, float]:
    """Return the seconds on a CPU of each of a gateway's processes, what they started included."""
    children = _children()

    def tree(pid: int) -> float:
        return _cpu_s(pid) + sum(tree(child) for child in children.get(pid, ()))

    return {part: tree(pid) for part, pid in gateway.pids.items()}


@asynccontextmanager
async def process(
    *arguments: str | Path, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program for the body of the `async with`."""
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            # As `EnvoyProcess` has it: Linux shares the CPU between sessions first, so all gateways need the same.
            start_new_session=True,
        )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), 10)
        except TimeoutError:
            child.kill()
            await child.wait()


async def wait_until_serving(gateway: Gateway, request: bytes) -> None:
    """Wait until a gateway answers a request with 200.

    Raises:
        RuntimeError: it did not in time; with the end of its log.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                once = iter([request])
                if (await send(gateway.port, lambda once=once: next(once, None), 1)).served:  # type: ignore[misc]
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        said = gateway.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{gateway.name} does not serve on port {gateway.port}: {said}") from None


def static_bootstrap(port: int, engines: Engines) -> dict[str, Any]:
    """Return the plainest Envoy: one listener, one route, one static cluster."""
    kind = "type.googleapis.com/envoy.extensions.filters"
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": engines.port}}}}
        for address in engines.addresses
    ]
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "alone",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "engines", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
        ],
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "engines",
                    "type": "STATIC",
                    "lb_policy": "LEAST_REQUEST",
                    "load_assignment": {"cluster_name": "engines", "endpoints": [{"lb_endpoints": endpoints}]},
                }
            ],
        }
    }


async def start_alone(stack: AsyncExitStack, base: Path, engines: Engines, name: str = "Envoy alone") -> Gateway:
    """Start Envoy with a static cluster and no brain."""
    base.mkdir()
    port = free_port()
    config, log = base / "envoy.json", base / "envoy.log"
    config.write_bytes(msgspec.json.encode(static_bootstrap(port, engines)))
    arguments = ("-c", config, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning")
    child = await stack.enter_async_context(process(find_envoy(), *arguments, log=log))
    return Gateway(name, port, {"envoy": child.pid}, log)


async def start_gateway(
    stack: AsyncExitStack, base: Path, engines: Engines, config: GatewayConfiguration, name: str
) -> Gateway:
    """Start a brain that knows the engines from its persisted view, and its Envoy."""
    base.mkdir()
    paths = EnvoyPaths(base / "run", base / "gateway")
    paths.gateway_dir.mkdir()
    pods = [
        PodFacts(uid=Uid(f"u{n}"), namespace="default", name=f"p{n}", model=MODEL, port=engines.port, address=address)
        for n, address in enumerate(engines.addresses)
    ]
    (paths.gateway_dir / "view.json").write_bytes(render_view(build_view(pods), "2026-01-01T00:00:00Z"))
    (base / "config.json").write_bytes(msgspec.json.encode(config))
    # An API server that is away: the brain asks for it now and then, as it would in need.
    (base / "kubeconfig").write_bytes(msgspec.json.encode(_kubeconfig(f"http://127.0.0.1:{free_port()}")))
    brain = await stack.enter_async_context(
        process(
            *(sys.executable, "-m", "pybrix", "gateway", "brain", "--config", base / "config.json"),
            *("--kubeconfig", base / "kubeconfig", "--gateway-dir", paths.gateway_dir, "--run-dir", paths.run_dir),
            log=base / "brain.log",
        )
    )
    envoy = await EnvoyProcess.start(config, paths, binary=find_envoy())
    stack.push_async_callback(envoy.stop)
    return Gateway(name, config.port, {"envoy": envoy.pid, "brain": brain.pid}, base / "brain.log")


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": server}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    }
