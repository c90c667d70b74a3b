"""Server-sent events, error envelopes, engine names."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.engine.errors import error_type, parse_error_message, render_error
from pybrix.engine.metrics import METRIC_NAMES, Engine, engine_of
from pybrix.engine.sse import DONE, DONE_EVENT, EventParser, render_event

PAGE = (
    b'data: {"a":1}\n\n: a comment\n\nevent: x\ndata: first\ndata: second\n\ndata:tight\r\n\r\ndata: \xc3\xa9\r\r'
    + DONE_EVENT
)
EVENTS = [b'{"a":1}', b"first\nsecond", b"tight", "é".encode(), DONE]


@given(st.lists(st.integers(0, len(PAGE))))
def test_events_are_the_same_wherever_the_chunks_end(cuts: list[int]) -> None:
    parser = EventParser()
    edges = [0, *sorted(cuts), len(PAGE)]
    found = [event for a, b in pairwise(edges) for event in parser.feed(PAGE[a:b])]
    assert found == EVENTS


def test_an_event_without_its_empty_line_is_not_there_yet() -> None:
    parser = EventParser()
    assert parser.feed(b"data: x\n") == []
    assert parser.feed(b"\n") == [b"x"]
    assert parser.feed(render_event(b"y")) == [b"y"]


@pytest.mark.parametrize(
    ("status", "want"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_an_error_has_the_type_of_its_status(status: int, want: str) -> None:
    assert error_type(status) == want
    assert json.loads(render_error(status, "why", code="c", param="p")) == {
        "error": {"message": "why", "type": want, "code": "c", "param": "p"}
    }


def test_code_and_param_are_null_when_there_are_none() -> None:
    assert json.loads(render_error(503, "why"))["error"] == {
        "message": "why", "type": "overloaded_error", "code": None, "param": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param(render_error(404, "no such model"), "no such model", id="nested"),
        pytest.param(b'{"object":"error","message":"flat","code":400}', "flat", id="flat"),
        pytest.param(b'{"error":"Unauthorized"}', "Unauthorized", id="a word"),
        pytest.param(b"upstream connect error\n", "upstream connect error", id="text"),
        pytest.param(b"[1]", "[1]", id="JSON of another kind"),
        pytest.param(b"\xff", "\ufffd", id="no text at all"),
    ],
)
def test_the_message_of_an_error_is_found(body: bytes, want: str) -> None:
    assert parse_error_message(body) == want


def test_an_engine_without_names_of_its_own_is_taken_for_vllm() -> None:
    assert [engine_of(label) for label in (None, "", "vllm", "sglang", "xllm")] == [
        *(Engine.VLLM, Engine.VLLM, Engine.VLLM, Engine.SGLANG, Engine.VLLM)
    ]
    assert set(METRIC_NAMES) == set(Engine)
