"""Requests as they come and what is made of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pybrix.engine.openai import ChatCompletionChunk, ChatCompletionRequest, Completion, CompletionRequest
from pybrix.engine.sse import DONE, EventParser
from pybrix.simulator import protocol, tokens
from pybrix.simulator.options import SimulatorOptions
from pybrix.simulator.protocol import RequestError, StreamRenderer, Work

OPTIONS = SimulatorOptions(served_model_names=("m", "alias"), max_model_len=256)


def chat(**fields: Any) -> Work:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
    return protocol.plan_chat(protocol.parse_body(json.dumps(body).encode(), ChatCompletionRequest), OPTIONS)


def completion(**fields: Any) -> Work:
    body = {"model": "m", "prompt": "hello", **fields}
    return protocol.plan_completion(protocol.parse_body(json.dumps(body).encode(), CompletionRequest), OPTIONS)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        pytest.param({"model": "x"}, 404, "The model `x` does not exist.", id="unknown model"),
        pytest.param({"messages": []}, 400, "must not be empty", id="no messages"),
        pytest.param({"messages": "hi"}, 400, "Expected `array`", id="messages of the wrong type"),
        pytest.param({"max_tokens": 0}, 400, "at least 1", id="no tokens wanted"),
        pytest.param({"max_tokens": 255}, 400, "maximum context length is 256", id="more than the context"),
        pytest.param(
            {"messages": [{"role": "user", "content": "x" * 2000}]}, 400, "reduce the length", id="a prompt too long"
        ),
        pytest.param({"n": 2}, 400, "one choice", id="several choices"),
        pytest.param({"logprobs": True}, 400, "log probabilities", id="log probabilities"),
        pytest.param({"stream_options": {"include_usage": True}}, 400, "stream=True", id="stream options, no stream"),
    ],
)
def test_a_chat_request_is_refused(fields: dict[str, Any], status: int, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        chat(**fields)
    assert caught.value.status == status
    assert words in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b'{"messages": 1}'])
def test_what_is_no_request_is_a_400(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        protocol.parse_body(body, ChatCompletionRequest)
    assert caught.value.status == 400


def test_an_error_has_vllms_shape() -> None:
    body = json.loads(protocol.render_error(404, "The model `x` does not exist.", "model"))
    assert body == {
        "error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404, "param": "model"}
    }


def test_every_served_name_is_a_name_and_none_means_the_first() -> None:
    assert chat(model="alias").model == "alias"
    assert chat(model=None).model == "m"


@pytest.mark.parametrize(
    ("prompt", "want"),
    [
        pytest.param("hello", b"hello\0\0\0", id="text"),
        pytest.param(["hello"], b"hello\0\0\0", id="a list of one text"),
        pytest.param(tokens.to_ids(b"hello\0\0\0"), b"hello\0\0\0", id="token ids"),
        pytest.param([tokens.to_ids(b"hello\0\0\0")], b"hello\0\0\0", id="a list of one list of ids"),
    ],
)
def test_a_prompt_comes_in_four_shapes(prompt: Any, want: bytes) -> None:
    assert completion(prompt=prompt).prompt == want


@pytest.mark.parametrize("prompt", ["", [], ["a", "b"], [1, "a"], [-1], [[1], [2]]])
def test_a_prompt_that_is_none_is_refused(prompt: Any) -> None:
    with pytest.raises(RequestError) as caught:
        completion(prompt=prompt)
    assert caught.value.status == 400


def test_defaults_of_length_are_vllms() -> None:
    work = completion()
    assert (tokens.count(work.output), work.finish_reason) == (16, "length")
    work = chat()
    assert 24 <= tokens.count(work.output) <= 92
    assert work.finish_reason == "stop"


def test_max_completion_tokens_wins_over_max_tokens() -> None:
    assert tokens.count(chat(max_tokens=9, max_completion_tokens=3).output) == 3


def test_ignore_eos_makes_exactly_max_tokens() -> None:
    work = chat(max_tokens=150, ignore_eos=True)
    assert (tokens.count(work.output), work.finish_reason) == (150, "length")


def test_a_stop_string_ends_the_answer() -> None:
    work = chat(stop=[" "])
    assert " " not in work.text
    assert (work.finish_reason, work.stop_reason) == ("stop", " ")


def test_parts_of_a_message_are_joined() -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "lo"}]
    assert chat(messages=[{"role": "user", "content": parts}]).prompt == chat().prompt


def events(work: Work) -> list[bytes]:
    """Render a whole stream and cut it into events again."""
    renderer = StreamRenderer(work, "id-1", 7)
    num_tokens = tokens.count(work.output)
    page = renderer.start(protocol.usage_of(5, 0, 0))
    for index in range(num_tokens):
        page += renderer.token(index, protocol.usage_of(5, index + 1, 0))
    return EventParser().feed(page + renderer.end(protocol.usage_of(5, num_tokens, 0)))


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_chat_stream_says_the_whole_answer(include_usage: bool) -> None:
    work = chat(stream=True, stream_options={"include_usage": include_usage}, stop=["."])
    *chunk_data, done = events(work)
    assert done == DONE
    chunks = [msgspec.json.decode(data, type=ChatCompletionChunk) for data in chunk_data]
    assert {(chunk.id, chunk.model, chunk.created) for chunk in chunks} == {("id-1", "m", 7)}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == work.text
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    usages = [c.usage for c in chunks if c.usage is not None]
    assert len(usages) == (1 if include_usage else 0)
    assert (not chunks[-1].choices) == include_usage


def test_continuous_usage_is_in_every_chunk() -> None:
    work = chat(stream=True, max_tokens=3, stream_options={"include_usage": True, "continuous_usage_stats": True})
    *chunk_data, _ = events(work)
    chunks = [msgspec.json.decode(data, type=ChatCompletionChunk) for data in chunk_data]
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [0, 1, 2, 3, 3]


def test_a_completion_stream_says_the_whole_answer() -> None:
    *chunk_data, done = events(completion(stream=True, max_tokens=5))
    assert done == DONE
    chunks = [msgspec.json.decode(data, type=Completion) for data in chunk_data]
    assert "".join(c.choices[0].text for c in chunks) == completion(max_tokens=5).text
    assert chunks[-1].choices[0].finish_reason == "length"
