"""Starting and ending Envoy."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec
import pytest

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.envoy.admin import EnvoyAdmin
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.bootstrap import render_bootstrap
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess, base_id, prepare, validate
from tests.support.gateway_parts import STREAM_HEAD, Request, chunk, eventually, free_port
from tests.support.real_envoy import CHAT, Gateway, start_gateway


@pytest.fixture
def paths() -> Iterator[EnvoyPaths]:
    with TemporaryDirectory(prefix="pybrix-envoy-") as base:
        yield EnvoyPaths(Path(base) / "run", Path(base) / "gateway")


async def test_envoy_accepts_the_bootstrap(paths: EnvoyPaths) -> None:
    prepare(GatewayConfiguration(), paths)
    assert await validate(find_envoy(), paths.bootstrap) == ""
    broken = render_bootstrap(GatewayConfiguration(), paths) | {"admin": 3}
    paths.bootstrap.write_bytes(msgspec.json.encode(broken))
    assert "admin" in await validate(find_envoy(), paths.bootstrap)


async def test_it_starts_before_the_brain_has_written_anything(paths: EnvoyPaths) -> None:
    config = GatewayConfiguration(port=free_port())
    envoy = await EnvoyProcess.start(config, paths, binary=find_envoy())
    try:
        async with EnvoyAdmin(paths.admin_socket) as admin:
            assert await admin.is_live()
        assert stat.S_IMODE(paths.run_dir.stat().st_mode) == 0o700
    finally:
        await envoy.stop()
    assert envoy.returncode is not None
    assert list(paths.run_dir.iterdir()) == []


async def test_it_starts_again_where_one_was_killed(paths: EnvoyPaths) -> None:
    config = GatewayConfiguration(port=free_port())
    first = await EnvoyProcess.start(config, paths, binary=find_envoy())
    os.kill(first.pid, signal.SIGKILL)
    assert await first.wait() == -signal.SIGKILL
    second = await EnvoyProcess.start(config, paths, binary=find_envoy())
    assert second.returncode is None
    os.kill(second.pid, signal.SIGKILL)
    await second.wait()
    # The first one's owner comes late: the socket goes, whoever has left it.
    await first.stop()
    assert not paths.admin_socket.exists()


async def test_the_socket_of_a_successor_stays(paths: EnvoyPaths) -> None:
    config = GatewayConfiguration(port=free_port())
    first = await EnvoyProcess.start(config, paths, binary=find_envoy())
    os.kill(first.pid, signal.SIGKILL)
    await first.wait()
    second = await EnvoyProcess.start(config, paths, binary=find_envoy())
    await first.stop()
    async with EnvoyAdmin(paths.admin_socket) as admin:
        assert await admin.is_live()
    await second.stop()
    assert not paths.admin_socket.exists()


async def test_a_taken_port_is_told_before_anything_starts(paths: EnvoyPaths) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free_port()))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
            await EnvoyProcess.start(GatewayConfiguration(port=port), paths, binary=find_envoy())
    assert not paths.gateway_dir.exists()


async def test_an_envoy_that_gives_up_is_told_with_its_own_words(paths: EnvoyPaths) -> None:
    prepare(GatewayConfiguration(), paths)
    paths.clusters.write_text("{not json")
    paths.admin_socket.mkdir()
    with pytest.raises(UsageError, match="Envoy exited with 1"):
        await EnvoyProcess.start(GatewayConfiguration(port=free_port()), paths, binary=find_envoy())


async def test_a_run_directory_too_long_for_sockets_is_told(paths: EnvoyPaths) -> None:
    long = EnvoyPaths(paths.run_dir / ("x" * 100), paths.gateway_dir)
    with pytest.raises(UsageError, match="too long for a Unix socket"):
        await EnvoyProcess.start(GatewayConfiguration(port=free_port()), long, binary=find_envoy())


def test_a_missing_envoy_is_told_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--envoy-path"):
        find_envoy(tmp_path / "envoy")
    (tmp_path / "envoy").touch(mode=0o600)
    with pytest.raises(UsageError, match=r"chmod \+x"):
        find_envoy(tmp_path / "envoy")
    assert os.access(find_envoy(), os.X_OK)


def test_every_run_directory_has_a_base_id_of_its_own(tmp_path: Path) -> None:
    assert base_id(tmp_path / "a") == base_id(tmp_path / "a")
    assert base_id(tmp_path / "a") != base_id(tmp_path / "b")


async def test_stopping_waits_for_streams() -> None:
    async with AsyncExitStack() as stack:
        gateway = await start_gateway(stack)
        go_on = asyncio.Event()

        async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + chunk(b"first"))
            await go_on.wait()
            writer.write(chunk(b"last") + b"0\r\n\r\n")

        gateway.engines[0].reply = reply
        gateway.brain.route("default/m", gateway.engines[0].pod)
        async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
            await answer.content.readexactly(5)
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(gateway.envoy.stop(drain_s=10))
                await eventually(lambda: asks_clients_to_leave(gateway))
                assert not stopping.done()
                go_on.set()
                assert await answer.content.read() == b"last"
        assert gateway.envoy.returncode is not None


async def asks_clients_to_leave(gateway: Gateway) -> bool:
    async with gateway.client.get("/v1/models") as answer:
        return answer.headers.get("connection") == "close"


async def test_a_new_envoy_takes_over_without_a_failed_request() -> None:
    async with AsyncExitStack() as stack:
        gateway = await start_gateway(stack)
        gateway.brain.route("default/m", *(engine.pod for engine in gateway.engines))
        stop = asyncio.Event()
        statuses: list[int] = []

        async def load() -> None:
            async with aiohttp.ClientSession(f"http://{gateway.config.address}:{gateway.config.port}") as client:
                while not stop.is_set():
                    async with client.post(CHAT, json={"model": "m"}) as answer:
                        await answer.read()
                        statuses.append(answer.status)

        config = msgspec.structs.replace(gateway.config, drain_timeout_s=1.0)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            successor = await EnvoyProcess.start(config, gateway.paths, binary=find_envoy(), restart_epoch=1)
            stack.push_async_callback(successor.stop)
            before = len(statuses)

            async def has_moved() -> bool:
                return len(statuses) > before + 200

            await eventually(has_moved, timeout_s=10)
            stop.set()
        assert set(statuses) == {200}
        assert successor.returncode is None
