"""Strategies that keep things together: sessions, adapters."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.framework.signals import EngineMetrics, Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.strategies.lora_affinity import LoraAffinity
from pybrix.gateway.strategies.session_affinity import SessionAffinity, session_id_of
from tests.support.gateway import NOW_S, make_endpoint, make_request, make_signals

ENDPOINTS = [make_endpoint(name, ip=f"127.64.2.{n}") for n, name in enumerate(("a", "b", "c", "d"))]


def ranking(
    request: InferenceRequest, endpoints: Sequence[Endpoint] = ENDPOINTS, signals: Signals | None = None
) -> list[str]:
    profile = Profile(build_strategies(random.Random(1)))
    return [e.pod_name for e in profile.rank(request, endpoints, signals or make_signals(), random.Random(1))]


def test_a_session_goes_where_its_last_answer_came_from() -> None:
    request = make_request("session-affinity", session_id=session_id_of(ENDPOINTS[2]))
    got = ranking(request, signals=make_signals({"a": 2, "b": 1, "c": 9, "d": 3}))
    assert got == ["c", "b", "a", "d"], "and the others follow by load"


@pytest.mark.parametrize("session_id", ["", "MTI3LjAuMC4xOjE=", "not base64!", "w7zDvA==", "\udc80"])
def test_a_session_id_that_names_no_ready_endpoint_is_bound_anew(session_id: str) -> None:
    got = ranking(
        make_request("session-affinity", session_id=session_id), signals=make_signals({"a": 1, "b": 2, "d": 1})
    )
    assert got[0] == "c", "to the one with the least requests"


def test_a_key_goes_to_one_endpoint_and_its_retry_too() -> None:
    request = make_request("session-affinity", session_key="user-17")
    first = ranking(request, signals=make_signals({"a": 9}))
    assert first == ranking(request, list(reversed(ENDPOINTS)), make_signals({"b": 9}))
    assert ranking(request, [e for e in ENDPOINTS if e.pod_name != first[0]]) == first[1:]


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=30, unique=True), st.sampled_from("abcd"))
def test_only_the_keys_of_an_endpoint_that_leaves_move(keys: list[str], leaver: str) -> None:
    left = [e for e in ENDPOINTS if e.pod_name != leaver]
    strategy = SessionAffinity()

    def home(key: str, endpoints: list[Endpoint]) -> str:
        got = strategy.score(make_request(session_key=key), endpoints, make_signals())
        return endpoints[got.index(1.0)].pod_name

    for key in keys:
        before, after = home(key, ENDPOINTS), home(key, left)
        assert after == before or before == leaver


def test_keys_spread_over_all_endpoints() -> None:
    homes = [ranking(make_request("session-affinity", session_key=f"s{n}"))[0] for n in range(400)]
    assert all(60 < homes.count(name) < 140 for name in "abcd")


def test_a_key_that_is_too_long_is_no_key() -> None:
    got = ranking(
        make_request("session-affinity", session_key="x" * 257), signals=make_signals({"a": 1, "b": 1, "c": 1})
    )
    assert got[0] == "d"


def lora(running: str = "", waiting: str = "", max_loras: int | None = 2) -> EngineMetrics:
    return EngineMetrics(
        NOW_S,
        running_loras=frozenset(running.split()),
        waiting_loras=frozenset(waiting.split()),
        max_loras=max_loras,
    )


def test_an_adapter_goes_where_it_is_then_where_there_is_room_then_by_load() -> None:
    engines = {"a": lora("x y"), "b": lora("mine x"), "c": lora("x"), "d": lora(waiting="mine")}
    signals = make_signals({"a": 0, "b": 3, "c": 1, "d": 2}, metrics=engines)
    request = make_request("lora-affinity", adapter="mine")
    assert ranking(request, signals=signals) == ["d", "b", "c", "a"]
    assert LoraAffinity().reasons(request, ENDPOINTS, signals)[0] == (
        "its batch is full of other adapters, 0 requests in flight"
    )


def test_a_base_model_goes_by_load_alone() -> None:
    signals = make_signals({"a": 2, "b": 1, "c": 3, "d": 4}, metrics={"a": lora("x"), "b": lora("x y")})
    assert ranking(make_request("lora-affinity"), signals=signals) == ["b", "a", "c", "d"]


def test_an_engine_that_says_nothing_may_have_room() -> None:
    signals = make_signals({"a": 1}, metrics={"b": lora("x y"), "c": lora("x y"), "d": lora("x y")})
    assert ranking(make_request("lora-affinity", adapter="mine"), signals=signals)[0] == "a"
