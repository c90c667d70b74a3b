"""Sliding windows: never too little, and no boundary with twice as much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.admission.window import SLICES, SlidingWindow

steps = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50)), max_size=60)


@given(steps)
def test_the_total_is_at_least_what_the_last_seconds_hold_and_at_most_one_slice_more(
    steps: list[tuple[float, int]],
) -> None:
    window, now_s, added = SlidingWindow(60.0), 1000.0, []
    for pause_s, amount in steps:
        now_s += pause_s
        window.add(amount, now_s)
        added.append((now_s, amount))
        total = window.total(now_s)
        assert total >= sum(a for at, a in added if at > now_s - 60.0)
        assert total <= sum(a for at, a in added if at > now_s - 60.0 - 2 * 60.0 / SLICES)


@given(steps, st.integers(1, 100))
def test_what_is_added_only_where_there_is_room_never_exceeds_the_limit_in_any_window(
    steps: list[tuple[float, int]], limit: int
) -> None:
    window, now_s, added = SlidingWindow(60.0), 0.0, []
    for pause_s, amount in steps:
        now_s += pause_s
        if window.total(now_s) + amount <= limit:
            window.add(amount, now_s)
            added.append((now_s, amount))
    for end_s, _ in added:
        assert sum(a for at, a in added if end_s - 60.0 < at <= end_s) <= limit


def test_a_full_window_does_not_open_at_the_minute() -> None:
    window = SlidingWindow(60.0)
    window.add(100, 59.9)
    assert window.total(60.1) == 100
    assert window.total(119.0) == 100
    assert window.total(121.0) == 0


def test_what_was_taken_back_counts_no_more_and_only_once() -> None:
    window = SlidingWindow(60.0)
    mark = window.add(10, 100.0)
    window.add(5, 130.0)
    window.take_back(mark, 4, 140.0)
    assert window.total(140.0) == 11
    window.take_back(mark, 100, 140.0)
    assert window.total(140.0) == 5
    window.take_back(mark, 1, 500.0)
    assert window.total(500.0) == 0


@given(st.lists(st.tuples(st.floats(0.1, 10), st.integers(1, 9)), min_size=1, max_size=20), st.integers(1, 50))
def test_so_much_is_free_when_it_was_said_to_be(steps: list[tuple[float, int]], amount: int) -> None:
    window, now_s = SlidingWindow(60.0), 5000.0
    for pause_s, added in steps:
        now_s += pause_s
        window.add(added, now_s)
    before = window.total(now_s)
    wait_s = window.frees_in_s(amount, now_s)
    assert before - window.total(now_s + wait_s + 1e-6) >= min(amount, before)
    assert wait_s <= 60.0 + 60.0 / SLICES
