"""The decision exchange: bytes in, bytes out, however they are cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.envoy.wire import wire_status
from pybrix.gateway.decision.exchange import Decide, DecisionExchange
from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.framework.types import Decision, Question
from tests.support.gateway import World, facts, view_of

LIMIT = 1000


def world() -> World:
    return World(view_of(facts("a", ip="127.64.0.1"), facts("b", model="slow", ready=False)))


def exchange(decide: Decide | None = None, *, ready: bool = True) -> DecisionExchange:
    return DecisionExchange(decide or world().director.decide, LIMIT, lambda: ready)


def post(body: bytes, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


def test_an_allowed_request_gets_the_headers_by_which_envoy_routes() -> None:
    assert exchange().receive(post(b'{"model":"m"}', "Routing-Strategy: random")) == (
        b"HTTP/1.1 200 OK\r\nx-pybrix-cluster: default/m\r\nx-pybrix-endpoints: 127.64.0.1:8000\r\n"
        b"x-pybrix-reservation: me.token0\r\nx-pybrix-strategy: random\r\ncontent-length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("body", "status", "marker"),
    [
        pytest.param(b"{", 400, b"x-error-request-body-processing: true", id="no JSON"),
        pytest.param(b"{}", 400, b"x-error-no-model-in-request: true", id="no model"),
        pytest.param(
            b'{"model":"a\\r\\nb: c"}', 404, b"x-error-no-model-backends: a%0D%0Ab:%20c", id="a name with lines"
        ),
        pytest.param(b'{"model":"slow"}', wire_status(503), b"retry-after: 5", id="not ready, as ext_authz needs it"),
    ],
)
def test_a_refusal_is_an_openai_error(body: bytes, status: int, marker: bytes) -> None:
    got = exchange().receive(post(body))
    head, _, said = got.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert marker in head.split(b"\r\n")
    assert said.startswith(b'{"error":{"message":')
    assert f"content-length: {len(said)}".encode() in head


def test_headers_reach_the_question_whatever_their_case() -> None:
    asked: list[Question] = []

    def decide(question: Question) -> Decision | Refusal:
        asked.append(question)
        return world().director.decide(question)

    exchange(decide).receive(
        post(b'{"model":"m"}', "X-Pybrix-Namespace: one", "ROUTING-STRATEGY: random", path="/v1/x?y=1")
    )
    assert (asked[0].namespace, asked[0].strategy, asked[0].path) == ("one", "random", "/v1/x?y=1")


def test_headers_of_one_request_do_not_leak_into_the_next() -> None:
    asked: list[Question] = []

    def decide(question: Question) -> Decision | Refusal:
        asked.append(question)
        return world().director.decide(question)

    both = exchange(decide)
    both.receive(post(b'{"model":"m"}', "x-pybrix-namespace: one", "routing-strategy: random"))
    both.receive(post(b'{"model":"m"}'))
    assert (asked[1].namespace, asked[1].strategy) == ("", "")


def test_a_health_check_says_whether_the_brain_decides() -> None:
    check = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    assert exchange().receive(check).startswith(b"HTTP/1.1 200 ")
    assert exchange(ready=False).receive(check).startswith(b"HTTP/1.1 503 ")


def test_a_body_over_the_limit_is_refused_by_its_length_alone() -> None:
    got = exchange()
    reply = got.receive(f"POST /v1/x HTTP/1.1\r\ncontent-length: {LIMIT + 1}\r\n\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in reply
    assert got.is_closed


def test_a_body_that_grows_over_the_limit_is_refused_where_it_does() -> None:
    got = exchange()
    assert got.receive(b"POST /v1/x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n") == b""
    piece = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    assert got.receive(piece) + got.receive(piece) == b""
    assert got.receive(piece).startswith(b"HTTP/1.1 413 ")
    assert got.is_closed
    assert got.receive(piece) == b""


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
        pytest.param(b"POST /x HTTP/1.1\r\nbad header\r\n\r\n", id="a header without a colon"),
        pytest.param(b"POST /x HTTP/1.1\r\ncontent-length: -5\r\n\r\n", id="a negative length"),
        pytest.param(b"POST /x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", id="two lengths"),
        pytest.param(b"GET /x HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", id="an upgrade"),
    ],
)
def test_what_is_no_request_is_answered_400_and_ended(data: bytes) -> None:
    got = exchange()
    reply = got.receive(data)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b'"error"' in reply
    assert got.is_closed


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"POST /x HTTP/1.1\r\nx: ", id="a header"),
        pytest.param(b"POST /", id="a path"),
        pytest.param(b"POST /x HTTP/1.1\r\n", id="a header's name"),
    ],
)
def test_what_never_ends_is_ended(start: bytes) -> None:
    got = exchange()
    got.receive(start)
    replies = [got.receive(b"y" * 10_000) for _ in range(30)]
    assert b"".join(replies).startswith(b"HTTP/1.1 400 ")
    assert got.is_closed


def test_a_large_body_before_a_cut_head_is_no_large_head() -> None:
    got = DecisionExchange(world().director.decide, 1 << 20, lambda: True)
    whole = post(b'{"model":"m","x":"' + b"y" * 500_000 + b'"}')
    got.receive(whole[:200])
    assert got.receive(whole[200:] + whole[:20]).startswith(b"HTTP/1.1 200 ")
    assert got.receive(whole[20:]).startswith(b"HTTP/1.1 200 ")


def test_a_fault_of_the_brain_is_a_5xx_and_the_connection_goes_on() -> None:
    answers = iter([ZeroDivisionError()])

    def decide(question: Question) -> Decision | Refusal:
        for error in answers:
            raise error
        return world().director.decide(question)

    got = exchange(decide)
    assert got.receive(post(b'{"model":"m"}')).startswith(b"HTTP/1.1 500 ")
    assert got.receive(post(b'{"model":"m"}')).startswith(b"HTTP/1.1 200 ")


def test_connection_close_and_draining_end_after_the_reply() -> None:
    asked = exchange()
    assert b"connection: close" in asked.receive(post(b'{"model":"m"}', "connection: close"))
    assert asked.is_closed
    draining = exchange()
    draining.receive(post(b'{"model":"m"}')[:40])
    assert not draining.is_between_requests
    draining.is_draining = True
    assert b"connection: close" in draining.receive(post(b'{"model":"m"}')[40:])
    assert draining.is_closed


REQUESTS = (
    post(b'{"model":"m"}'),
    post(b"{}", "routing-strategy: random"),
    post(b'{"model":"slow"}'),
    b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    b'POST /v1/x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{"mo\r\n9\r\ndel":"m"}\r\n0\r\n\r\n',
    b"broken\r\n\r\n",
)


@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6), st.lists(st.integers(1, 60), min_size=1))
def test_however_the_bytes_are_cut_the_replies_are_the_same(requests: Sequence[bytes], sizes: list[int]) -> None:
    data = b"".join(requests)
    want = exchange().receive(data)
    got, at, turn = exchange(), 0, 0
    replies = b""
    while at < len(data):
        size = sizes[turn % len(sizes)]
        replies += got.receive(data[at : at + size])
        at, turn = at + size, turn + 1
    assert replies == want
