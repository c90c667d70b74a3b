"""Health and metrics of a brain on a port, for a kubelet and for Prometheus; nothing else is there."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from pathlib import Path

import aiohttp
import pytest

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.gateway.app import run_brain
from tests.support.gateway import make_pod
from tests.support.podapi import PodApi
from tests.support.waiting import until


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_health_and_metrics_are_on_the_port_and_the_view_is_not() -> None:
    with tempfile.TemporaryDirectory(prefix="in-") as place, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        stop = asyncio.Event()

        async def is_ready() -> bool:
            try:
                return (await get(port, "/readyz"))[0] == 200
            except aiohttp.ClientError:
                return False

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                run_brain(
                    GatewayConfiguration(),
                    client=PodApi(make_pod("a")),
                    data_dir=Path(place, "data"),
                    run_dir=Path(place, "run"),
                    stop=stop,
                    is_gc_tuned=False,
                    health=("127.0.0.1", port),
                )
            )
            await until(is_ready)
            assert (await get(port, "/healthz"))[0] == 200
            assert "pybrix_gateway_reservations_held" in (await get(port, "/metrics"))[1]
            assert (await get(port, "/debug/view"))[0] == 404
            stop.set()


async def test_a_taken_port_is_said_plainly() -> None:
    with tempfile.TemporaryDirectory(prefix="in-") as place, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
            await run_brain(
                GatewayConfiguration(),
                client=PodApi(make_pod("a")),
                data_dir=Path(place, "data"),
                run_dir=Path(place, "run"),
                stop=asyncio.Event(),
                is_gc_tuned=False,
                health=("127.0.0.1", port),
            )
