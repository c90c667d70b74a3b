"""One request's path, and what the access log does to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.envoy import replies
from pybrix.gateway.accesslog.record import read_record
from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.refusal import Reason, Refusal
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Decision, Endpoint, Explanation, InferenceRequest, Question
from pybrix.gateway.scheduling.registry import strategy_names
from pybrix.gateway.view.snapshot import apply, build_view
from tests.support.gateway import World, adapter_facts, ask, facts, slice_facts, view_of


def three() -> World:
    return World(view_of(*(facts(f"p{n}", ip=f"127.64.0.{n}") for n in (1, 2, 3))))


def decide(world: World, question: Question | None = None) -> Decision:
    answer = world.director.decide(question or ask())
    assert isinstance(answer, Decision)
    return answer


def refuse(world: World, question: Question) -> Refusal:
    answer = world.director.decide(question)
    assert isinstance(answer, Refusal)
    return answer


def record(decision: Decision | None, at: int = 0, **fields: Any) -> AccessRecord:
    """Return the end record of a decision whose answer came from its endpoint number `at`."""
    sent: dict[str, Any] = {"type": "DownstreamEnd", "status": 200, "attempts": at + 1, "duration_ms": 12}
    if decision is not None:
        sent |= {"reservation": decision.reservation, "upstream": decision.endpoints[at].host}
    return read_record(sent | fields)


def test_requests_spread_over_the_endpoints() -> None:
    world = three()
    first = [decide(world).endpoints[0].pod_name for _ in range(6)]
    assert sorted(first) == ["p1", "p1", "p2", "p2", "p3", "p3"]
    assert world.in_flight() == {"p1": 2, "p2": 2, "p3": 2}


def test_a_decision_ranks_all_endpoints_and_names_its_strategy() -> None:
    got = decide(three(), ask(strategy="random"))
    assert len({endpoint.id for endpoint in got.endpoints}) == 3
    assert (got.request.namespace, got.request.model, got.request.strategy) == ("default", "m", "random")
    assert got.reservation.startswith("me.")


def test_prompt_tokens_in_flight_are_estimated_from_the_body() -> None:
    world = three()
    body = msgspec.json.encode({"model": "m", "prompt": "x" * 4000})
    got = decide(world, Question("/v1/completions", body))
    assert world.loads.of(got.endpoints[0].id).prompt_tokens == len(body) // 4


@pytest.mark.parametrize(
    ("body", "want"),
    [
        pytest.param(b"", Reason.INVALID_JSON, id="no body"),
        pytest.param(b"hello", Reason.INVALID_JSON, id="text"),
        pytest.param(b"[1]", Reason.INVALID_JSON, id="a list"),
        pytest.param(b'{"model":"m"', Reason.INVALID_JSON, id="cut off"),
        pytest.param(b'{"model":"\xff"}', Reason.INVALID_JSON, id="no UTF-8 in the name"),
        pytest.param(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.INVALID_JSON, id="nested too deeply"),
        pytest.param(b"{}", Reason.MODEL_MISSING, id="no model"),
        pytest.param(b'{"model":null}', Reason.MODEL_MISSING, id="a null model"),
        pytest.param(b'{"model":7}', Reason.MODEL_INVALID, id="a number as model"),
        pytest.param(b'{"model":["m"]}', Reason.MODEL_INVALID, id="a list as model"),
        pytest.param(b'{"model":""}', Reason.MODEL_INVALID, id="an empty model"),
        pytest.param(b'{"model":"zz"}', Reason.MODEL_UNKNOWN, id="another model"),
    ],
)
def test_a_body_is_refused(body: bytes, want: Reason) -> None:
    world = three()
    assert refuse(world, Question("/v1/chat/completions", body)).reason == want
    assert world.director.counters.refusals[want] == 1
    assert world.in_flight() == {}


def test_the_last_of_several_model_keys_counts_however_it_is_written() -> None:
    body = b'{"model":"zz","model":7,"mod\\u0065l":"m"}'
    assert decide(three(), Question("/v1/chat/completions", body)).request.model == "m"


def test_whatever_else_a_body_holds_is_no_matter() -> None:
    body = b'{"messages":7,"stream":"perhaps","model":"m","tools":[{"a":[1,{"b":null}]}],"n":1e400}'
    assert decide(three(), Question("/v1/chat/completions", body)).request.model == "m"


def test_an_unknown_model_is_told_what_exists() -> None:
    world = World(view_of(facts("a", model="alpha"), facts("b", model="beta", namespace="two")))
    said = refuse(world, ask("gamma"))
    assert (said.status, "alpha, beta" in said.message) == (404, True)
    assert "alpha" not in refuse(world, ask("gamma", namespace="two")).message


def test_a_name_in_two_namespaces_must_say_which() -> None:
    world = World(view_of(facts("a", namespace="one"), facts("a", namespace="two", ip="127.64.0.2")))
    said = refuse(world, ask())
    assert said.status == 400
    assert "x-pybrix-namespace" in said.message
    assert "/namespaces/" in said.message
    by_header = decide(world, ask(namespace="two"))
    by_path = decide(world, ask(namespace="one", path="/namespaces/two/v1/chat/completions"))
    assert [d.request.namespace for d in (by_header, by_path)] == ["two", "two"]
    assert refuse(world, ask(namespace="three")).reason == Reason.MODEL_UNKNOWN


def test_a_model_without_a_ready_pod_is_told_to_retry() -> None:
    world = World(view_of(facts("a", ready=False)))
    said = refuse(world, ask())
    assert (said.status, dict(said.headers())["retry-after"]) == (503, "5")
    assert "a: not ready" in said.message
    world.view = apply(world.view, {facts("a").uid: None})
    assert refuse(world, ask()).status == 503


def test_an_unknown_strategy_is_told_the_valid_ones() -> None:
    said = refuse(three(), ask(strategy="roulette"))
    assert said.status == 400
    assert said.message.endswith(f"roulette; valid strategies: {replies.listed_names(strategy_names())}")


def test_explain_gives_reasons_and_counts_nothing() -> None:
    world = three()
    busy = decide(world).endpoints[0].pod_name
    got = world.director.explain(ask())
    assert isinstance(got, Explanation)
    assert (got.ranking[-1].endpoint.pod_name, got.ranking[-1].why) == (busy, "1 requests in flight")
    assert world.in_flight() == {busy: 1}


def test_an_end_releases_once_and_keeps_the_outcome() -> None:
    world = three()
    got = decide(world)
    end = record(got, ttft_ms=40, prompt_tokens=9, completion_tokens="5")
    world.director.account(end)
    world.director.account(end)
    assert world.in_flight() == {}
    outcomes = world.loads.of(got.endpoints[0].id).outcomes
    assert outcomes.by_status_class == {2: 1}
    assert (outcomes.ttft_ms, outcomes.ttft_count, outcomes.prompt_tokens, outcomes.completion_tokens) == (40, 1, 9, 5)
    assert world.director.counters.records == {"end": 1, "end_unknown": 1}
    assert {key: totals.by_status() for key, totals in world.director.counters.models.items()} == {
        ("default", "m"): {"2xx": 1}
    }


def test_a_retry_is_charged_to_the_endpoint_that_failed() -> None:
    world = three()
    got = decide(world)
    world.director.account(record(got, at=1))
    failed, answered = (world.loads.of(got.endpoints[n].id).outcomes for n in (0, 1))
    assert (failed.failed_attempts, failed.by_status_class) == (1, {})
    assert (answered.failed_attempts, answered.by_status_class) == (0, {2: 1})
    assert world.in_flight() == {}


def test_a_renewal_moves_a_retried_stream() -> None:
    world = three()
    got = decide(world)
    world.director.account(record(got, at=1, type="DownstreamPeriodic"))
    assert world.in_flight() == {got.endpoints[1].pod_name: 1}


def test_a_stream_without_renewals_is_given_up() -> None:
    world = three()
    got = decide(world)
    for _ in range(5):
        world.clock.seconds += 10
        world.director.account(record(got, type="DownstreamPeriodic"))
        assert world.director.expire() == []
    world.clock.seconds += 33
    assert len(world.director.expire()) == 1
    assert world.in_flight() == {}
    world.director.account(record(got))
    assert world.in_flight() == {}
    assert world.director.counters.expired == 1


def test_without_an_envoy_nothing_is_in_flight() -> None:
    world = three()
    ended, cut = decide(world), [decide(world) for _ in range(3)]
    world.director.account(record(ended))
    assert world.director.give_up_all() == 3
    assert world.in_flight() == {}
    assert world.director.give_up_all() == 0
    assert world.director.counters.expired == 3
    assert all(trace.is_lost for each in cut if (trace := world.director.history.find(each.reservation)))
    world.director.account(record(cut[0]))
    assert world.in_flight() == {}


def test_a_pod_that_left_keeps_its_request_and_its_successor_on_that_address_gets_none() -> None:
    world = World(view_of(facts("a", uid="old")))
    got = decide(world)
    world.view = apply(world.view, {facts("a", uid="old").uid: None, facts("a", uid="new").uid: facts("a", uid="new")})
    world.director.account(record(got))
    new = world.view.by_host["127.64.0.1:8000"]
    assert world.loads.of(new.id).outcomes.by_status_class == {}
    assert world.loads.of(got.endpoints[0].id).outcomes.by_status_class == {2: 1}


def test_a_request_that_envoy_routed_by_itself_has_an_outcome_and_no_reservation() -> None:
    world = three()
    world.director.account(record(None, upstream="127.64.0.2:8000", reservation=None))
    assert world.loads.of(world.view.by_host["127.64.0.2:8000"].id).outcomes.by_status_class == {2: 1}


def test_load_is_the_engines_and_totals_are_the_models() -> None:
    world = World(
        build_view(
            [facts("a", uid="u1", ip="127.64.0.1"), facts("b", uid="u2", ip="127.64.0.2")], [slice_facts("lora", "u1")]
        )
    )
    first = decide(world, ask("lora"))
    assert first.request.adapter == "lora"
    assert [e.pod_name for e in first.endpoints] == ["a"]
    second = decide(world)
    assert [e.pod_name for e in second.endpoints] == ["b", "a"], "the adapter's request is load of the engine"
    for got in (first, second):
        world.director.account(record(got, prompt_tokens=7))
    world.director.account(record(None, upstream="127.64.0.1:8000", cluster="default/lora", reservation=None))
    world.director.account(record(None, upstream="127.64.0.1:8000", cluster="default/unknown", reservation=None))
    totals = world.director.counters.models
    assert {key.model: each.by_status() for key, each in totals.items()} == {"m": {"2xx": 1}, "lora": {"2xx": 2}}
    assert world.loads.of(first.endpoints[0].id).outcomes.by_status_class == {2: 3}
    assert world.in_flight() == {}


def test_an_adapter_that_is_not_ready_says_why() -> None:
    told = adapter_facts("lora", ready=False, phase="Pending", message="no candidate pods")
    got = refuse(World(build_view([facts("a")], [], [told])), ask("lora"))
    assert (got.status, got.reason) == (503, Reason.NO_READY_ENDPOINTS)
    assert "the adapter is Pending: no candidate pods" in got.message


def test_a_stream_of_an_earlier_brain_is_counted_from_its_first_renewal() -> None:
    world = three()
    fields: dict[str, Any] = {"reservation": "earlier.1", "upstream": "127.64.0.2:8000"}
    world.director.account(record(None, type="DownstreamPeriodic", **fields))
    assert world.in_flight() == {"p2": 1}
    world.director.account(record(None, **fields))
    assert world.in_flight() == {}


class Crowded:
    """A filter for tests: no endpoint with a request in flight."""

    name = "crowded"

    def why_excluded(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> str:
        return "busy" if signals.load(endpoint.id).requests else ""


class Worst:
    """A strategy for tests: the later in the list, the better."""

    name = "worst"
    prefers_new = False

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return [n / len(endpoints) for n in range(len(endpoints))]

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        return ["later" for _ in endpoints]


def test_a_new_strategy_needs_nothing_but_its_name() -> None:
    world = World(three().view, strategy="worst", strategies=[Worst()])
    assert [e.pod_name for e in decide(world).endpoints] == ["p3", "p2", "p1"]


events = st.lists(
    st.tuples(st.sampled_from(["ask", "renew", "end", "wait", "envoy dies"]), st.integers(0, 9), st.integers(0, 2))
)


@given(events)
def test_in_flight_is_never_negative_and_ends_at_zero(script: list[tuple[str, int, int]]) -> None:
    world = three()
    asked: list[Decision] = []
    for what, which, at in script:
        if what == "ask":
            asked.append(decide(world))
        elif what == "wait":
            world.clock.seconds += 5 * which
            world.director.expire()
        elif what == "envoy dies":
            world.director.give_up_all()
        elif asked:
            kind = {"renew": "DownstreamPeriodic", "end": "DownstreamEnd"}[what]
            world.director.account(record(asked[which % len(asked)], at=at, type=kind))
        assert all(load.requests >= 0 and load.prompt_tokens >= 0 for _, load in world.loads)
        assert sum(world.in_flight().values()) == len(world.reservations)
    for decision in asked:
        world.director.account(record(decision))
    assert world.in_flight() == {}
