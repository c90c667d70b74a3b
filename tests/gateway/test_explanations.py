"""Explain: what was decided, why, and what happened after."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pybrix.envoy.wire import EXPLANATION_HEADER
from pybrix.gateway.admission.admintoken import AdminToken
from pybrix.gateway.explanations import MAX_HEADER_BYTES, render_header, render_summary, render_trace
from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.framework.types import Decision, Question
from pybrix.gateway.indexes.history import History, Trace
from tests.support.gateway import World, ask, facts, make_request, view_of

TOKEN = "a-long-random-admin-token-ü"
VIEW = view_of(facts("a", ip="127.64.0.1"), facts("b", ip="127.64.0.2"), facts("a", namespace="team", model="n"))


def world(**options: Any) -> World:
    return World(VIEW, admin_token=AdminToken(TOKEN), **options)


def asked(request_id: str = "id-1", *, explain: str = "", token: str = "", **fields: Any) -> Question:
    # Headers arrive as bytes that are read as Latin-1.
    given = token.encode().decode("latin-1")
    return msgspec.structs.replace(ask(**fields), request_id=request_id, explain=explain, admin_token=given)


def decided(world: World, question: Question) -> Decision:
    answer = world.director.decide(question)
    assert isinstance(answer, Decision)
    return answer


def record(decision: Decision | None, **fields: Any) -> AccessRecord:
    known = {
        "reservation": decision.reservation if decision else "",
        "is_renewal": False,
        "upstream": decision.endpoints[0].host if decision else "127.64.0.1:8000",
        "status": 200,
        "flags": "",
        "ttft_ms": 12.0,
        "duration_ms": 40.0,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 64,
        "attempts": 1,
        "request_id": "id-1",
        "cluster": "default/m",
    }
    return AccessRecord(**{**known, **fields})


def explained(world: World, key: str) -> dict[str, Any]:
    trace = world.director.history.find(key)
    assert trace is not None
    return render_trace(trace)


def header_of(answer: Decision | Refusal) -> str | None:
    headers = answer.headers if isinstance(answer, Decision) else answer.more
    return dict(headers).get(EXPLANATION_HEADER)


@pytest.mark.parametrize("key", ["request id", "reservation"])
def test_a_request_is_found_with_its_scores_choice_and_end(key: str) -> None:
    told = world()
    decision = decided(told, asked())
    got = explained(told, "id-1" if key == "request id" else decision.reservation)
    assert (got["model"], got["strategy"], got["outcome"]) == ("m", "least-request", None)
    assert [each["host"] for each in got["candidates"]] == [e.host for e in decision.endpoints]
    assert [each["score"] for each in got["candidates"]] == [1.0, 1.0]
    assert got["candidates"][0]["why"] is None

    told.director.account(record(decision, is_renewal=True, status=200))
    assert explained(told, "id-1")["outcome"]["state"] == "running"
    told.director.account(record(decision, upstream=decision.endpoints[1].host, attempts=2))
    after = explained(told, "id-1")["outcome"]
    assert (after["state"], after["pod"], after["attempts"]) == ("ended 200", decision.endpoints[1].pod_name, 2)
    assert (after["ttftMs"], after["completionTokens"]) == (12.0, 20)


def test_reasons_are_kept_of_so_many_decisions_a_second() -> None:
    told = world(history=History(reasons_per_s=2))
    for number in range(8):
        decided(told, asked(f"id-{number}"))
        told.clock.seconds += 0.25
    with_reasons = [n for n in range(8) if explained(told, f"id-{n}")["candidates"][0]["why"]]
    assert with_reasons == [0, 1, 4, 5]
    best = explained(told, "id-5")["candidates"][0]
    assert best["why"] == "2 requests in flight"
    assert best["signals"]["requestsInFlight"] == 2


@pytest.mark.parametrize(
    ("explain", "token", "want"),
    [
        pytest.param("1", TOKEN, True, id="asked with the token"),
        pytest.param("1", f" {TOKEN} ", True, id="spaces around it"),
        pytest.param("1", "", False, id="without a token"),
        pytest.param("1", TOKEN[:-1], False, id="with another token"),
        pytest.param("", TOKEN, False, id="not asked"),
        pytest.param("0", TOKEN, False, id="not asked, in a word"),
    ],
)
def test_only_who_has_the_token_is_told_in_the_answer(explain: str, token: str, want: bool) -> None:
    told = world()
    header = header_of(decided(told, asked(explain=explain, token=token)))
    assert (header is not None) == want
    refused = told.director.decide(asked("id-2", model="none", explain=explain, token=token))
    assert isinstance(refused, Refusal)
    assert (header_of(refused) is not None) == want
    if header is not None:
        document = json.loads(header)
        assert document["requestId"] == "id-1"
        assert document["candidates"][0]["why"] == "0 requests in flight"


def test_without_an_admin_token_nobody_is_told() -> None:
    told = World(VIEW)
    assert header_of(decided(told, asked(explain="1", token=""))) is None
    assert header_of(decided(told, asked(explain="1", token=TOKEN))) is None


def test_a_refusal_is_found_with_what_was_filtered() -> None:
    told = world()
    question = msgspec.structs.replace(asked(), external_filter="disk=ssd")
    assert isinstance(told.director.decide(question), Refusal)
    got = explained(told, "id-1")
    assert got["refused"]["status"] in {400, 503}
    assert sorted(each["pod"] for each in got["excluded"]) == ["a", "b"]
    assert "it has no label disk" in got["excluded"][0]["why"]
    trace = told.director.history.find("id-1")
    assert trace is not None
    assert trace.request is not None
    assert trace.request.hash_prompt is None, "the body is let go"


def test_what_envoy_routed_by_itself_is_found_too() -> None:
    told = world()
    told.director.account(record(None))
    got = explained(told, "id-1")
    assert (got["routedBy"], got["model"], got["outcome"]["status"]) == ("envoy", "m", 200)


def test_a_request_that_was_given_up_says_so() -> None:
    told = world()
    decided(told, asked())
    told.clock.seconds += 1000
    told.director.expire()
    assert explained(told, "id-1")["isLost"] is True


def test_histories_are_bounded_and_refusals_drive_no_decision_out() -> None:
    told = world(history=History(max_decisions=2, max_refusals=3))
    for number in range(4):
        decided(told, asked(f"yes-{number}"))
        told.director.decide(asked(f"no-{number}", model="none"))
    history = told.director.history
    assert [trace.request_id for trace in history] == ["yes-2", "yes-3", "no-1", "no-2", "no-3"]
    assert history.find("yes-0") is None
    assert history.find("") is None


def test_a_long_prompt_is_let_go_at_the_end() -> None:
    told = world(strategy="prefix-cache")
    decision = decided(told, asked(prompt="x" * 100_000))
    assert decision.request.known_chain
    told.director.account(record(decision))
    assert decision.request.known_chain is None
    assert explained(told, "id-1")["outcome"]["status"] == 200


def test_one_name_in_two_namespaces_is_told_apart() -> None:
    pods = (facts("a", ip="127.64.0.1"), facts("a", namespace="team", ip="127.64.0.2"))
    told = World(view_of(*pods))
    decided(told, asked("one", namespace="default"))
    decided(told, asked("two", namespace="team"))
    assert [(explained(told, k)["namespace"], explained(told, k)["candidates"][0]["host"]) for k in ("one", "two")] == [
        ("default", "127.64.0.1:8000"),
        ("team", "127.64.0.2:8000"),
    ]


@pytest.mark.parametrize("count", [1, 16, 300])
def test_a_header_is_bounded_and_ascii(count: int) -> None:
    pods = [facts(f"pöd-{n}", ip=f"127.64.{n // 200}.{n % 200 + 1}") for n in range(count)]
    told = World(view_of(*pods), admin_token=AdminToken(TOKEN))
    header = header_of(decided(told, asked(explain="1", token=TOKEN)))
    assert header is not None
    assert header.isascii()
    assert len(header) <= MAX_HEADER_BYTES
    document = json.loads(header)
    assert len(document["candidates"]) + document.get("omitted", 0) == count


def test_a_header_of_a_huge_model_name_is_bounded() -> None:
    trace = Trace("id-1", 0.0, make_request(model="ü" * 4_000))
    assert json.loads(render_header(trace)) == {"requestId": "id-1", "omitted": 0}


def test_the_list_is_newest_first() -> None:
    told = world()
    decided(told, asked("first"))
    told.clock.seconds += 1
    told.director.decide(asked("second", model="none"))
    told.clock.seconds += 1
    told.director.account(record(None, request_id="third"))
    rows = [render_summary(trace) for trace in told.director.history.newest(3)]
    assert [(row["requestId"], row["state"]) for row in rows] == [
        ("third", "ended 200"),
        ("second", "refused 404"),
        ("first", "running"),
    ]
    assert len(told.director.history.newest(1)) == 1


def test_a_trace_without_anything_renders() -> None:
    assert render_trace(Trace("", 0.0))["candidates"] == []


def test_an_empty_token_matches_nothing() -> None:
    assert not AdminToken().matches(b"")


def test_a_token_is_compared_by_its_bytes() -> None:
    token = AdminToken("sesam-öffne-dich")
    assert token.matches(" sesam-öffne-dich ".encode())
    assert not token.matches("sesam-öffne-dich".encode("latin-1"))
    token.replace("")
    assert not token.matches("sesam-öffne-dich".encode())
