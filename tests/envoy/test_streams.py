"""Streams: never cut by a change of configuration, ended at once when their engine dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from pybrix.envoy.wire import ModelCluster
from tests.support.gateway_parts import STREAM_HEAD, Engine, Request, chunk, eventually
from tests.support.http2 import http2_exchange
from tests.support.real_envoy import CHAT, Gateway, start_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Stream:
    """An open stream: the engine sends what the test says, when it says it."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.began = asyncio.Event()

    async def reply(self, request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        self.began.set()
        while (data := await self.said.get()) is not None:
            writer.write(chunk(data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")


@asynccontextmanager
async def open_stream(gateway: Gateway, engine: Engine) -> AsyncIterator[tuple[Stream, aiohttp.ClientResponse]]:
    stream = Stream()
    engine.reply = stream.reply
    gateway.brain.route("default/m", engine.pod)
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        stream.said.put_nowait(b"first")
        assert await answer.content.readexactly(5) == b"first"
        yield stream, answer


async def test_a_stream_goes_on_when_its_endpoint_leaves(gateway: Gateway) -> None:
    async with open_stream(gateway, gateway.engines[0]) as (stream, answer):
        pods = tuple(engine.pod for engine in gateway.engines)
        await gateway.apply((ModelCluster("default", "m", pods[1:]), *gateway.models[1:]))
        await gateway.apply((ModelCluster("default", "m"), *gateway.models[1:]))
        stream.said.put_nowait(b"later")
        assert await answer.content.readexactly(5) == b"later"
        stream.said.put_nowait(None)
        assert await answer.content.read() == b""


async def test_a_stream_goes_on_when_its_model_is_deleted(gateway: Gateway) -> None:
    async with open_stream(gateway, gateway.engines[0]) as (stream, answer):
        await gateway.apply(gateway.models[1:])
        stream.said.put_nowait(b"later")
        assert await answer.content.readexactly(5) == b"later"
        stream.said.put_nowait(None)
        assert await answer.content.read() == b""


async def test_an_endpoint_that_left_gets_no_further_request(gateway: Gateway) -> None:
    first, second = gateway.engines[:2]
    gateway.brain.route("default/m", first.pod, second.pod)
    await gateway.apply((ModelCluster("default", "m", (second.pod,)), *gateway.models[1:]))
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        assert answer.headers["target-pod"] == "pod-1"
    assert first.requests == []


async def test_a_stream_ends_at_once_when_its_engine_dies(gateway: Gateway) -> None:
    async with open_stream(gateway, gateway.engines[0]) as (_, answer):
        # Nothing else would end it for a long time: neither a deadline nor the idle timeout.
        await gateway.engines[0].kill()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    record = await gateway.sink.wait_for(answer.headers["request-id"])
    assert (record["status"], record["attempts"]) == (200, 1)
    assert record["flags"] != "-"


async def test_long_streams_are_renewed_in_the_access_log(gateway: Gateway) -> None:
    async with open_stream(gateway, gateway.engines[0]) as (stream, answer):
        renewal = await gateway.sink.wait_for(answer.headers["request-id"], "DownstreamPeriodic")
        assert (renewal["reservation"], renewal["cluster"]) == ("r1", "default/m")
        assert renewal["ttft_ms"] is not None
        stream.said.put_nowait(None)
        await answer.read()
    record = await gateway.sink.wait_for(answer.headers["request-id"])
    assert record["duration_ms"] >= renewal["duration_ms"]


async def test_time_to_first_token_is_that_of_the_body(gateway: Gateway) -> None:
    stream = Stream()
    gateway.engines[0].reply = stream.reply
    gateway.brain.route("default/m", gateway.engines[0].pod)
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        await asyncio.sleep(0.15)
        stream.said.put_nowait(b"token")
        stream.said.put_nowait(None)
        await answer.read()
    record = await gateway.sink.wait_for(answer.headers["request-id"])
    assert 150 <= record["ttft_ms"] <= record["duration_ms"]


async def test_a_client_that_leaves_ends_the_engine_s_work(gateway: Gateway) -> None:
    left = asyncio.Event()

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(b"first"))
        await writer.drain()
        await eventually(lambda: closing(writer))
        left.set()

    async def closing(writer: asyncio.StreamWriter) -> bool:
        writer.write(chunk(b"more"))
        return writer.is_closing()

    gateway.engines[0].reply = reply
    gateway.brain.route("default/m", gateway.engines[0].pod)
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        await answer.content.readexactly(5)
        answer.close()
    async with asyncio.timeout(60):
        await left.wait()
    record = await gateway.sink.wait_for(answer.headers["request-id"])
    assert "DC" in record["flags"]


async def test_a_pod_that_restarts_at_its_address_poisons_nothing(gateway: Gateway) -> None:
    engine = gateway.engines[0]
    await gateway.apply((ModelCluster("default", "m", (engine.pod,)), *gateway.models[1:]))
    gateway.brain.route("default/m", engine.pod)
    for _ in range(10):
        async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
            assert answer.status == 200
        await engine.kill()
        await engine.start()


async def test_http2_without_tls(gateway: Gateway) -> None:
    gateway.brain.route("default/m", gateway.engines[0].pod)
    body = await http2_exchange(gateway.config.address, gateway.config.port, "POST", CHAT, b'{"model": "m"}')
    assert b'"size": 14' in body
    assert b'"object": "list"' in await http2_exchange(
        gateway.config.address, gateway.config.port, "GET", "/v1/models", b""
    )


async def test_the_sink_of_records_may_come_back(gateway: Gateway) -> None:
    gateway.brain.route("default/m", gateway.engines[0].pod)
    await gateway.sink.restart()

    async def is_logged() -> bool:
        async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
            await answer.read()
        try:
            return bool(await gateway.sink.wait_for(answer.headers["request-id"], timeout_s=0.3))
        except TimeoutError:
            return False

    await eventually(is_logged)


async def test_an_answer_ends_at_the_deadline_that_is_configured() -> None:
    async with AsyncExitStack() as stack:
        gateway = await start_gateway(stack, stream_deadline_s=0.3)
        async with open_stream(gateway, gateway.engines[0]) as (stream, answer):
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.read()
            stream.said.put_nowait(None)
