"""The simulated engine over real HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from pybrix.engine.prometheus import extract_sums
from pybrix.engine.sse import DONE, EventParser
from pybrix.simulator.failures import parse_failures
from pybrix.simulator.model import ModelOptions
from pybrix.simulator.options import SimulatorOptions
from tests.support.simulated import Simulated, simulated

FAST = SimulatorOptions(("m",), time_scale=0.0)
SLOW = SimulatorOptions(("m",), model=ModelOptions(decode_step_s=0.01))
NEVER = SimulatorOptions(("m",), model=ModelOptions(decode_step_s=3600.0))


def chat_body(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


async def metrics(engine: Simulated, *names: str) -> dict[str, float]:
    async with engine.client.get("/metrics") as response:
        return extract_sums(await response.read(), names)


async def test_one_question_has_one_answer_and_another_question_another() -> None:
    async with simulated(FAST) as engine:
        answers = [await engine.chat(text) for text in ("hello", "hello", "bye")]
    texts = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert texts[0] == texts[1] != texts[2]
    assert answers[0]["object"] == "chat.completion"
    assert answers[0]["usage"]["total_tokens"] == sum(
        answers[0]["usage"][part] for part in ("prompt_tokens", "completion_tokens")
    )


async def test_a_repeated_prompt_is_found_in_the_cache() -> None:
    async with simulated(FAST) as engine:
        text = "a long question " * 40
        first, second = await engine.chat(text), await engine.chat(text)
        hits = await metrics(engine, "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")
    assert first["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert 0 < cached < second["usage"]["prompt_tokens"]
    assert hits == {
        "vllm:prefix_cache_hits_total": cached,
        "vllm:prefix_cache_queries_total": 2 * first["usage"]["prompt_tokens"],
    }


async def test_a_streams_headers_come_before_prefill() -> None:
    async with simulated(NEVER) as engine, asyncio.timeout(60):
        async with engine.client.post("/v1/chat/completions", json=chat_body(stream=True)) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            assert engine.engine.num_requests == 1
        await engine.server.drain(5)
        assert engine.engine.model.is_idle


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_client_that_goes_away_frees_its_blocks(is_streamed: bool) -> None:
    async with simulated(NEVER) as engine, asyncio.timeout(60):
        asking = asyncio.create_task(_ask(engine, is_streamed))
        while await _load(engine) == 0:
            assert not asking.done()
        asking.cancel()
        await asyncio.wait([asking])
        await engine.server.drain(5)
        assert engine.engine.model.is_idle
        assert engine.engine.model.pool.usage_ratio == 0.0
        async with aiohttp.ClientSession() as client, client.get(engine.url + "/metrics") as response:
            assert b'finished_reason="abort"} 1.0' in await response.read()


async def _load(engine: Simulated) -> int:
    async with engine.client.get("/load") as response:
        return int((await response.json())["server_load"])


async def _ask(engine: Simulated, is_streamed: bool) -> None:
    async with aiohttp.ClientSession() as client:
        url = engine.url + "/v1/chat/completions"
        async with client.post(url, json=chat_body(stream=is_streamed)) as response:
            await response.read()


async def test_a_stream_arrives_in_pieces_and_ends_with_usage() -> None:
    async with simulated(SLOW) as engine:
        whole = await engine.chat("hello", max_tokens=20)
        body = chat_body(max_tokens=20, stream=True, stream_options={"include_usage": True})
        parser, found, pieces = EventParser(), [], 0
        async with engine.client.post("/v1/chat/completions", json=body) as response:
            async for chunk in response.content.iter_any():
                pieces += 1
                found += parser.feed(chunk)
    assert found[-1] == DONE
    assert pieces > 5
    assert b'"usage":{"prompt_tokens":%d,' % whole["usage"]["prompt_tokens"] in found[-2]


async def test_requests_of_one_batch_run_together() -> None:
    options = SimulatorOptions(("m",), model=ModelOptions(decode_step_s=0.05))
    async with simulated(options) as engine:
        await asyncio.gather(*(engine.chat(f"q{n}", max_tokens=10, ignore_eos=True) for n in range(8)))
        steps = (await metrics(engine, "vllm:iteration_tokens_total_count"))["vllm:iteration_tokens_total_count"]
    # One after the other would be 80; together it is 10, and one more for each step in which some had not come yet.
    assert 10 <= steps < 40


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v1/chat/completions", '{"model":"x","messages":[{"role":"user","content":"a"}]}', 404, "NotFound"),
        ("POST", "/v1/chat/completions", "{", 400, "BadRequestError"),
        ("POST", "/v1/completions", '{"model":"x","prompt":"a"}', 404, "The model `x` does not exist."),
        ("POST", "/tokenize", "{}", 400, "Either prompt or messages"),
        ("POST", "/detokenize", '{"tokens":[-1]}', 400, "out of vocabulary"),
        ("GET", "/nothing", "", 404, '{"detail": "Not Found"}'),
        ("GET", "/v1/chat/completions", "", 405, '{"detail": "Method Not Allowed"}'),
    ],
)
async def test_errors_have_the_engines_shape(method: str, path: str, body: str, status: int, words: str) -> None:
    async with simulated(FAST) as engine, engine.client.request(method, path, data=body) as response:
        assert response.status == status
        assert response.content_type == "application/json"
        assert words in await response.text()


async def test_the_small_paths_answer() -> None:
    async with simulated(replace(FAST, served_model_names=("m", "other"), root="org/m")) as engine:
        async with engine.client.get("/v1/models") as response:
            cards = (await response.json())["data"]
        assert [(c["id"], c["root"], c["max_model_len"]) for c in cards] == [
            ("m", "org/m", 32768),
            ("other", "org/m", 32768),
        ]
        for path in ("/health", "/ping", "/version", "/load"):
            async with engine.client.get(path) as response:
                assert response.status == 200
        async with engine.client.post("/tokenize", json={"prompt": "some words"}) as response:
            found = await response.json()
        assert found["count"] == len(found["tokens"]) == 3
        async with engine.client.post("/detokenize", json={"tokens": found["tokens"]}) as response:
            assert await response.json() == {"prompt": "some words"}


async def test_an_api_key_guards_what_is_below_v1() -> None:
    async with simulated(replace(FAST, api_keys=("secret",))) as engine:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer no"}, 401),
            ({"Authorization": "Bearer secret"}, 200),
        ):
            async with engine.client.get("/v1/models", headers=headers) as response:
                assert response.status == status
        async with engine.client.get("/health") as response:
            assert response.status == 200


async def test_failures_that_were_asked_for_happen() -> None:
    async with simulated(replace(FAST, failures=parse_failures(["error-503"]))) as engine:
        response = await engine.client.post("/v1/chat/completions", json=chat_body())
        assert response.status == 503
    async with simulated(replace(FAST, failures=parse_failures(["reset-before-headers"]))) as engine:
        with pytest.raises(aiohttp.ClientConnectionError):
            await engine.client.post("/v1/chat/completions", json=chat_body())
        assert engine.engine.num_requests == 0


async def test_a_stream_that_is_cut_has_no_end() -> None:
    async with simulated(replace(SLOW, failures=parse_failures(["cut-stream"]))) as engine:
        async with engine.client.post("/v1/chat/completions", json=chat_body(stream=True)) as response:
            assert response.status == 200
            received = await response.content.readany()
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        assert b'"content":"' in received
        assert DONE not in received
        await engine.server.drain(5)
        assert engine.engine.model.is_idle
