"""Strategies that go by what engines say of themselves, and by what was learnt: formulas, and what is not known."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.signals import EngineMetrics
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.scheduling.registry import build_strategies
from tests.support.gateway import NOW_S, make_endpoint, make_request, make_signals


def metrics(**values: Any) -> EngineMetrics:
    return EngineMetrics(NOW_S - 1.0, **values)


def scores(name: str, by_name: dict[str, EngineMetrics | None], **request: Any) -> list[float]:
    known = {key: each for key, each in by_name.items() if each is not None}
    strategy = build_strategies(random.Random(1))[name]
    endpoints = [make_endpoint(each) for each in by_name]
    got = strategy.score(make_request(name, **request), endpoints, make_signals(metrics=known))
    return [round(score, 3) for score in got]


@pytest.mark.parametrize(
    ("name", "by_name", "want"),
    [
        pytest.param(
            "least-gpu-cache",
            {"a": metrics(kv_cache_ratio=0.2), "b": metrics(kv_cache_ratio=0.5), "c": metrics(kv_cache_ratio=0.8)},
            [1.0, 0.5, 0.0],
            id="the emptier the GPU's cache the better",
        ),
        pytest.param(
            "least-gpu-cache",
            {"a": metrics(kv_cache_ratio=0.2), "b": None, "c": metrics(kv_cache_ratio=0.8)},
            [1.0, 0.5, 0.0],
            id="an endpoint without metrics counts as the mean",
        ),
        pytest.param("least-gpu-cache", {"a": None, "b": None}, [1.0, 1.0], id="nothing known: all alike"),
        pytest.param(
            "least-kv-cache",
            {
                "a": metrics(kv_cache_ratio=0.5, cpu_cache_ratio=0.3),
                "b": metrics(kv_cache_ratio=0.6),
                "c": metrics(kv_cache_ratio=0.7),
            },
            [0.0, 1.0, 0.5],
            id="the host's cache counts, and engines without one are not left out",
        ),
        pytest.param(
            "least-busy-time",
            {"a": metrics(busy_ratio=1.0), "b": metrics(busy_ratio=0.0), "c": metrics(busy_ratio=0.25)},
            [0.0, 1.0, 0.75],
            id="the idle one first",
        ),
        pytest.param(
            "least-utilization",
            {"a": metrics(utilization_ratio=0.9, kv_cache_ratio=0.1), "b": metrics(utilization_ratio=0.1)},
            [0.0, 1.0],
            id="what the engine calls its utilisation goes first",
        ),
        pytest.param(
            "least-utilization",
            {
                "a": metrics(kv_cache_ratio=0.1, running=1, waiting=3),
                "b": metrics(kv_cache_ratio=0.25, running=4, waiting=0),
            },
            [0.0, 1.0],
            id="engines that state none: the larger of cache and queue",
        ),
        pytest.param(
            "throughput",
            {
                "a": metrics(prompt_tokens_per_s=100, generation_tokens_per_s=0),
                "b": metrics(prompt_tokens_per_s=0, generation_tokens_per_s=100),
                "c": metrics(prompt_tokens_per_s=0, generation_tokens_per_s=0),
            },
            [0.0, 0.5, 1.0],
            id="a prompt token counts twice",
        ),
        pytest.param(
            "least-latency",
            {
                "a": metrics(ttft_s=1.0, tpot_s=0.01),
                "b": metrics(ttft_s=0.5, tpot_s=0.03),
                "c": metrics(ttft_s=0.5, tpot_s=0.01, queue_s=0.5),
            },
            [1.0, 0.0, 1.0],
            id="queue, first token and all further tokens",
        ),
    ],
)
def test_formulas(name: str, by_name: dict[str, EngineMetrics | None], want: list[float]) -> None:
    assert scores(name, by_name, decode_tokens=50) == want


def record(ttft_ms: float, duration_ms: float, prompt: int, completion: int) -> AccessRecord:
    return AccessRecord("r", False, "h:1", 200, "", ttft_ms, duration_ms, prompt, completion, 0, 1, "id")


def test_least_latency_goes_by_what_the_requests_that_ended_taught() -> None:
    loads = LoadTable()
    loads.entry(make_endpoint("fast").id).learnt.add(record(100, 600, 1000, 51), NOW_S)
    loads.entry(make_endpoint("slow").id).learnt.add(record(200, 2200, 1000, 101), NOW_S)
    strategy = build_strategies(random.Random(1))["least-latency"]
    endpoints = [make_endpoint(name) for name in ("fast", "slow", "new")]
    # 1000 / 10000 + 50 * 0.01 = 0.6; 1000 / 5000 + 50 * 0.02 = 1.2
    got = strategy.score(make_request(prompt_tokens=1000, decode_tokens=50), endpoints, make_signals(loads=loads))
    assert got == pytest.approx([1.0, 0.0, 0.5])
    why = strategy.reasons(make_request(prompt_tokens=1000, decode_tokens=50), endpoints, make_signals(loads=loads))
    assert why == ["expected to take 0.60 s", "expected to take 1.20 s", "nothing is known of its latency"]


def test_throughput_goes_by_what_ended_where_the_engine_says_nothing() -> None:
    loads = LoadTable()
    loads.entry(make_endpoint("used").id).learnt.add(record(100, 600, 1000, 51), NOW_S)
    strategy = build_strategies(random.Random(1))["throughput"]
    endpoints = [make_endpoint("used"), make_endpoint("idle")]
    assert strategy.score(make_request(), endpoints, make_signals(loads=loads)) == [0.0, 1.0]
