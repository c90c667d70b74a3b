"""From an engine's pages of metrics to what strategies see: rates and averages of the last half minute. Pure.

Counters and histograms only ever grow, so what happened lately is a difference between two pages. The earlier page of a
difference is an anchor that is 15 to 30 s old: one scrape apart, too little has ended to average over.
"""

from __future__ import annotations

import math

import msgspec

from pybrix.engine.page import Average, EnginePage
from pybrix.gateway.framework.signals import EngineMetrics

ANCHOR_S = 15.0
BUSY_TAU_S = 15.0
GAP_S = 60.0
"""After so long without a page, the next one is a first one."""
_COUNTERS = ("prompt_tokens", "generation_tokens", "prefix_queries", "prefix_hits")
_AVERAGES = ("queue", "prefill", "decode", "ttft", "tpot", "e2e")


class Anchor(msgspec.Struct, frozen=True, gc=False):
    """A page and when it was read."""

    page: EnginePage
    at_s: float


class History(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an engine's pages from one to the next."""

    last: Anchor
    newer: Anchor
    older: Anchor | None = None
    busy_ratio: float | None = None


def derive(history: History | None, page: EnginePage, now_s: float) -> tuple[EngineMetrics, History]:
    """Return what strategies see of a page, and what to keep for the next one.

    Args:
        history: of the same engine; None for the first page.
    """
    now = Anchor(page, now_s)
    if history is not None and (now_s - history.last.at_s > GAP_S or _is_restarted(history.last.page, page)):
        history = None
    busy = _busy(history, page, now_s)
    if history is None:
        return _metrics(None, now, busy), History(now, now, None, busy)
    base = history.older or history.newer
    metrics = _metrics(base, now, busy)
    if now_s - history.newer.at_s >= ANCHOR_S:
        return metrics, History(now, now, history.newer, busy)
    return metrics, History(now, history.newer, history.older, busy)


def _is_restarted(before: EnginePage, page: EnginePage) -> bool:
    if before.started_s is not None and page.started_s is not None and before.started_s != page.started_s:
        return True
    return any(_fell(getattr(before, name), getattr(page, name)) for name in _COUNTERS) or any(
        _fell(_count(getattr(before, name)), _count(getattr(page, name))) for name in _AVERAGES
    )


def _fell(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now < before


def _count(average: Average | None) -> float | None:
    return average.count if average is not None else None


def _busy(history: History | None, page: EnginePage, now_s: float) -> float | None:
    if page.running is None:
        return None
    is_busy = float(page.running > 0)
    if history is None or history.busy_ratio is None:
        return is_busy
    kept = math.exp((history.last.at_s - now_s) / BUSY_TAU_S)
    return history.busy_ratio * kept + is_busy * (1.0 - kept)


def _metrics(base: Anchor | None, now: Anchor, busy_ratio: float | None) -> EngineMetrics:
    page, before = now.page, base.page if base is not None else None
    seconds = now.at_s - base.at_s if base is not None else 0.0

    def rate(name: str) -> float | None:
        grown = _grown(before, page, name)
        return grown / seconds if grown is not None and seconds > 0 else None

    def average(name: str) -> float | None:
        then: Average | None = getattr(before, name) if before is not None else None
        this: Average | None = getattr(page, name)
        if then is None or this is None or this.count <= then.count:
            return None
        return max(0.0, this.total - then.total) / (this.count - then.count)

    queries, hits = _grown(before, page, "prefix_queries"), _grown(before, page, "prefix_hits")
    hit_ratio = min(1.0, hits / queries) if queries and hits is not None else page.prefix_hit_ratio
    generated = rate("generation_tokens")
    return EngineMetrics(
        observed_at_s=now.at_s,
        running=page.running,
        waiting=page.waiting,
        kv_cache_ratio=page.kv_cache_ratio,
        cpu_cache_ratio=page.cpu_cache_ratio,
        utilization_ratio=page.utilization_ratio,
        kv_capacity_tokens=page.kv_capacity_tokens,
        prompt_tokens_per_s=rate("prompt_tokens"),
        generation_tokens_per_s=generated if generated is not None else page.generation_tokens_per_s,
        prefix_hit_ratio=hit_ratio,
        queue_s=average("queue"),
        prefill_s=average("prefill"),
        decode_s=average("decode"),
        ttft_s=average("ttft"),
        tpot_s=average("tpot"),
        e2e_s=average("e2e"),
        busy_ratio=busy_ratio,
        max_loras=page.max_loras,
        running_loras=page.running_loras,
        waiting_loras=page.waiting_loras,
    )


def _grown(before: EnginePage | None, page: EnginePage, name: str) -> float | None:
    then: float | None = getattr(before, name) if before is not None else None
    now: float | None = getattr(page, name)
    return now - then if then is not None and now is not None else None
