"""Rates and averages from pages that only know totals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.engine.page import Average, EnginePage
from pybrix.gateway.framework.signals import EngineMetrics
from pybrix.gateway.view.enginerates import ANCHOR_S, GAP_S, History, derive


def follow(*pages: tuple[float, EnginePage]) -> list[EngineMetrics]:
    history: History | None = None
    found = []
    for at_s, page in pages:
        metrics, history = derive(history, page, at_s)
        found.append(metrics)
    return found


def page(tokens: float, **fields: Any) -> EnginePage:
    return EnginePage(prompt_tokens=tokens, **fields)


def test_the_first_page_has_gauges_and_no_rates() -> None:
    (got,) = follow((5.0, page(100, running=2.0, waiting=1.0, kv_cache_ratio=0.5, max_loras=4)))
    assert got == EngineMetrics(
        5.0, running=2.0, waiting=1.0, kv_cache_ratio=0.5, busy_ratio=1.0, max_loras=4, prompt_tokens_per_s=None
    )


def test_rates_are_of_what_came_in_between() -> None:
    _, got = follow(
        (0.0, page(100, prefix_queries=100, prefix_hits=0, ttft=Average(10.0, 5))),
        (2.0, page(300, prefix_queries=200, prefix_hits=50, ttft=Average(13.0, 7))),
    )
    assert (got.prompt_tokens_per_s, got.prefix_hit_ratio, got.ttft_s) == (100.0, 0.5, 1.5)


def test_averages_are_none_while_nothing_ends() -> None:
    _, got = follow((0.0, page(1, ttft=Average(10.0, 5))), (2.0, page(1, ttft=Average(10.0, 5))))
    assert (got.ttft_s, got.prompt_tokens_per_s) == (None, 0.0)


def test_a_difference_is_over_the_last_half_minute() -> None:
    found = follow(*[(float(second), page(10.0 * second)) for second in range(61)], (61.0, page(10_600.0)))
    assert all(got.prompt_tokens_per_s == pytest.approx(10.0) for got in found[1:61])
    spans = [10_000.0 / got.prompt_tokens_per_s for got in found[61:] if got.prompt_tokens_per_s]
    assert ANCHOR_S * 0.9 < spans[0] < 2 * ANCHOR_S * 1.1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(page(500), page(3), id="a counter fell"),
        pytest.param(page(5, ttft=Average(9.0, 9)), page(5, ttft=Average(1.0, 1)), id="a histogram fell"),
        pytest.param(page(5, started_s=1.0), page(900, started_s=2.0), id="the process is another, and has caught up"),
    ],
)
def test_an_engine_that_restarted_begins_anew(before: EnginePage, after: EnginePage) -> None:
    _, got, later = follow((0.0, before), (1.0, after), (2.0, page(after.prompt_tokens or 0, started_s=2.0)))
    assert got.prompt_tokens_per_s is None
    assert later.prompt_tokens_per_s == 0.0


def test_after_a_long_silence_a_page_is_a_first_one() -> None:
    _, got = follow((0.0, page(1)), (GAP_S + 1, page(1000)))
    assert got.prompt_tokens_per_s is None


def test_what_the_engine_says_itself_counts_where_counters_do_not_tell() -> None:
    first, second = follow(
        (0.0, EnginePage(generation_tokens=10, generation_tokens_per_s=7.0, prefix_hit_ratio=0.5)),
        (1.0, EnginePage(generation_tokens=30, generation_tokens_per_s=7.0, prefix_hit_ratio=0.5)),
    )
    assert (first.generation_tokens_per_s, second.generation_tokens_per_s) == (7.0, 20.0)
    assert second.prefix_hit_ratio == 0.5


def test_busy_is_the_share_of_time_with_work() -> None:
    found = follow(*[(float(n), EnginePage(running=float(n % 4 == 0))) for n in range(400)])
    got = found[-1].busy_ratio
    assert got is not None
    assert 0.2 < got < 0.3


counts = st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 1e6)), min_size=1, max_size=20)


@given(counts, st.integers(0, 19))
def test_no_rate_is_ever_negative(steps: list[tuple[float, float]], restart_at: int) -> None:
    history: History | None = None
    now_s = total = 0.0
    for number, (later_s, more) in enumerate(steps):
        now_s += later_s
        total = more if number == restart_at else total + more
        metrics, history = derive(history, page(total, e2e=Average(total, total)), now_s)
        assert (metrics.prompt_tokens_per_s or 0.0) >= 0.0
        assert (metrics.e2e_s or 0.0) >= 0.0
