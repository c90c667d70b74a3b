"""What strategies are given: ages and warmth, chains on demand, hooks, and new endpoints first among equals."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from pybrix.gateway.accesslog.record import read_record
from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.plugins import Learner, Strategy
from pybrix.gateway.framework.signals import COLDEST, STALE_AFTER_S, WARM_UP_S, EngineMetrics, Signals
from pybrix.gateway.framework.types import Decision, Endpoint, InferenceRequest
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.strategies.least_request import LeastRequest
from tests.support.gateway import NOW_S, UNIX_S, World, ask, facts, make_endpoint, make_request, make_signals, view_of


def aged(name: str, age_s: float) -> Endpoint:
    return make_endpoint(name, ready_since_s=UNIX_S - age_s)


@pytest.mark.parametrize(
    ("age_s", "want"), [(0.0, COLDEST), (WARM_UP_S / 2, (1 + COLDEST) / 2), (WARM_UP_S, 1.0), (-5.0, COLDEST)]
)
def test_an_endpoint_warms_up(age_s: float, want: float) -> None:
    signals = make_signals(has_new=True)
    assert signals.warmth(aged("a", age_s)) == pytest.approx(want)
    assert signals.age_s(aged("a", age_s)) == max(0.0, age_s)


def test_an_endpoint_of_unknown_age_is_old() -> None:
    signals = make_signals(has_new=True)
    assert (signals.age_s(make_endpoint("a")), signals.warmth(make_endpoint("a"))) == (math.inf, 1.0)
    assert not signals.is_new(make_endpoint("a"))


def test_metrics_have_an_age_and_go_when_they_are_stale() -> None:
    table, key = MetricsTable(), make_endpoint("a").id
    table.put(key, EngineMetrics(NOW_S - 3.0, running=1.0))
    signals = make_signals(metrics={"a": EngineMetrics(NOW_S - 3.0)})
    assert (signals.metrics_age_s(key), signals.metrics_age_s(make_endpoint("b").id)) == (3.0, None)
    table.expire(NOW_S)
    assert table.of(key) is not None
    table.expire(NOW_S + STALE_AFTER_S)
    assert table.of(key) is None


def firsts(strategy: str, endpoints: Sequence[Endpoint], signals: Signals) -> Counter[str]:
    profile, chance = Profile(build_strategies(random.Random(1))), random.Random(3)
    return Counter(profile.rank(make_request(strategy), endpoints, signals, chance)[0].pod_name for _ in range(300))


def test_new_endpoints_come_first_among_equals_and_random_stays_even() -> None:
    endpoints = [aged("old", 1000), aged("new", 5)]
    assert firsts("least-request", endpoints, make_signals(has_new=True)) == {"new": 300}
    assert min(firsts("random", endpoints, make_signals(has_new=True)).values()) > 100


def test_a_new_endpoint_gets_its_share_by_and_by() -> None:
    endpoints = [aged("old", 1000), aged("new", 0)]
    assert LeastRequest().score(make_request(), endpoints, make_signals({"old": 5, "new": 1}, has_new=True)) == [1, 0]
    warmer = [aged("old", 1000), aged("new", WARM_UP_S / 2)]
    assert LeastRequest().score(make_request(), warmer, make_signals({"old": 5, "new": 1}, has_new=True)) == [0, 1]


def test_a_chain_is_made_once_and_only_when_asked_for() -> None:
    made: list[int] = []

    def hash_prompt() -> Sequence[int]:
        made.append(1)
        return [1, 2]

    request = make_request(hash_prompt=hash_prompt)
    assert made == []
    assert [request.chain, request.chain] == [[1, 2], [1, 2]]
    assert made == [1]
    request.drop_body()
    assert request.chain == [1, 2]
    late = make_request(hash_prompt=hash_prompt)
    late.drop_body()
    assert (late.chain, made) == ((), [1])


class Learning:
    """A strategy that remembers what it hears."""

    name = "learning"
    prefers_new = False

    def __init__(self) -> None:
        self.routed: list[tuple[str, int]] = []
        self.outcomes: list[Outcome] = []

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return [float(e.pod_name == "a") for e in endpoints]

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        return ["because"] * len(endpoints)

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        self.routed.append((endpoint.pod_name, len(request.chain)))
        return 10

    def observe_outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


def test_a_strategy_hears_of_its_own_requests_and_says_what_is_cached() -> None:
    learning = Learning()
    others: list[Strategy] = [learning, LeastRequest()]
    assert isinstance(learning, Learner)
    assert not isinstance(others[1], Learner)
    world = World(
        view_of(facts("a", ip="127.64.0.1"), facts("b", ip="127.64.0.2")), strategy="learning", strategies=others
    )
    got = world.director.decide(ask())
    world.director.decide(ask(strategy="least-request"))
    assert isinstance(got, Decision)
    assert [name for name, _ in learning.routed] == ["a"]
    load = world.loads.of(got.endpoints[0].id)
    assert load.prompt_tokens - load.uncached_tokens == 10 or load.prompt_tokens < 10
    fields = {"reservation": got.reservation, "upstream": "127.64.0.2:8000", "status": 200, "attempts": 2}
    world.director.account(read_record({"type": "DownstreamEnd", "duration_ms": 5, **fields}))
    (outcome,) = learning.outcomes
    assert (outcome.routed_to.pod_name, outcome.endpoint and outcome.endpoint.pod_name) == ("a", "b")
    assert outcome.request is got.request


def test_what_requests_are_like_is_learnt_from_usage() -> None:
    world = World(view_of(facts("a")))
    first = world.director.decide(ask(max_tokens=1000))
    assert isinstance(first, Decision)
    assert (first.request.prompt_tokens, first.request.decode_tokens) == (first.request.body_bytes // 4, 256)
    assert (first.request.max_tokens, first.request.is_stream) == (1000, False)
    usage = {"prompt_tokens": first.request.body_bytes // 2, "completion_tokens": 30}
    world.director.account(
        read_record({"type": "DownstreamEnd", "reservation": first.reservation, "status": 200, **usage})
    )
    second = world.director.decide(ask(stream=True, max_tokens=7))
    assert isinstance(second, Decision)
    assert second.request.prompt_tokens == pytest.approx(second.request.body_bytes / 2, abs=1)
    assert (second.request.decode_tokens, second.request.is_stream) == (7, True)
    world.view = view_of(facts("b", model="other"))
    world.director.expire()
    world.view = view_of(facts("a"))
    third = world.director.decide(ask())
    assert isinstance(third, Decision)
    assert third.request.decode_tokens == 256, "a model that was away is learnt anew"
