"""Each strategy by its formula, and what holds for all of them."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies, strategy_names
from pybrix.gateway.strategies.least_request import LeastRequest
from pybrix.gateway.strategies.random import Random
from tests.support.gateway import make_endpoint, make_request, make_signals


@pytest.mark.parametrize(
    ("counts", "want"),
    [
        pytest.param({"a": 0, "b": 2, "c": 4}, [1.0, 0.5, 0.0], id="spread evenly"),
        pytest.param({"a": 3, "b": 3}, [1.0, 1.0], id="all alike"),
        pytest.param({"a": 1}, [1.0], id="only one"),
        pytest.param({}, [], id="none"),
    ],
)
def test_least_request_scores_by_requests_in_flight(counts: dict[str, int], want: list[float]) -> None:
    endpoints = [make_endpoint(name) for name in counts]
    assert LeastRequest().score(make_request(), endpoints, make_signals(counts)) == want


def test_an_endpoint_that_was_never_used_has_nothing_in_flight() -> None:
    endpoints = [make_endpoint("busy"), make_endpoint("new")]
    assert LeastRequest().score(make_request(), endpoints, make_signals({"busy": 1})) == [0.0, 1.0]


def test_random_scores_alike() -> None:
    assert Random().score(make_request(), [make_endpoint("a"), make_endpoint("b")], make_signals()) == [1.0, 1.0]


@pytest.mark.parametrize("name", strategy_names())
@given(counts=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 5), min_size=1), seed=st.integers(0, 9))
def test_every_strategy_ranks_every_endpoint_once_by_scores_in_range(
    name: str, counts: dict[str, int], seed: int
) -> None:
    endpoints = [make_endpoint(each) for each in counts]
    # Some draw for themselves: the same question twice needs the same luck twice.
    asked, told = (Profile(build_strategies(random.Random(1))) for _ in range(2))
    got = told.explain(make_request(name), endpoints, make_signals(counts), random.Random(seed))
    ranked = asked.rank(make_request(name), endpoints, make_signals(counts), random.Random(seed))
    assert ranked == [r.endpoint for r in got]
    assert sorted(r.endpoint.pod_name for r in got) == sorted(counts)
    assert all(0.0 <= r.score <= 1.0 and r.why for r in got)
    assert [r.score for r in got] == sorted((r.score for r in got), reverse=True)


def test_ties_are_broken_evenly_and_the_same_for_the_same_seed() -> None:
    endpoints = [make_endpoint(name) for name in "abc"]
    profile, chance = Profile(build_strategies(random.Random(1))), random.Random(1)
    firsts = Counter(
        profile.rank(make_request("random"), endpoints, make_signals(), chance)[0].pod_name for _ in range(3000)
    )
    assert all(900 < firsts[name] < 1100 for name in "abc")
    again = [
        [e.pod_name for e in profile.rank(make_request("random"), endpoints, make_signals(), random.Random(5))]
        for _ in range(2)
    ]
    assert again[0] == again[1]


def test_least_request_ties_are_random_only_among_the_least() -> None:
    endpoints = [make_endpoint(name) for name in "abc"]
    loads = make_signals({"a": 0, "b": 0, "c": 1})
    profile, chance = Profile(build_strategies(random.Random(1))), random.Random(1)
    rankings = {
        tuple(e.pod_name for e in profile.rank(make_request("least-request"), endpoints, loads, chance))
        for _ in range(50)
    }
    assert rankings == {("a", "b", "c"), ("b", "a", "c")}
