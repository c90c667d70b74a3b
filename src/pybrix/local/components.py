"""The processes of an installation: how each is started, and when it is ready."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import aiohttp

from pybrix.api.config import GatewayConfiguration
from pybrix.api.core import Node
from pybrix.api.meta import find_condition
from pybrix.base.errors import PybrixError
from pybrix.envoy.hotrestart import find_epoch
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.layout import GatewayPlace, Layout, Place
from pybrix.local.supervisor import Component

CLUSTER_STOP_S = 45.0
"""Pods end within their grace period (30 s by default), and the node agent needs a moment around it."""
CONTROLLERS_STOP_S = 15.0
"""Passes under way get 10 s to finish."""
_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2)
_PORT_TIMEOUT_S = 2.0


def _python(*arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "pybrix", *map(str, arguments))


def cluster(layout: Layout, api_port: int, chosen: Mapping[str, str | None] | None = None) -> Component:
    """`chosen` has values of options that the cluster remembers; without one, that of the last run counts."""

    async def is_ready() -> bool:
        try:
            async with HttpClient(load_kubeconfig(layout.kubeconfig)) as client:
                nodes = await client.list(Node)
        except PybrixError:
            return False
        return any((c := find_condition(n.status.conditions, "Ready")) and c.is_true for n in nodes.items)

    options = [part for name, value in (chosen or {}).items() if value is not None for part in (name, value)]
    return Component(
        "cluster",
        _python("cluster", "run", "--data-dir", layout.root, "--api-port", str(api_port), *options),
        layout.logs_dir / "cluster.log",
        is_ready,
        stop_grace_s=CLUSTER_STOP_S,
        # Asked to stop, it ends its pods; killed, it leaves them to its successor.
        replace_signal=signal.SIGKILL,
    )


def brain(layout: Layout, place: GatewayPlace) -> Component:
    return Component(
        f"brain{place.suffix}",
        _python(
            "gateway", "brain",
            "--config", place.configuration,
            "--kubeconfig", layout.kubeconfig,
            "--gateway-dir", place.directory,
            "--run-dir", place.run_dir,
        ),
        layout.logs_dir / f"brain{place.suffix}.log",
        _answers(place.brain_socket, "/readyz"),
    )  # fmt: skip


def envoy(layout: Layout, place: GatewayPlace, config: GatewayConfiguration, envoy_path: Path | None) -> Component:
    return _envoy(layout, place, config, f"envoy{place.suffix}", ("envoy", "--gateway-dir"), envoy_path)


def balancer(layout: Layout, config: GatewayConfiguration, envoy_path: Path | None) -> Component:
    return _envoy(layout, layout.balancer, config, "balancer", ("balancer", "--balancer-dir"), envoy_path)


def _envoy(
    layout: Layout,
    place: Place,
    config: GatewayConfiguration,
    name: str,
    command: tuple[str, str],
    envoy_path: Path | None,
) -> Component:
    is_live = _answers(place.envoy_paths.admin_socket, "/ready")

    async def is_ready() -> bool:
        # The listener opens when the first configuration has been read, which may be after the process is live.
        return await is_live() and await serves()

    async def serves() -> bool:
        # Its admin socket does not tell: a successor that does not come up has taken that away already.
        return await _answers_http(config.address, config.port)

    return Component(
        name,
        _python(
            "gateway", command[0],
            "--config", place.configuration,
            command[1], place.directory,
            "--run-dir", place.run_dir,
            *(("--envoy-path", envoy_path) if envoy_path else ()),
        ),
        layout.logs_dir / f"{name}.log",
        is_ready,
        stop_grace_s=config.listener_drain_s + config.drain_timeout_s + 5,
        generation=partial(find_epoch, place.envoy_paths),
        serves=serves,
    )  # fmt: skip


def controllers(layout: Layout) -> Component:
    return Component(
        "controllers",
        _python(
            "controllers", "run",
            "--kubeconfig", layout.kubeconfig,
            # One process, watched by the supervisor: nobody to elect it against.
            "--no-leader-elect",
            "--health-socket", layout.controllers_socket,
        ),
        layout.logs_dir / "controllers.log",
        _answers(layout.controllers_socket, "/readyz"),
        stop_grace_s=CONTROLLERS_STOP_S,
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


async def _answers_http(address: str, port: int) -> bool:
    """Say whether somebody answers on a port, whatever it says; to connect also works where nobody accepts."""
    try:
        async with asyncio.timeout(_PORT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                return await reader.read(1) != b""
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
