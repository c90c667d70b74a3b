"""Prometheus series of how requests ended."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from pybrix.gateway.framework.types import Decision
from pybrix.gateway.indexes.histogram import Histogram
from pybrix.gateway.indexes.traffic import DECISION_BOUNDS_S, DURATION_BOUNDS_S, TOKEN_BOUNDS, TPOT_BOUNDS_S
from pybrix.gateway.indexes.traffic import TTFT_BOUNDS_S as TTFT_BOUNDS
from pybrix.gateway.trafficmetrics import (
    _TIME_CLASSES_MS,
    _TOKEN_CLASSES,
    _TOTAL_CLASSES_MS,
    AIBRIX_NAMES,
    TrafficMetrics,
    classes_of,
)
from tests.gateway.test_explanations import record
from tests.support.gateway import World, ask, facts, view_of

HERE = {"namespace": "default", "model": "m"}


def served() -> tuple[World, CollectorRegistry]:
    """Return a world in which two streams and a failure ended, a fallback came, and one request runs."""
    world = World(view_of(facts("a", ip="127.64.0.1"), facts("a", namespace="team", model="n", ip="127.64.0.2")))

    def decide(model: str = "m") -> Decision:
        decision = world.director.decide(ask(model, stream=True))
        assert isinstance(decision, Decision)
        return decision

    account = world.director.account
    account(record(decide(), ttft_ms=15.0, duration_ms=400.0))
    account(record(decide(), ttft_ms=15.0, duration_ms=400.0))
    account(record(decide(), status=500))
    account(record(decide("n"), cluster="team/n", prompt_tokens=300))
    account(record(None, ttft_ms=8.0))
    decide()
    registry = CollectorRegistry()
    registry.register(TrafficMetrics(world.director.traffic, world.reservations))
    return world, registry


@pytest.mark.parametrize(
    ("name", "labels", "want"),
    [
        ("pybrix_request_ttft_seconds_count", {**HERE, "strategy": "least-request"}, 2),
        ("pybrix_request_ttft_seconds_bucket", {**HERE, "strategy": "least-request", "le": "0.02"}, 2),
        ("pybrix_request_ttft_seconds_bucket", {**HERE, "strategy": "least-request", "le": "0.01"}, 0),
        ("pybrix_request_duration_seconds_sum", {**HERE, "strategy": "least-request"}, 0.8),
        ("pybrix_request_duration_seconds_count", {**HERE, "strategy": "fallback-least-request"}, 1),
        ("pybrix_request_prompt_tokens_sum", {"namespace": "team", "model": "n", "strategy": "least-request"}, 300),
        ("pybrix_decision_seconds_count", {"strategy": "least-request"}, 5),
        ("gateway_in_flight_requests", {}, 1),
        ("gateway_model_in_flight_requests", HERE, 1),
        ("gateway_request_model_success_total", {**HERE, "status_code": "200"}, 3),
        ("gateway_request_model_fail_total", {**HERE, "status_code": "500"}, 1),
        ("gateway_input_tokens_total", HERE, 300),
        ("gateway_output_tokens_total", HERE, 60),
        ("gateway_requests_with_usage_total", HERE, 3),
        ("gateway_ttft_bucket_total", {**HERE, "bucket": "10-20ms"}, 2),
        ("gateway_ttft_bucket_total", {**HERE, "bucket": "5-10ms"}, 1),
        ("gateway_total_time_bucket_total", {**HERE, "bucket": "250-500ms"}, 2),
        ("gateway_prompt_token_bucket_total", {"namespace": "team", "model": "n", "bucket": "256-512"}, 1),
    ],
)
def test_series(name: str, labels: dict[str, str], want: float) -> None:
    _, registry = served()
    assert registry.get_sample_value(name, labels) == pytest.approx(want)


def families() -> list[Metric]:
    return list(served()[1].collect())


def test_labels_are_from_bounded_sets() -> None:
    labels = {label for family in families() for sample in family.samples for label in sample.labels}
    assert labels == {"namespace", "model", "strategy", "le", "bucket", "status_code"}


def test_every_name_of_aibrix_is_offered() -> None:
    found = {sample.name for family in families() for sample in family.samples}
    assert set(AIBRIX_NAMES) <= found


def test_a_combination_of_the_clients_own_is_one_series() -> None:
    world, registry = served()
    for weight in range(2, 9):
        assert isinstance(world.director.decide(ask(strategy=f"random:{weight},least-request")), Decision)
    assert registry.get_sample_value("pybrix_decision_seconds_count", {"strategy": "combination"}) == 7


@pytest.mark.parametrize(
    ("ours", "theirs", "scale"),
    [
        (TTFT_BOUNDS, _TIME_CLASSES_MS, 0.001),
        (TPOT_BOUNDS_S, _TIME_CLASSES_MS, 0.001),
        (DURATION_BOUNDS_S, _TOTAL_CLASSES_MS, 0.001),
        (TOKEN_BOUNDS, _TOKEN_CLASSES, 1.0),
        (DECISION_BOUNDS_S, _TIME_CLASSES_MS[:7], 0.001),
    ],
)
def test_classes_end_where_buckets_do(ours: tuple[float, ...], theirs: tuple[int, ...], scale: float) -> None:
    assert {round(bound * scale, 6) for bound in theirs} <= {round(bound, 6) for bound in ours}


def test_classes_count_everything_once() -> None:
    histogram = Histogram((1.0, 2.0, 3.0, 4.0))
    for value in (0.5, 1.5, 2.5, 3.5, 9.0):
        histogram.add(value)
    assert list(classes_of(histogram, (2, 4), "s", 1.0)) == [("0-2s", 2), ("2-4s", 2), ("4s+", 1)]


def test_a_model_that_goes_takes_its_series_along() -> None:
    world, registry = served()
    world.director.traffic.retain([("team", "n")], [])
    assert registry.get_sample_value("pybrix_request_ttft_seconds_count", {**HERE, "strategy": "least-request"}) is None
    assert [key[:2] for key, _ in world.director.traffic] == [("team", "n")]
