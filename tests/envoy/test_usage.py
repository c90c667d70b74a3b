"""Token usage, found by Envoy in responses of any shape and cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from tests.support.gateway_parts import STREAM_HEAD, Reply, Request, chunk, response
from tests.support.real_envoy import CHAT, Gateway, start_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

USAGE = {
    "prompt_tokens": 17,
    "total_tokens": 42,
    "completion_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 16},
}
WANT = (17, 25, 16)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def counts(record: dict[str, Any]) -> tuple[Any, Any, Any]:
    return record.get("prompt_tokens"), record.get("completion_tokens"), record.get("cached_tokens")


def sends(pieces: Iterable[bytes]) -> Reply:
    """Return a reply whose pieces arrive at Envoy one by one."""

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for piece in pieces:
            await writer.drain()
            # Envoy reads what is there: giving it a turn makes most pieces frames of their own.
            await asyncio.sleep(0.002)
            writer.write(chunk(piece))
        writer.write(b"0\r\n\r\n")

    return reply


async def record_of(gateway: Gateway, reply: Reply, body: bytes | None = None) -> dict[str, Any]:
    engine = gateway.engines[0]
    engine.reply = reply
    gateway.brain.route("default/m", engine.pod)
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        got = await answer.read()
    if body is not None:
        assert got == body
    return await gateway.sink.wait_for(answer.headers["request-id"])


STREAM = (
    event(choices=[{"delta": {"content": 'the "usage" of "usage": {'}}], usage=None)
    + event(choices=[{"logprobs": {"content": [{"token": "usage"}]}}])
    + event(choices=[], usage=USAGE)
    + b"data: [DONE]\n\n"
)


async def test_usage_is_found_wherever_a_stream_is_cut(gateway: Gateway) -> None:
    start = STREAM.index(b'"usage": {"prompt') - 3
    cuts = range(start, STREAM.index(b"[DONE]"))

    async def one(cut: int) -> tuple[int, tuple[Any, Any, Any]]:
        async with gateway.client.post(CHAT, json={"model": "m", "cut": cut}) as answer:
            assert await answer.read() == STREAM
        return cut, counts(await gateway.sink.wait_for(answer.headers["request-id"]))

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        cut = json.loads(request.body)["cut"]
        await sends([STREAM[:cut], STREAM[cut:]])(request, writer)

    for engine in gateway.engines:
        engine.reply = reply
    gateway.brain.route("default/m", *(engine.pod for engine in gateway.engines))
    found = await asyncio.gather(*(one(cut) for cut in cuts))
    assert [cut for cut, got in found if got != WANT] == []


async def test_usage_is_found_byte_by_byte(gateway: Gateway) -> None:
    body = STREAM[STREAM.index(b"logprobs") :]
    record = await record_of(gateway, sends(bytes([each]) for each in body), body)
    assert counts(record) == WANT


@pytest.mark.parametrize(
    ("stream", "want"),
    [
        ([event(usage={"prompt_tokens": 9, "completion_tokens": number}) for number in range(100)], (9, 99, None)),
        (
            [
                event(type="message_start", message={"usage": {"input_tokens": 11, "output_tokens": 1}}),
                event(type="message_delta", usage={"output_tokens": 7}),
            ],
            (11, 7, None),
        ),
        (
            [
                event(
                    type="response.completed",
                    response={
                        "usage": {
                            "input_tokens": 5,
                            "input_tokens_details": {"cached_tokens": 4},
                            "output_tokens": 6,
                            "output_tokens_details": {"reasoning_tokens": 2},
                        }
                    },
                )
            ],
            (5, 6, 4),
        ),
        ([event(choices=[]), b"data: [DONE]\n\n"], (None, None, None)),
        ([event(usage={"prompt_tokens": "many"}), event(usage="x" * 9000), event(usage=[1])], (None, None, None)),
        ([b'data: {"usage": {' + b" " * 6000 + b'"prompt_tokens": 1}}\n\n'], (1, None, None)),
        ([b'data: {"usage": {' + b" " * 3000, b" " * 3000, event(usage={"prompt_tokens": 2})], (2, None, None)),
    ],
    ids=["continuous", "messages", "responses", "none", "nonsense", "long-in-one", "never-ends"],
)
async def test_the_last_usage_of_a_stream_counts(gateway: Gateway, stream: list[bytes], want: tuple[Any, ...]) -> None:
    record = await record_of(gateway, sends(stream), b"".join(stream))
    assert counts(record) == want


async def test_usage_of_a_json_answer(gateway: Gateway) -> None:
    text = 'a "usage": {"prompt_tokens": 1} ' * 20_000
    body = json.dumps({"choices": [{"message": {"content": text}}], "usage": USAGE}, indent=2).encode()

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, {"content-type": "application/json"}, body))

    assert counts(await record_of(gateway, reply, body)) == WANT


async def test_usage_so_far_is_kept_when_an_engine_dies(gateway: Gateway) -> None:
    engine = gateway.engines[0]

    async def reply(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for number in range(40):
            writer.write(chunk(event(usage={"prompt_tokens": 3, "completion_tokens": number})))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    engine.reply = reply
    gateway.brain.route("default/m", engine.pod)
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        with pytest.raises(Exception, match="payload"):
            await answer.read()
    record = await gateway.sink.wait_for(answer.headers["request-id"])
    assert record["prompt_tokens"] == 3
    assert 30 <= record["completion_tokens"] < 40


@pytest_asyncio.fixture(loop_scope="module")
async def uncounting() -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        yield await start_gateway(stack, is_usage_counted=False)


async def test_nothing_is_counted_when_it_is_off(uncounting: Gateway) -> None:
    record = await record_of(uncounting, sends([STREAM]), STREAM)
    assert counts(record) == (None, None, None)
    assert record["status"] == 200
