"""Limits of users and models: what is admitted, what is settled, and what the headers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.admission.ratelimit import (
    Charge,
    CounterKey,
    Exceeded,
    Limiter,
    UserLimits,
    render_duration,
    user_limits,
)

NOW_S = 1000.0
LIMITS = UserLimits(rpm=3, tpm=1000)


def admit(limiter: Limiter, now_s: float = NOW_S, *, tokens: int = 100, rps: int = 0, **more: int) -> Charge | Exceeded:
    limits = UserLimits(more.get("rpm", LIMITS.rpm), more.get("tpm", LIMITS.tpm))
    return limiter.admit(
        now_s, user="alice", limits=limits, tokens=tokens, expected_tokens=tokens // 2, model="default/m", rps=rps
    )


def kept(limiter: Limiter, reservation: str, now_s: float = NOW_S, **options: int) -> None:
    charge = admit(limiter, now_s, **options)
    assert isinstance(charge, Charge)
    limiter.keep(reservation, charge)


def remaining(limiter: Limiter, now_s: float = NOW_S, limits: UserLimits = LIMITS) -> tuple[int, int]:
    headers = dict(limiter.headers("alice", limits, now_s))
    return int(headers["x-ratelimit-remaining-requests"]), int(headers["x-ratelimit-remaining-tokens"])


@pytest.mark.parametrize(
    ("rpm", "tpm", "want"),
    [(0, 0, (100, 100_000)), (5, 0, (5, 5000)), (0, 7, (100, 7)), (5, 7, (5, 7))],
    ids=["both-default", "tokens-from-requests", "requests-default", "both-set"],
)
def test_zeros_are_defaults_as_aibrix_has_them(rpm: int, tpm: int, want: tuple[int, int]) -> None:
    assert user_limits(rpm, tpm) == want


@pytest.mark.parametrize(
    ("seconds", "want"),
    [(0, "0s"), (0.0004, "0s"), (0.25, "250ms"), (1, "1s"), (1.5, "1.5s"), (59.9996, "1m0s"), (360, "6m0s"),
     (90.951, "1m30.951s"), (3600, "1h0m0s"), (3725.5, "1h2m5.5s")],
)  # fmt: skip
def test_durations_are_printed_as_openai_does(seconds: float, want: str) -> None:
    assert render_duration(seconds) == want


def test_requests_above_the_limit_are_denied_until_the_window_has_moved() -> None:
    limiter = Limiter()
    assert [isinstance(admit(limiter), Charge) for _ in range(4)] == [True, True, True, False]
    denied = admit(limiter)
    assert isinstance(denied, Exceeded)
    assert (denied.kind, denied.limit) == ("rpm", 3)
    assert 60.0 <= denied.retry_after_s <= 61.0
    assert isinstance(admit(limiter, NOW_S + denied.retry_after_s + 0.001), Charge)


def test_what_one_limit_denies_costs_nothing_of_the_others() -> None:
    limiter = Limiter()
    assert isinstance(admit(limiter, tokens=900), Charge)
    denied = admit(limiter, tokens=200)
    assert isinstance(denied, Exceeded)
    assert denied.kind == "tpm"
    assert remaining(limiter) == (2, 100)
    assert isinstance(admit(limiter, tokens=50, rps=1), Charge)
    assert isinstance(admit(limiter, tokens=10, rps=1), Exceeded)
    assert remaining(limiter) == (1, 50)


def test_a_request_larger_than_the_limit_goes_through_alone() -> None:
    limiter = Limiter()
    kept(limiter, "r1", tokens=5000)
    assert remaining(limiter) == (2, 0)
    limiter.settle("r1", 200, 30, NOW_S + 1)
    assert remaining(limiter, NOW_S + 1) == (2, 970)


@pytest.mark.parametrize(
    ("status", "used", "left"),
    [(200, 40, 960), (200, 100, 900), (200, 250, 750), (200, 5000, 0), (200, 0, 950), (500, 0, 1000), (0, 0, 1000),
     (499, 30, 970)],
    ids=["less", "as-estimated", "more", "far-more", "no-usage-reported", "failed", "no-answer", "client-gone"],
)  # fmt: skip
def test_real_usage_is_what_counts_in_the_end(status: int, used: int, left: int) -> None:
    limiter = Limiter()
    kept(limiter, "r1")
    assert remaining(limiter) == (2, 900)
    limiter.settle("r1", status, used, NOW_S + 5)
    assert remaining(limiter, NOW_S + 5) == (2, left)
    assert limiter.kept == 0


def test_a_charge_is_settled_once() -> None:
    limiter = Limiter()
    kept(limiter, "r1")
    limiter.settle("r1", 200, 40, NOW_S)
    limiter.settle("r1", 200, 40, NOW_S)
    limiter.release("r1", NOW_S)
    limiter.settle("never", 200, 40, NOW_S)
    assert remaining(limiter) == (2, 960)
    assert limiter.settled_tokens == 40


def test_an_expired_reservation_gives_its_tokens_back_and_stays_a_request() -> None:
    limiter = Limiter()
    kept(limiter, "r1")
    limiter.release("r1", NOW_S + 32)
    limiter.settle("r1", 200, 40, NOW_S + 40)
    assert remaining(limiter, NOW_S + 40) == (2, 1000)


def test_a_refused_request_costs_nothing() -> None:
    limiter = Limiter()
    charge = admit(limiter, rps=1)
    assert isinstance(charge, Charge)
    limiter.refund(charge, NOW_S)
    assert remaining(limiter) == (3, 1000)
    assert isinstance(admit(limiter, rps=1), Charge)


def test_usage_that_comes_after_the_window_is_charged_when_it_comes() -> None:
    limiter = Limiter()
    kept(limiter, "r1")
    assert remaining(limiter, NOW_S + 90) == (3, 1000)
    limiter.settle("r1", 200, 300, NOW_S + 90)
    assert remaining(limiter, NOW_S + 90) == (3, 800)


def test_a_models_limit_is_of_a_second_and_of_all_users() -> None:
    limiter = Limiter()
    for user in "ab":
        assert isinstance(limiter.admit(NOW_S, user=user, model="default/m", rps=2), Charge)
    denied = limiter.admit(NOW_S, user="c", model="default/m", rps=2)
    assert isinstance(denied, Exceeded)
    assert (denied.kind, denied.limit) == ("rps", 2)
    assert 0.9 < denied.retry_after_s <= 1.1
    assert isinstance(limiter.admit(NOW_S, model="team/m", rps=2), Charge)
    assert isinstance(limiter.admit(NOW_S + 1.1, model="default/m", rps=2), Charge)


def test_headers_are_openais() -> None:
    limiter = Limiter()
    kept(limiter, "r1")
    headers = limiter.headers("alice", LIMITS, NOW_S + 30)
    assert dict(headers) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "31s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "900",
        "x-ratelimit-reset-tokens": "31s",
    }
    assert dict(limiter.headers("new", LIMITS, NOW_S))["x-ratelimit-reset-tokens"] == "0s"


def test_counters_of_those_who_are_gone_are_forgotten() -> None:
    limiter = Limiter()
    kept(limiter, "r1", rps=5)
    assert limiter.counters == 3
    limiter.look_around(NOW_S + 30)
    assert limiter.counters == 2
    limiter.look_around(NOW_S + 122)
    assert limiter.counters == 0
    limiter.settle("r1", 200, 7, NOW_S + 130)
    assert remaining(limiter, NOW_S + 130) == (3, 1000)


def test_redis_hears_of_due_counters_once_and_in_portions() -> None:
    woken: list[bool] = []
    limiter = Limiter(wake=lambda: woken.append(True))
    limiter.is_shared = True
    for user in "abc":
        limiter.admit(NOW_S, user=user, limits=LIMITS, tokens=10)
    assert len(woken) == 6
    first = limiter.plan(NOW_S, 4)
    rest = limiter.plan(NOW_S, 4)
    assert [len(first), len(rest), limiter.is_due] == [4, 2, False]
    assert CounterKey("tpm", "c") in {key for key, _ in rest}
    for key, _ in first:
        limiter.apply(key, None, NOW_S)
    assert limiter.is_due


@given(st.lists(st.tuples(st.sampled_from("asrx"), st.integers(0, 5), st.integers(0, 400)), max_size=80))
def test_in_any_order_everything_is_settled_and_nothing_stays(steps: list[tuple[str, int, int]]) -> None:
    limiter, now_s, number, open_ones = Limiter(), NOW_S, 0, []
    for action, which, amount in steps:
        now_s += 0.5
        if action == "a":
            charge = admit(limiter, now_s, tokens=amount, rpm=50)
            if isinstance(charge, Charge):
                number += 1
                limiter.keep(f"r{number}", charge)
                open_ones.append(f"r{number}")
        elif open_ones:
            chosen = open_ones[which % len(open_ones)]
            if action == "s":
                limiter.settle(chosen, 200, amount, now_s)
            elif action == "r":
                limiter.release(chosen, now_s)
            else:
                limiter.settle(chosen, 500, 0, now_s)
    for each in open_ones:
        limiter.release(each, now_s)
    assert limiter.kept == 0
    now_s += 200
    limiter.look_around(now_s)
    assert limiter.counters == 0
    assert remaining(limiter, now_s) == (3, 1000)
