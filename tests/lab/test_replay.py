from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.base.errors import UsageError
from pybrix.lab.comparison import ALL, check_strategies, plan_cases, run_cases
from pybrix.lab.generator import generate
from pybrix.lab.profiles import PROFILES
from pybrix.lab.readers import parse_trace
from pybrix.lab.replay import Replay, Result
from pybrix.lab.report import render_csv, render_json
from pybrix.lab.saturation import LATE, find_saturation, late_ratio
from pybrix.lab.trace import Trace
from tests.support.traces import make_trace, mooncake_text, simple

PROFILE = PROFILES["h100-32b"]
STRATEGIES = check_strategies([ALL])


def replayed(trace: Trace, strategy: str = "least-request", pods: int = 2, seed: int = 1, speed: float = 1.0) -> Result:
    return Replay(trace, strategy=strategy, pods=pods, profile=PROFILE, seed=seed, speed=speed).run()


@pytest.mark.parametrize("strategy", [*STRATEGIES, "prefix-affinity:2,least-request:1"])
def test_every_request_is_answered_once_and_nothing_stays_reserved(strategy: str) -> None:
    trace = parse_trace(mooncake_text(), "m")
    replay = Replay(trace, strategy=strategy, pods=3, profile=PROFILE, speed=5.0)
    result = replay.run()
    assert result.failed == 0
    assert all(0.0 < ttft <= e2e for ttft, e2e in zip(result.ttft_s, result.e2e_s, strict=True))
    replay.settle()
    assert replay.reserved == 0


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(STRATEGIES))
def test_the_same_seed_gives_the_same_bytes(seed: int, strategy: str) -> None:
    def report() -> tuple[str, str]:
        trace = generate("mixed", sessions=15, duration_s=20.0, seed=seed)
        cases = plan_cases(
            trace, strategies=[strategy], pods=3, profile=PROFILE, seeds=[seed, seed + 1], loads=(), speed=2.0
        )
        summaries = list(run_cases(trace, cases, pods=3, profile=PROFILE))
        return render_json(summaries), render_csv(summaries)

    assert report() == report()


def test_another_seed_gives_another_run_of_the_same_requests() -> None:
    trace = parse_trace(mooncake_text(), "m")
    one, other = replayed(trace, seed=1), replayed(trace, seed=2)
    assert one.arrival_s != other.arrival_s
    assert one.prompt_tokens == other.prompt_tokens


def test_every_strategy_gets_the_same_arrivals() -> None:
    trace = parse_trace(mooncake_text(), "m")
    assert len({tuple(replayed(trace, strategy).arrival_s) for strategy in STRATEGIES}) == 1


def test_speed_brings_arrivals_closer() -> None:
    trace = make_trace(simple(0.0, 64), simple(10.0, 64, first_id=50))
    assert replayed(trace, speed=4.0).arrival_s == [0.0, 2.5]


def test_a_follower_waits_for_the_answer_and_the_gap() -> None:
    trace = make_trace(simple(0.0, 6400, 100), simple(0.0, 6400, 1, follows=0, gap_s=3.0))
    result = replayed(trace, speed=10.0)
    assert result.arrival_s[1] == pytest.approx(result.e2e_s[0] + 3.0)


def test_least_request_spreads_what_comes_together() -> None:
    trace = make_trace(*(simple(0.001 * n, 640, 50, first_id=100 * n) for n in range(8)))
    assert sorted(replayed(trace, pods=8).pod) == list(range(8))


def test_prefix_cache_finds_what_it_sent_before() -> None:
    trace = make_trace(*(simple(5.0 * n, 6400, 5) for n in range(10)))
    result = replayed(trace, "prefix-cache", pods=8)
    assert len(set(result.pod)) == 1
    assert result.cached_tokens[1:] == [6384] * 9


def test_a_session_stays_where_it_was() -> None:
    turns = [simple(0.0, 640, 5, session="a")]
    turns += [simple(0.0, 640 * n, 5, session="a", follows=n - 2, gap_s=1.0) for n in range(2, 8)]
    crowd = [simple(0.5 * n, 640, 50, first_id=1000 * n) for n in range(1, 30)]
    result = replayed(make_trace(*turns, *crowd), "session-affinity", pods=4)
    assert len(set(result.pod[: len(turns)])) == 1


def test_a_prompt_that_fits_no_engine_fails_and_its_session_goes_on() -> None:
    trace = make_trace(simple(0.0, 500_000), simple(0.0, 64, follows=0, gap_s=1.0))
    result = replayed(trace)
    assert result.failed == 1
    assert result.pod[0] == -1
    assert not math.isnan(result.e2e_s[1])


def test_long_answers_stay_reserved_by_renewals() -> None:
    trace = make_trace(simple(0.0, 64, 20_000), simple(200.0, 64, 1, first_id=90))
    replay = Replay(trace, strategy="least-request", pods=1, profile=PROFILE)
    result = replay.run()
    assert result.e2e_s[0] > 120.0
    assert replay.expired == 0


def test_saturation_is_between_what_is_kept_up_with_and_what_is_not() -> None:
    trace = parse_trace(mooncake_text(300), "m")
    slow = replace(PROFILE, prefill_tokens_per_s=4000.0)
    full = find_saturation(trace, pods=2, profile=slow)

    def late(speed: float) -> float:
        return late_ratio(trace, strategy="least-request", pods=2, profile=slow, speed=speed, seed=1)

    assert late(full) <= LATE < late(1.3 * full)


@pytest.mark.parametrize(
    ("starts_s", "says"),
    [([0.0, 1.0], "2 requests are too few"), ([0.0] * 60, "2% of the requests come at its very end")],
    ids=["too short", "all at once"],
)
def test_a_trace_that_nothing_keeps_up_with_is_said_to_be_one(starts_s: list[float], says: str) -> None:
    trace = make_trace(*(simple(at_s, 64, 1) for at_s in starts_s))
    with pytest.raises(UsageError, match=says):
        find_saturation(trace, pods=2, profile=PROFILE)


def test_loads_are_shares_of_saturation() -> None:
    trace = parse_trace(mooncake_text(100), "m")
    cases = plan_cases(trace, strategies=["random"], pods=1, profile=PROFILE, seeds=[1, 2], loads=(0.5, 1.0), speed=1.0)
    assert [(case.load, case.seed) for case in cases] == [(0.5, 1), (0.5, 2), (1.0, 1), (1.0, 2)]
    assert cases[0].speed == pytest.approx(cases[2].speed / 2)


def test_several_gateways_that_share_find_the_prefixes_that_one_finds() -> None:
    trace = generate("shared-prompts", sessions=150, duration_s=60.0, seed=1)
    hits = []
    for gateways, is_shared in ((1, True), (3, True), (3, False)):
        replay = Replay(
            trace,
            strategy="prefix-affinity",
            pods=6,
            profile=PROFILE,
            gateways=gateways,
            is_shared=is_shared,
        )
        result = replay.run()
        assert result.failed == 0
        replay.settle()
        assert replay.reserved == 0
        hits.append(sum(result.cached_tokens) / sum(result.prompt_tokens))
    one, shared, alone = hits
    assert shared > one - 0.05
    assert shared > alone + 0.05
