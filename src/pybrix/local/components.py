"""The processes of an installation: how each is started, and when it is ready."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from pybrix.api.config import GatewayConfiguration
from pybrix.api.core import Node
from pybrix.api.meta import find_condition
from pybrix.base.errors import PybrixError
from pybrix.envoy.paths import EnvoyPaths
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.layout import Layout
from pybrix.local.supervisor import Component

CLUSTER_STOP_S = 45.0
"""Pods end within their grace period (30 s by default), and the node agent needs a moment around it."""
_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2)


def _python(*arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "pybrix", *map(str, arguments))


def cluster(layout: Layout, api_port: int) -> Component:
    async def is_ready() -> bool:
        try:
            async with HttpClient(load_kubeconfig(layout.kubeconfig)) as client:
                nodes = await client.list(Node)
        except PybrixError:
            return False
        return any((c := find_condition(n.status.conditions, "Ready")) and c.is_true for n in nodes.items)

    return Component(
        "cluster",
        _python("cluster", "run", "--data-dir", layout.root, "--api-port", str(api_port)),
        layout.logs_dir / "cluster.log",
        is_ready,
        stop_grace_s=CLUSTER_STOP_S,
    )


def brain(layout: Layout) -> Component:
    return Component(
        "brain",
        _python(
            "gateway", "brain",
            "--config", layout.gateway_configuration,
            "--kubeconfig", layout.kubeconfig,
            "--gateway-dir", layout.gateway_dir,
            "--run-dir", layout.run_dir,
        ),
        layout.logs_dir / "brain.log",
        _answers(layout.run_dir / "brain-admin.sock", "/readyz"),
    )  # fmt: skip


def envoy(layout: Layout, config: GatewayConfiguration, envoy_path: Path | None) -> Component:
    paths = EnvoyPaths(layout.run_dir, layout.gateway_dir)
    is_live = _answers(paths.admin_socket, "/ready")

    async def is_ready() -> bool:
        # The listener opens when the first configuration has been read, which may be after the process is live.
        if not await is_live():
            return False
        try:
            _, writer = await asyncio.open_connection(config.address, config.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    return Component(
        "envoy",
        _python(
            "gateway", "envoy",
            "--config", layout.gateway_configuration,
            "--gateway-dir", layout.gateway_dir,
            "--run-dir", layout.run_dir,
            *(("--envoy-path", envoy_path) if envoy_path else ()),
        ),
        layout.logs_dir / "envoy.log",
        is_ready,
        stop_grace_s=config.drain_timeout_s + 5,
    )  # fmt: skip


def _answers(socket: Path, path: str) -> Callable[[], Awaitable[bool]]:
    """Return a probe that asks a Unix socket over HTTP and wants a 200."""

    async def is_ready() -> bool:
        if not socket.exists():
            return False
        connector = aiohttp.UnixConnector(str(socket))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_PROBE_TIMEOUT) as session,
                session.get(f"http://localhost{path}") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    return is_ready
