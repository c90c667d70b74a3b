"""Every byte of an answer counts, and how it ends."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.bench.traffic import Kind, Mix, Request
from pybrix.bench.verification import StreamCheck, check_whole, expected_of_simulator, refusal
from pybrix.engine.openai import ChatCompletionRequest
from pybrix.simulator import tokens
from pybrix.simulator.options import SimulatorOptions
from pybrix.simulator.protocol import StreamRenderer, plan_chat, render_answer, usage_of

MIX = Mix("m", {Kind.SHORT: 1, Kind.STREAM: 1, Kind.LONG_STREAM: 1})
PLAIN, STREAM, LONG = (MIX.request(number) for number in range(3))


def answer(request: Request) -> bytes:
    """Return what a simulator answers, as it answers."""
    work = plan_chat(msgspec.convert(request.body, ChatCompletionRequest), SimulatorOptions(served_model_names=("m",)))
    count = tokens.count(work.output)
    usage = usage_of(10, count, 0)
    if not request.is_streamed:
        return render_answer(work, "id", 0, usage)
    renderer = StreamRenderer(work, "id", 0)
    return renderer.start(usage) + b"".join(renderer.token(i, None) for i in range(count)) + renderer.end(usage)


def stream_problem(data: bytes, request: Request = STREAM) -> str:
    check = StreamCheck(request, expected_of_simulator(request))
    check.feed(data)
    return check.finish()


def test_right_answers_pass() -> None:
    assert check_whole(answer(PLAIN), PLAIN, expected_of_simulator(PLAIN)) == ""
    assert check_whole(answer(PLAIN), PLAIN, None) == ""
    assert stream_problem(answer(STREAM)) == ""
    assert stream_problem(answer(LONG), LONG) == ""


@given(st.lists(st.integers(1, 400)))
def test_a_stream_passes_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    data, check = answer(STREAM), StreamCheck(STREAM, expected_of_simulator(STREAM))
    for size in sizes:
        check.feed(data[:size])
        data = data[size:]
    check.feed(data)
    assert check.finish() == ""


@given(st.data())
def test_a_stream_that_ends_early_is_seen_wherever_it_ends(data: st.DataObject) -> None:
    whole = answer(STREAM)
    end = data.draw(st.integers(0, len(whole) - 3))
    assert stream_problem(whole[:end])


def test_a_lost_piece_is_seen() -> None:
    events = answer(STREAM).split(b"\n\n")
    for lost in range(1, len(events) - 1):
        assert stream_problem(b"\n\n".join(events[:lost] + events[lost + 1 :])), events[lost]


def test_a_piece_that_comes_twice_is_seen() -> None:
    events = answer(STREAM).split(b"\n\n")
    for again in range(1, len(events) - 3):
        assert stream_problem(b"\n\n".join(events[: again + 1] + events[again:])), events[again]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data.replace(b'"id":"id"', b'"id":"ie"', 1), "a chunk of another answer"),
        (lambda data: data.replace(b'"stop"', b'"abort"').replace(b'"length"', b'"abort"'), "finish_reason 'abort'"),
        (lambda data: data.replace(b'"completion_tokens":16', b'"completion_tokens":17'), "17 tokens where at most 16"),
        (lambda data: data + b"data: {}\n\n", r"after \[DONE\]"),
        (lambda data: b'data: {"error":{"message":"out of memory"}}\n\n' + data, "out of memory"),
        (lambda data: b"data: <html>\n\n" + data, "no chunk"),
    ],
)
def test_a_damaged_stream_is_seen(damage: object, why: str) -> None:
    assert callable(damage)
    assert re.search(why, stream_problem(damage(answer(STREAM))))


def test_another_answer_is_seen() -> None:
    other = MIX.request(3)
    assert "another text" in check_whole(answer(other), PLAIN, expected_of_simulator(PLAIN))
    assert check_whole(answer(other), PLAIN, None) == "", "of another engine only the shape is known"


def test_what_is_no_answer_is_seen() -> None:
    assert "no chat completion" in check_whole(b"<html>", PLAIN, None)
    assert check_whole(b'{"choices":[]}', PLAIN, None) == "0 choices"
    assert "empty" in check_whole(b'{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}', PLAIN, None)


def test_what_comes_before_a_client_goes_away_must_be_right() -> None:
    whole, expected = answer(LONG), expected_of_simulator(LONG)
    check = StreamCheck(LONG, expected)
    check.feed(whole[: len(whole) // 2])
    assert check.leave() == ""
    wrong = StreamCheck(LONG, expected)
    wrong.feed(answer(MIX.request(5))[:2000])
    assert "another text" in wrong.leave()


def test_a_refusal_says_what_the_gateway_said() -> None:
    assert refusal(503, b'{"error":{"message":"no engine is ready"}}') == "status 503: no engine is ready"
