"""Distributions: totals by bucket, and quantiles of the last minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.indexes.histogram import Histogram, RecentTimes


def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.add(value)
    assert histogram.cumulative() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert (histogram.count, histogram.total) == (4, 10.0)


@given(st.lists(st.floats(0.002, 600.0), min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_is_right_to_a_bucket(values: list[float], share: float) -> None:
    times = RecentTimes()
    for value in values:
        times.add(value, 100.0)
    got = times.quantile(share, 100.0)
    # The smallest value that at least that share of them is at most.
    rank = next(n for n in range(1, len(values) + 1) if n >= share * len(values))
    exact = sorted(values)[rank - 1]
    assert got is not None
    assert exact / 1.16 <= got <= exact * 1.16


@pytest.mark.parametrize(
    ("added_s", "asked_s", "want"),
    [
        pytest.param(100.0, 129.0, True, id="of this half minute"),
        pytest.param(100.0, 159.0, True, id="nobody came since, still in the minute"),
        pytest.param(100.0, 161.0, False, id="older than the minute"),
    ],
)
def test_old_times_leave(added_s: float, asked_s: float, want: bool) -> None:
    times = RecentTimes()
    times.add(0.5, added_s)
    assert (times.quantile(0.5, asked_s) is not None) == want


def test_the_half_minute_before_counts_until_the_next_turn() -> None:
    times = RecentTimes()
    times.add(10.0, 100.0)
    times.add(0.1, 131.0)
    slow = times.quantile(0.99, 140.0)
    assert slow is not None
    assert slow > 8
    times.add(0.1, 162.0)
    fast = times.quantile(0.99, 163.0)
    assert fast is not None
    assert fast < 0.2


def test_nothing_has_no_quantile() -> None:
    assert RecentTimes().quantile(0.5, 5.0) is None
