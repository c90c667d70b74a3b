"""Weighted combinations: what may be written, and what comes of it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.framework.outcome import AccessRecord, Outcome
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.scheduling.combination import EXCLUSIVE, Combination, normalised, parse_members
from pybrix.gateway.scheduling.profile import COMBINED, MAX_COMBINATIONS, Profile
from pybrix.gateway.scheduling.registry import build_strategies, strategy_names
from pybrix.gateway.strategies.session_affinity import session_id_of
from tests.support.gateway import NOW_S, make_endpoint, make_request, make_signals

KNOWN = strategy_names()
A, B, C = ENDPOINTS = [make_endpoint(name) for name in "abc"]


class Scripted:
    """A strategy that says what it is told to, and remembers what it hears."""

    prefers_new = False

    def __init__(self, name: str, scores: Sequence[float], cached: int = 0) -> None:
        self.name = name
        self._scores = scores
        self._cached = cached
        self.heard: list[str] = []

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return self._scores

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        return [f"{self.name} says so"] * len(endpoints)

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        self.heard.append(f"to {endpoint.pod_name}")
        return self._cached

    def observe_outcome(self, outcome: Outcome) -> None:
        self.heard.append(f"ended {outcome.record.status}")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("random", (("random", 1),), id="one"),
        pytest.param("prefix-cache:2,least-request:1", (("prefix-cache", 2), ("least-request", 1)), id="weights"),
        pytest.param(" random : 3 , throughput ", (("random", 3), ("throughput", 1)), id="spaces"),
        pytest.param("random:0,throughput:0007", (("throughput", 7),), id="weight 0 takes no part"),
        pytest.param("random:1000000,throughput", (("random", 1_000_000), ("throughput", 1)), id="the largest weight"),
        pytest.param("random:5,slo:2,slo-pack-load", (("slo", 1),), id="the first exclusive one decides alone"),
        pytest.param("random:5,slo:0", (("random", 5),), id="an exclusive one of weight 0 does not"),
    ],
)
def test_what_may_be_written(text: str, want: object) -> None:
    assert parse_members(text, KNOWN) == want


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("roulette", "valid strategies: least-busy-time, ", id="no strategy"),
        pytest.param("random,roulette:2", "'roulette' is no strategy; valid strategies: ", id="a member is none"),
        pytest.param("random,", "a name is missing; ", id="nothing after the comma"),
        pytest.param("random,:2", "a name is missing; ", id="only a weight"),
        pytest.param("random,throughput,random:2", "random is there twice", id="twice"),
        pytest.param("random:", "the weight of random is '', not a number from 0 to 1000000", id="no weight"),
        pytest.param("random:-1", "the weight of random is '-1', ", id="negative"),
        pytest.param("random:1.5", "the weight of random is '1.5', ", id="not whole"),
        pytest.param("random:1000001", "the weight of random is '1000001', ", id="too much"),
        pytest.param("random:²", "the weight of random is '²', ", id="no ASCII digit"),
        pytest.param("random:1:2", "the weight of random is '1:2', ", id="two weights"),
        pytest.param("random:0,throughput:0", "every weight is 0", id="nothing left"),
        pytest.param("random," * 200, "it is longer than 1024 characters", id="too long"),
        pytest.param("pd", "prefill and decode on separate pods is not supported", id="pd"),
        pytest.param("random:2,pd", "prefill and decode on separate pods is not supported", id="pd among others"),
    ],
)
def test_what_is_wrong_is_told(text: str, why: str) -> None:
    profile = Profile(build_strategies(random.Random(1)))
    assert profile.find(text) is None
    assert profile.why_invalid(text).startswith(why)


def test_every_exclusive_strategy_that_there_is_stays_alone() -> None:
    for name in EXCLUSIVE - {"pd"}:
        assert parse_members(f"random,{name}", KNOWN) == ((name, 1),)


@pytest.mark.parametrize(
    ("scores", "want"),
    [
        pytest.param([0.2, 0.4, 0.3], [0.0, 1.0, 0.5], id="spread over 0 to 1"),
        pytest.param([0.4, 0.4], [1.0, 1.0], id="all equal"),
        pytest.param([math.nan, 0.5, 0.25, math.inf], [0.0, 1.0, 0.0, 0.0], id="no numbers"),
        pytest.param([math.nan], [0.0], id="no number at all"),
    ],
)
def test_scores_are_normalised(scores: list[float], want: list[float]) -> None:
    assert normalised(scores) == pytest.approx(want)


def test_members_count_by_their_weights() -> None:
    one, two = Scripted("one", [0.5, 0.4, 0.3]), Scripted("two", [0.0, 0.1, 0.4])
    both = Combination([(one, 3), (two, 1)])
    assert both.name == "one:3,two"
    assert both.score(make_request(), ENDPOINTS, make_signals()) == pytest.approx([0.75, 0.4375, 0.25])
    assert both.reasons(make_request(), ENDPOINTS, make_signals())[0] == (
        "one 75% x 1.00 (one says so); two 25% x 0.00 (two says so)"
    )


def test_every_member_hears_what_comes_of_it() -> None:
    members = [Scripted("one", [1, 0, 0], cached=0), Scripted("two", [1, 0, 0], cached=70)]
    profile, request = Profile({m.name: m for m in members}), make_request("two:2,one")
    assert profile.observe_routed(request, A, make_signals()) == 70
    record = AccessRecord("r", False, A.host, 200, "", 10.0, 20.0, 100, 5, 0, 1, "id")
    profile.observe_outcome(Outcome(request, A, A, record, NOW_S))
    assert [m.heard for m in members] == [["to a", "ended 200"]] * 2


def test_what_is_cached_is_what_was_there_before_any_member_noted_the_prompt() -> None:
    profile = Profile(build_strategies(random.Random(1)))
    for text in ("prefix-affinity,prefix-cache", "prefix-cache,prefix-cache-preble", "prefix-cache-preble,vtc-basic"):
        for chain, want in (([1, 2, 3, 4], 0), ([1, 2, 9, 9], 50), ([1, 2, 3, 4], 100)):
            scoped = [hash((text, block)) for block in chain]
            request = make_request(text, known_chain=scoped, prompt_tokens=100)
            profile.rank(request, [A], make_signals(), random.Random(1))
            assert profile.observe_routed(request, A, make_signals()) == want, text


def test_one_member_is_that_strategy() -> None:
    profile = Profile(build_strategies(random.Random(1)))
    assert profile.find("least-request:7") is profile.find("least-request")
    assert profile.find(" random:0, least-request ") is profile.find("least-request")


def test_sessions_are_kept_by_a_combination_with_a_member_that_keeps_them() -> None:
    profile = Profile(build_strategies(random.Random(1)))
    request = make_request("session-affinity:3,least-request", session_id=session_id_of(B))
    ranked = profile.rank(request, ENDPOINTS, make_signals({"b": 1}), random.Random(1))
    assert ranked[0] is B
    assert profile.session_id(request, B) == session_id_of(B)
    assert profile.session_id(make_request("random,least-request"), B) == ""


def test_any_number_of_combinations_is_found_and_few_are_kept() -> None:
    profile = Profile(build_strategies(random.Random(1)))
    for weight in range(1, 4 * MAX_COMBINATIONS):
        found = profile.find(f"random:{weight},least-request:0,throughput")
        assert found is not None
        assert len(profile._combinations) <= MAX_COMBINATIONS
    request = make_request("random:1,throughput")
    assert len(profile.rank(request, ENDPOINTS, make_signals(), random.Random(1))) == 3
    assert profile.label(request.strategy) == COMBINED
    assert profile.label("random") == "random"


@given(st.lists(st.tuples(st.sampled_from(KNOWN), st.integers(0, 9)), min_size=1, max_size=6))
def test_a_name_of_a_combination_means_the_same_combination(members: list[tuple[str, int]]) -> None:
    profile = Profile(build_strategies(random.Random(1)))
    found = profile.find(",".join(f"{name}:{weight}" for name, weight in members))
    if found is not None:
        again = profile.find(found.name)
        assert again is not None
        assert again.name == found.name


@given(st.text(max_size=40))
def test_any_text_is_a_strategy_or_has_a_reason(text: str) -> None:
    profile = Profile(build_strategies(random.Random(1)))
    assert (profile.find(text) is None) == bool(profile.why_invalid(text))
