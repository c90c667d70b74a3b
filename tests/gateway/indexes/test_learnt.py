"""What ended requests teach."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.accesslog.record import read_record
from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.indexes.learnt import TAU_S, DecayedMean, LearntModel, LearntRates


def ended(**fields: Any) -> AccessRecord:
    known = {"type": "DownstreamEnd", "status": 200, "duration_ms": 1000, "ttft_ms": 100}
    return read_record({**known, "prompt_tokens": 400, "completion_tokens": 11, **fields})


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=30))
def test_a_mean_is_between_the_least_and_the_most(values: list[tuple[float, float]]) -> None:
    mean, now_s = DecayedMean(), 0.0
    for value, later_s in values:
        now_s += later_s
        mean.add(value, now_s)
    got = mean.value
    assert got is not None
    known = [value for value, _ in values]
    assert min(known) * 0.999999 <= got <= max(known) * 1.000001


def test_recent_values_count_more() -> None:
    mean = DecayedMean()
    assert mean.value is None
    mean.add(100.0, 0.0)
    mean.add(0.0, TAU_S)
    assert mean.value == pytest.approx(26.9, abs=0.1)


def test_a_rate_is_what_comes_and_falls_when_nothing_does() -> None:
    learnt = LearntRates()
    assert learnt.prompt_tokens_per_s(5.0) == 0.0
    for second in range(600):
        learnt.add(ended(prompt_tokens=50, completion_tokens=5), float(second))
    assert learnt.prompt_tokens_per_s(599.0) == pytest.approx(50.0, rel=0.02)
    assert learnt.completion_tokens_per_s(599.0) == pytest.approx(5.0, rel=0.02)
    assert learnt.prompt_tokens_per_s(599.0 + TAU_S) == pytest.approx(18.4, rel=0.03)


def test_means_last_when_nothing_comes_for_a_long_time() -> None:
    learnt = LearntRates()
    learnt.add(ended(duration_ms=500), 0.0)
    learnt.add(ended(status=500), 100 * TAU_S)
    assert learnt.latency_ms == pytest.approx(500.0)
    assert learnt.failure_ratio == pytest.approx(1.0)
    learnt.add(ended(), 1000 * TAU_S)
    assert learnt.latency_ms == 1000.0
    assert learnt.failure_ratio == pytest.approx(0.0)
    forgotten = LearntRates()
    forgotten.add(ended(), 0.0)
    forgotten.add(ended(status=500), 1000 * TAU_S)
    assert forgotten.latency_ms is None


def test_a_stream_teaches_times_and_the_prefills_rate() -> None:
    learnt = LearntRates()
    learnt.add(ended(cached_tokens=200), 1.0)
    assert (learnt.ttft_ms, learnt.latency_ms, learnt.tpot_ms) == (100.0, 1000.0, 90.0)
    assert learnt.prefill_tokens_per_s == 2000.0
    assert learnt.failure_ratio == 0.0
    assert learnt.prompt_tokens_per_s(1.0) > learnt.completion_tokens_per_s(1.0) > 0


def test_an_answer_that_came_whole_tells_nothing_of_its_first_token() -> None:
    learnt = LearntRates()
    learnt.add(ended(ttft_ms=1000), 1.0)
    assert (learnt.ttft_ms, learnt.tpot_ms, learnt.prefill_tokens_per_s, learnt.latency_ms) == (None, None, None, 1000)


def test_a_short_prompt_does_not_measure_the_prefill() -> None:
    learnt = LearntRates()
    learnt.add(ended(prompt_tokens=400, cached_tokens=390), 1.0)
    assert (learnt.ttft_ms, learnt.prefill_tokens_per_s) == (100.0, None)


@pytest.mark.parametrize(("status", "want"), [(0, 1.0), (500, 1.0), (503, 1.0), (404, 0.0), (200, 0.0)])
def test_failures_are_no_answer_and_errors_of_the_engine(status: int, want: float) -> None:
    learnt = LearntRates()
    learnt.add(ended(status=status), 1.0)
    assert learnt.failure_ratio == want
    learnt.add_failure(1.0)
    assert learnt.failure_ratio == (want + 1) / 2


def test_sizes_of_a_models_requests_are_learnt() -> None:
    sizes = LearntModel()
    assert (sizes.prompt_tokens(400), sizes.decode_tokens(None), sizes.decode_tokens(7)) == (100, 256, 7)
    sizes.add(1000, ended(prompt_tokens=500, completion_tokens=40), 1.0)
    sizes.add(1000, ended(prompt_tokens=1, completion_tokens=4000, status=500), 1.0)
    assert (sizes.prompt_tokens(400), sizes.decode_tokens(None), sizes.decode_tokens(7)) == (200, 40, 7)


records = st.lists(st.tuples(st.booleans(), st.floats(0, 5), st.integers(2, 500)), max_size=15)


@given(records)
def test_what_two_gateways_learnt_adds_up_to_what_one_would_have(said: list[tuple[bool, float, int]]) -> None:
    ours, theirs, both, own = LearntRates(), LearntRates(), LearntRates(), LearntRates()
    now_s = 0.0
    for is_ours, later_s, tokens in said:
        now_s += later_s
        record = ended(completion_tokens=tokens, duration_ms=100 + 10 * tokens)
        for learnt in (ours, own, both) if is_ours else (theirs, both):
            learnt.add(record, now_s)
        # Told again and again: it takes the place of what was told before.
        ours.set_elsewhere(theirs.own(now_s), now_s)
    assert ours.latency_ms == (None if both.latency_ms is None else pytest.approx(both.latency_ms))
    assert ours.tpot_ms == (None if both.tpot_ms is None else pytest.approx(both.tpot_ms))
    assert ours.completion_tokens_per_s(now_s) == pytest.approx(both.completion_tokens_per_s(now_s))
    assert ours.own(now_s) == pytest.approx(own.own(now_s), rel=1e-6, abs=1e-6)


def test_what_others_learnt_can_be_taken_out_again() -> None:
    mean, other = DecayedMean(), DecayedMean()
    mean.add(10.0, 0.0)
    other.add(30.0, 5.0)
    mean.set_elsewhere(other.own(5.0), 5.0)
    assert mean.value is not None
    assert 10.0 < mean.value < 30.0
    mean.set_elsewhere((0.0, 0.0), 90.0)
    assert mean.value == pytest.approx(10.0)
