"""The balancer with a real Envoy: gateways that come, leave, die and drain, and a successor of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec
import pytest_asyncio

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy.admin import EnvoyAdmin
from pybrix.envoy.balancer import gateways_file, render_gateways
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.files import write_atomically
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess, prepare_balancer, validate
from tests.support.gateway_parts import STREAM_HEAD, Engine, Request, chunk, eventually, free_port


@dataclass
class Balanced:
    """A balancer in front of servers that stand for gateways."""

    config: GatewayConfiguration
    paths: EnvoyPaths
    envoy: EnvoyProcess
    gateways: list[Engine]
    client: aiohttp.ClientSession

    def list(self, *gateways: Engine) -> None:
        write_atomically(
            gateways_file(self.paths), render_gateways([(each.pod.address, each.pod.port) for each in gateways])
        )

    async def ask(self) -> int:
        async with self.client.post("/v1/chat/completions", json={"model": "m"}) as answer:
            await answer.read()
            return answer.status

    async def healthy(self) -> int:
        async with EnvoyAdmin(self.paths.admin_socket) as admin:
            return (await admin.stats(r"^cluster\.gateways\.membership_healthy$")).get(
                "cluster.gateways.membership_healthy", 0
            )


@pytest_asyncio.fixture
async def balanced() -> AsyncIterator[Balanced]:
    async with AsyncExitStack() as stack:
        base = Path(stack.enter_context(TemporaryDirectory(prefix="pybrix-balancer-")))
        paths = EnvoyPaths(base / "run", base / "balancer")
        config = GatewayConfiguration(port=free_port(), connect_timeout_s=0.5)
        port = free_port()
        gateways = [Engine(f"g-{number}", f"127.66.1.{number + 1}", port) for number in range(3)]
        for each in gateways:
            await each.start()
            stack.push_async_callback(each.kill)
        paths.xds_dir.mkdir(parents=True)
        write_atomically(
            gateways_file(paths), render_gateways([(each.pod.address, each.pod.port) for each in gateways])
        )
        envoy = await EnvoyProcess.start(config, paths, binary=find_envoy(), prepare_files=prepare_balancer)
        stack.push_async_callback(envoy.stop)
        client = await stack.enter_async_context(aiohttp.ClientSession(f"http://{config.address}:{config.port}"))
        it = Balanced(config, paths, envoy, gateways, client)

        async def all_healthy() -> bool:
            return await it.healthy() == 3

        await eventually(all_healthy)
        yield it


async def test_envoy_accepts_the_bootstrap(tmp_path: Path) -> None:
    paths = EnvoyPaths(tmp_path / "run", tmp_path / "balancer")
    prepare_balancer(GatewayConfiguration(), paths)
    assert await validate(find_envoy(), paths.bootstrap) == ""


async def test_all_gateways_are_used_and_one_that_leaves_is_not(balanced: Balanced) -> None:
    assert {await balanced.ask() for _ in range(60)} == {200}
    assert all(asked(each) for each in balanced.gateways)
    balanced.list(*balanced.gateways[:2])

    async def is_out() -> bool:
        return await balanced.healthy() == 2

    await eventually(is_out)
    before = asked(balanced.gateways[2])
    assert {await balanced.ask() for _ in range(30)} == {200}
    assert asked(balanced.gateways[2]) == before


async def test_a_gateway_that_dies_before_it_answers_costs_no_request(balanced: Balanced) -> None:
    async def die(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    balanced.gateways[0].reply = die
    assert {await balanced.ask() for _ in range(30)} == {200}
    await balanced.gateways[0].kill()
    assert {await balanced.ask() for _ in range(30)} == {200}


async def test_a_stream_of_a_gateway_that_leaves_goes_on(balanced: Balanced) -> None:
    go_on = asyncio.Event()

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(b"first"))
        await go_on.wait()
        writer.write(chunk(b"last") + b"0\r\n\r\n")

    for each in balanced.gateways:
        each.reply = reply
    async with balanced.client.post("/v1/chat/completions", json={"model": "m"}) as answer:
        await answer.content.readexactly(5)
        balanced.list()

        async def is_empty() -> bool:
            return await balanced.healthy() == 0

        await eventually(is_empty)
        go_on.set()
        assert await answer.content.read() == b"last"


async def test_without_a_gateway_the_answer_is_an_error_of_openais_shape(balanced: Balanced) -> None:
    balanced.list()

    async def is_refused() -> bool:
        return await balanced.ask() == 503

    await eventually(is_refused)
    async with balanced.client.get("/v1/models") as answer:
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert (await answer.json())["error"]["code"] == "gateway_unreachable"


async def test_a_successor_takes_over_without_a_failed_request(balanced: Balanced) -> None:
    stop, statuses = asyncio.Event(), list[int]()

    async def load() -> None:
        while not stop.is_set():
            statuses.append(await balanced.ask())

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(load())
        successor = await EnvoyProcess.start(
            msgspec.structs.replace(balanced.config, drain_timeout_s=1),
            balanced.paths,
            binary=find_envoy(),
            restart_epoch=1,
            prepare_files=prepare_balancer,
        )
        try:
            assert await balanced.envoy.stop(drain_s=30) == 0
            count = len(statuses)

            async def goes_on() -> bool:
                return len(statuses) > count + 50

            await eventually(goes_on)
        finally:
            stop.set()
            await asyncio.sleep(0)
    assert set(statuses) == {200}
    await successor.stop()


def asked(gateway: Engine) -> int:
    """Return how many questions a gateway was asked; health checks are none."""
    return sum(request.path.startswith("/v1") for request in gateway.requests)
