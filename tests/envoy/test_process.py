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
from pybrix.envoy.hotrestart import base_id, count_live, next_epoch
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess, prepare, validate
from tests.support.gateway_parts import STREAM_HEAD, Request, chunk, eventually, free_port
from tests.support.real_envoy import CHAT, Gateway, refuses_connections, start_gateway


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


def test_directories_that_take_turns_under_one_path_have_base_ids_of_their_own(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    first = base_id(run_dir)
    assert base_id(run_dir) == first
    run_dir.rename(tmp_path / "elsewhere")
    run_dir.mkdir()
    assert base_id(run_dir) != first


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
                stopping = group.create_task(gateway.envoy.stop(drain_s=60, listener_s=3))
                await eventually(lambda: asks_clients_to_leave(gateway))
                assert not stopping.done()
                assert await health(gateway) == 503, "not ready from the first moment on"
                await eventually(lambda: refuses_connections(gateway.config))
                assert not stopping.done()
                go_on.set()
                assert await answer.content.read() == b"last"
        assert gateway.envoy.returncode is not None
        assert stopping.result() == 0, "nothing was cut"


@pytest.mark.parametrize("is_hurried", [True, False])
async def test_what_is_cut_is_counted(is_hurried: bool) -> None:
    async with AsyncExitStack() as stack:
        gateway = await start_gateway(stack)

        async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + chunk(b"first"))
            await asyncio.Event().wait()

        gateway.engines[0].reply = reply
        gateway.brain.route("default/m", gateway.engines[0].pod)
        hurry = asyncio.Event()
        async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
            await answer.content.readexactly(5)
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(gateway.envoy.stop(drain_s=60 if is_hurried else 0.3, hurry=hurry))
                await eventually(lambda: refuses_connections(gateway.config))
                if is_hurried:
                    hurry.set()
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.read()
        assert stopping.result() == 1


async def health(gateway: Gateway) -> int:
    async with gateway.client.get("/healthz") as answer:
        return answer.status


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

        config = msgspec.structs.replace(gateway.config, drain_timeout_s=3.0)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            epoch = await next_epoch(gateway.paths, patience_s=0)
            successor = await EnvoyProcess.start(config, gateway.paths, binary=find_envoy(), restart_epoch=epoch)
            stack.push_async_callback(successor.stop)
            assert await gateway.envoy.is_superseded()
            assert not await successor.is_superseded()
            assert count_live(gateway.paths.run_dir) == 2
            # Its successor ends it; ended by anyone else, it would take its successor along.
            assert await gateway.envoy.stop(drain_s=30) == 0
            assert gateway.envoy.returncode == 0
            async with EnvoyAdmin(gateway.paths.admin_socket) as admin:
                assert await admin.active_requests() >= 0, "statistics are no longer asked of the predecessor"
            assert count_live(gateway.paths.run_dir) == 1
            before = len(statuses)

            async def has_moved() -> bool:
                return len(statuses) > before + 200

            await eventually(has_moved)
            stop.set()
        assert set(statuses) == {200}
        assert successor.returncode is None
        assert await next_epoch(gateway.paths, patience_s=0) == 2


async def test_a_successor_that_fails_leaves_the_old_one_and_the_next_one_is_told(paths: EnvoyPaths) -> None:
    config = GatewayConfiguration(port=free_port())

    def prepare_broken(config: GatewayConfiguration, paths: EnvoyPaths) -> None:
        prepare(config, paths)
        bootstrap = msgspec.json.decode(paths.bootstrap.read_bytes())
        bootstrap["static_resources"]["listeners"] = [{"name": "no filter chains"}]
        paths.bootstrap.write_bytes(msgspec.json.encode(bootstrap))

    first = await EnvoyProcess.start(config, paths, binary=find_envoy())
    try:
        for prepare_files, want in ((prepare_broken, "no filter chains"), (prepare, "takes no successor")):
            # The admin socket went with the one that failed.
            epoch = await next_epoch(paths, patience_s=0)
            assert epoch == 1
            with pytest.raises(UsageError, match=want):
                await EnvoyProcess.start(
                    config, paths, binary=find_envoy(), restart_epoch=epoch, prepare_files=prepare_files
                )
            assert first.returncode is None
    finally:
        await first.stop()
