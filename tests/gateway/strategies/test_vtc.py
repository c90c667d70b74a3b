"""`vtc-basic`: who goes where, and what is counted for whom."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.framework.outcome import AccessRecord, Outcome
from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.usertokens import FORGET_S, TAU_S, UserTokens
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.strategies.vtc_basic import VtcBasic
from tests.support.gateway import NOW_S, make_endpoint, make_request, make_signals

A, B, C, D, E = ENDPOINTS = [
    make_endpoint(name, created_at=f"2026-01-0{day}T00:00:00Z")
    for name, day in zip("abcde", (3, 1, 2, 5, 4), strict=True)
]
OLDEST_FIRST = "bcaed"
SCOPE = ("default", "m")


def ask(user: str = "", **fields: Any) -> InferenceRequest:
    return make_request("vtc-basic", user=user, **fields)


def first(strategy: VtcBasic, request: InferenceRequest, counts: dict[str, int] | None = None) -> str:
    profile = Profile({strategy.name: strategy})
    return profile.rank(request, ENDPOINTS, make_signals(counts), random.Random(1))[0].pod_name


def ended(request: InferenceRequest, status: int = 200, prompt: int = 0, completion: int = 0) -> Outcome:
    record = AccessRecord("r", False, A.host, status, "", 10.0, 20.0, prompt, completion, 0, 1, "id")
    return Outcome(request, A, A, record, NOW_S)


@pytest.mark.parametrize(
    ("tokens", "heaviest", "want"),
    [
        pytest.param(0, 0, 0, id="a user who was never seen"),
        pytest.param(999, 999, 1, id="one place for a thousand tokens"),
        pytest.param(4000, 4000, 4, id="as far as there are endpoints"),
        pytest.param(4000, 40_000, 0, id="little beside another"),
        pytest.param(21_000, 40_000, 2, id="half of the heaviest"),
        pytest.param(40_000, 40_000, 4, id="the heaviest"),
    ],
)
def test_users_have_places_by_what_they_were_served(tokens: int, heaviest: int, want: int) -> None:
    users = UserTokens()
    users.add(SCOPE, "u", tokens, NOW_S)
    users.add(SCOPE, "other", heaviest, NOW_S)
    assert first(VtcBasic(users), ask("u")) == OLDEST_FIRST[want]


def test_places_do_not_depend_on_the_order_in_which_endpoints_come() -> None:
    users = UserTokens()
    users.add(SCOPE, "u", 2000, NOW_S)
    strategy = VtcBasic(users)
    for seed in range(20):
        shuffled = random.Random(seed).sample(ENDPOINTS, len(ENDPOINTS))
        got = strategy.score(ask("u"), shuffled, make_signals())
        assert shuffled[got.index(1.0)].pod_name == OLDEST_FIRST[2]


def test_load_pushes_away_from_ones_place() -> None:
    users = UserTokens()
    users.add(SCOPE, "u", 4000, NOW_S)
    strategy = VtcBasic(users)
    assert first(strategy, ask("u"), {"d": 1, "e": 1}) == "d"
    assert first(strategy, ask("u"), {"d": 3}) == "e"


def test_without_a_user_the_load_decides() -> None:
    assert first(VtcBasic(UserTokens()), ask(), {"a": 1, "b": 2, "c": 1, "e": 1}) == "d"


def test_one_user_alone_still_uses_every_endpoint() -> None:
    users, loads, counts = UserTokens(), LoadTable(), Counter[str]()
    strategy = VtcBasic(users)
    users.add(SCOPE, "u", 1_000_000, NOW_S)
    profile = Profile({strategy.name: strategy})
    for _ in range(200):
        chosen = profile.rank(ask("u"), ENDPOINTS, make_signals(loads=loads), random.Random(1))[0]
        loads.add(chosen.id, Weight())
        counts[chosen.pod_name] += 1
    assert max(counts.values()) <= 1.5 * 200 / 5 + 1
    assert min(counts[name] for name in "abcde") >= 0.5 * 200 / 5 - 1


def test_real_usage_replaces_the_estimate() -> None:
    users = UserTokens()
    strategy = VtcBasic(users)
    request = ask("u", prompt_tokens=100, decode_tokens=50)
    assert strategy.observe_routed(request, A, make_signals()) == 0
    assert users.of(SCOPE, "u", NOW_S) == 200
    strategy.observe_outcome(ended(request, prompt=120, completion=10))
    assert users.of(SCOPE, "u", NOW_S) == 140


@pytest.mark.parametrize(("status", "want"), [(200, 200), (503, 0), (0, 0)])
def test_an_answer_without_usage_keeps_the_estimate_and_a_failure_costs_nothing(status: int, want: int) -> None:
    users = UserTokens()
    strategy, request = VtcBasic(users), ask("u", prompt_tokens=100, decode_tokens=50)
    strategy.observe_routed(request, A, make_signals())
    strategy.observe_outcome(ended(request, status))
    assert users.of(SCOPE, "u", NOW_S) == want


def test_nobody_is_not_counted() -> None:
    users = UserTokens()
    strategy = VtcBasic(users)
    strategy.observe_routed(ask(), A, make_signals())
    strategy.observe_outcome(ended(ask(), prompt=5))
    assert len(users) == 0


def test_a_model_and_its_adapters_share_counts_and_namespaces_do_not() -> None:
    users = UserTokens()
    strategy = VtcBasic(users)

    def endpoint(model: str, base: str) -> Endpoint:
        return make_endpoint("a", model=model, base_model=base)

    strategy.observe_routed(make_request(model="sql", user="u", adapter="sql"), endpoint("sql", "m"), make_signals())
    strategy.observe_routed(make_request(user="u", namespace="other"), endpoint("m", "m"), make_signals())
    strategy.observe_routed(make_request(user="u"), endpoint("m", "m"), make_signals())
    assert users.of(SCOPE, "u", NOW_S) == 400
    assert users.of(("other", "m"), "u", NOW_S) == 200


class TestUserTokens:
    def test_counts_fall(self) -> None:
        users = UserTokens()
        users.add(SCOPE, "u", 1000, 0.0)
        assert users.of(SCOPE, "u", TAU_S) == pytest.approx(367.9, rel=0.001)
        users.add(SCOPE, "u", 100, TAU_S)
        assert users.of(SCOPE, "u", TAU_S) == pytest.approx(467.9, rel=0.001)

    def test_the_heaviest_is_known_of_each_model(self) -> None:
        users = UserTokens()
        users.add(SCOPE, "u", 1000, 0.0)
        users.add(SCOPE, "v", 900, 0.0)
        users.add(("other", "m"), "w", 5, 0.0)
        assert users.heaviest(SCOPE, 0.0) == 1000
        users.add(SCOPE, "v", 200, 0.0)
        assert users.heaviest(SCOPE, 0.0) == 1100
        assert users.heaviest(("other", "m"), 0.0) == 5
        assert users.heaviest(("none", "m"), 0.0) == 0

    def test_who_was_not_seen_for_long_is_forgotten(self) -> None:
        users = UserTokens()
        users.add(SCOPE, "u", 1000, 0.0)
        users.add(SCOPE, "v", 10, FORGET_S)
        assert len(users) == 2
        users.add(SCOPE, "v", 10, FORGET_S + 1)
        assert len(users) == 1
        assert users.heaviest(SCOPE, FORGET_S + 1) == pytest.approx(20, rel=0.01)

    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(-50, 100)), max_size=200))
    def test_memory_is_bounded_and_counts_are_never_negative(self, events: list[tuple[int, int]]) -> None:
        users = UserTokens(max_users=16)
        for n, (user, amount) in enumerate(events):
            users.add((f"ns{user % 3}", "m"), str(user), amount, float(n))
            assert len(users) <= 16
            assert len(users._heaviest) <= 16
            assert users.of((f"ns{user % 3}", "m"), str(user), float(n)) >= 0.0
