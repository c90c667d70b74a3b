from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.lab.replay import Result
from pybrix.lab.summary import imbalance_of, mean_of, percentile, summarise

NAN = math.nan


def test_percentiles_are_by_nearest_rank() -> None:
    hundred = [float(n) for n in range(1, 101)]
    assert [percentile(hundred, p) for p in (50, 90, 99)] == [50.0, 90.0, 99.0]
    assert percentile([3.0], 99) == 3.0
    assert percentile([], 99) == 0.0


@pytest.mark.parametrize(
    ("windows", "want"),
    [
        pytest.param([[5, 5], [7, 7]], 1.0, id="even"),
        pytest.param([[9, 0, 0]], 3.0, id="one-pod-alone"),
        pytest.param([[10, 0], [0, 10]], 2.0, id="taking-turns-is-not-even"),
        pytest.param([[2, 0], [50, 50]], (2.0 * 2 + 1.0 * 100) / 102, id="weighted-by-tokens"),
        pytest.param([], 1.0, id="nothing"),
    ],
)
def test_imbalance(windows: list[list[int]], want: float) -> None:
    assert imbalance_of(windows) == pytest.approx(want)


@given(st.lists(st.lists(st.integers(0, 1000), min_size=4, max_size=4)))
def test_imbalance_is_between_one_and_the_number_of_pods(windows: list[list[int]]) -> None:
    assert 1.0 - 1e-9 <= imbalance_of(windows) <= 4.0 + 1e-9


def test_what_is_not_answered_counts_with_its_wait() -> None:
    result = Result(
        arrival_s=[0.0, 10.0, 20.0, 30.0],
        ttft_s=[1.0, 2.0, NAN, NAN],
        e2e_s=[5.0, NAN, NAN, NAN],
        prompt_tokens=[100, 100, 100, 100],
        output_tokens=[10, 10, 10, 10],
        cached_tokens=[40, 0, 0, 0],
        pod=[0, 1, 0, -1],
        failed=1,
        end_s=100.0,
    )
    summary = summarise(result, strategy="random", seed=1, pods=2, speed=1.0, load=None)
    assert (summary.requests, summary.failed, summary.unfinished) == (4, 1, 2)
    assert (summary.ttft_p50_s, summary.ttft_p99_s) == (2.0, 80.0)
    assert (summary.e2e_p50_s, summary.e2e_p99_s) == (80.0, 90.0)
    assert summary.hit_ratio == 0.4
    assert summary.requests_per_s == 0.2


def test_means_are_over_seeds_and_counts_add_up() -> None:
    result = Result([0.0], [1.0], [2.0], [10], [1], [0], [0], end_s=2.0)
    one = summarise(result, strategy="random", seed=1, pods=1, speed=2.0, load=0.7)
    result.ttft_s, result.failed = [3.0], 1
    other = summarise(result, strategy="random", seed=2, pods=1, speed=2.0, load=0.7)
    mean = mean_of([one, other])
    assert (mean.ttft_p50_s, mean.failed, mean.load, mean.speed) == (2.0, 1, 0.7, 2.0)
