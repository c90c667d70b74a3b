"""`pybrix gateway envoy` as a process: how it ends, and how one takes over from another."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.envoy.hotrestart import base_id, count_live, find_epoch, next_epoch
from pybrix.envoy.paths import EnvoyPaths
from tests.support.gateway_parts import STREAM_HEAD, Request, chunk, eventually, free_port
from tests.support.installation import PYBRIX
from tests.support.real_envoy import CHAT, refuses_connections, start_gateway

DRAIN_S = 1.0


class Commands:
    """Starts the command again and again in one run directory."""

    def __init__(self, paths: EnvoyPaths, config: GatewayConfiguration) -> None:
        self.paths = paths
        self._file = paths.gateway_dir / "configuration.json"
        paths.gateway_dir.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(msgspec.json.encode(config))
        self.started: list[asyncio.subprocess.Process] = []

    async def start(self) -> asyncio.subprocess.Process:
        """Start one and return when it serves."""
        before = await find_epoch(self.paths)
        process = await asyncio.create_subprocess_exec(
            *(*PYBRIX, "gateway", "envoy", "--config", str(self._file)),
            *("--gateway-dir", str(self.paths.gateway_dir), "--run-dir", str(self.paths.run_dir)),
            stderr=asyncio.subprocess.PIPE,
        )
        self.started.append(process)

        async def serves() -> bool:
            return await find_epoch(self.paths) not in (None, before)

        await eventually(serves)
        return process

    async def aclose(self) -> None:
        for process in reversed(self.started):
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest_asyncio.fixture
async def commands() -> AsyncIterator[Commands]:
    with TemporaryDirectory(prefix="pybrix-envoy-") as base:
        paths = EnvoyPaths(Path(base) / "run", Path(base) / "gateway")
        it = Commands(paths, GatewayConfiguration(port=free_port(), drain_timeout_s=DRAIN_S))
        yield it
        await it.aclose()


async def test_a_second_one_takes_over_and_the_first_ends_by_itself(commands: Commands) -> None:
    first = await commands.start()
    assert await find_epoch(commands.paths) == 0
    second = await commands.start()
    assert await find_epoch(commands.paths) == 1
    assert await asyncio.wait_for(first.wait(), 60) == 0
    # The third waits until the first is gone, and so does not cut what it has.
    third = await commands.start()
    assert await find_epoch(commands.paths) == 2
    assert await asyncio.wait_for(second.wait(), 60) == 0
    third.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(third.wait(), 60) == 0
    assert count_live(commands.paths.run_dir) == 0


async def test_one_whose_admin_socket_was_removed_is_taken_over_from(commands: Commands) -> None:
    first = await commands.start()
    assert first.stderr is not None
    assert b"envoy is live" in await first.stderr.readline()
    commands.paths.admin_socket.unlink()
    second = await commands.start()
    assert await find_epoch(commands.paths) == 1
    assert await asyncio.wait_for(first.wait(), 60) == 0
    assert second.returncode is None


async def test_one_that_cannot_be_taken_over_from_is_named_and_left_alone(commands: Commands) -> None:
    commands.paths.run_dir.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        # As an Envoy holds it that belongs to another container.
        held.bind(f"\0envoy_domain_socket_parent_{base_id(commands.paths.run_dir) * 10}\0")
        with pytest.raises(UsageError, match=r"does not answer on .*envoy-admin\.sock"):
            await next_epoch(commands.paths, patience_s=0)


async def test_a_second_signal_cuts_what_is_under_way_and_counts_it() -> None:
    async with AsyncExitStack() as stack:
        gateway = await start_gateway(stack)

        async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + chunk(b"first"))
            await asyncio.Event().wait()

        gateway.engines[0].reply = reply
        gateway.brain.route("default/m", gateway.engines[0].pod)
        config = msgspec.structs.replace(gateway.config, drain_timeout_s=60.0)
        # It takes over from the one that the test has started.
        commands = Commands(gateway.paths, config)
        stack.push_async_callback(commands.aclose)
        process = await commands.start()
        # The gateway's own client is still connected to the predecessor.
        url = f"http://{gateway.config.address}:{gateway.config.port}"
        client = await stack.enter_async_context(aiohttp.ClientSession(url))
        async with client.post(CHAT, json={"model": "m"}) as answer:
            await answer.content.readexactly(5)
            process.send_signal(signal.SIGTERM)
            # The first is taken in before there can be a second.
            await eventually(lambda: refuses_connections(gateway.config))
            process.send_signal(signal.SIGTERM)
            _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1
        assert b"requests that were cut: 1 (" in said
