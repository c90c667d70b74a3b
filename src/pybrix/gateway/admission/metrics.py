"""Limits as Prometheus series. Users are no labels: their number has no bound."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pybrix.gateway.admission.service import Admission

_PREFIX = "pybrix_gateway_limits_"


class LimitMetrics(Collector):
    """Reads the live objects."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        admission, limiter = self._admission, self._admission.limiter
        yield GaugeMetricFamily(
            _PREFIX + "shared", "1 when limits are of all gateways together", value=float(limiter.is_shared)
        )
        yield GaugeMetricFamily(
            _PREFIX + "degraded",
            "1 when Redis is configured and does not answer: limits are of each gateway alone",
            value=float(bool(admission.problem)),
        )
        yield GaugeMetricFamily(_PREFIX + "counters", "Limits that are being counted", value=limiter.counters)
        yield GaugeMetricFamily(_PREFIX + "charges_held", "Requests charged and not settled yet", value=limiter.kept)
        yield CounterMetricFamily(_PREFIX + "redis_exchanges", "Times Redis was asked", value=admission.exchanges)
        yield CounterMetricFamily(_PREFIX + "redis_failures", "Times it did not answer", value=admission.failures)
        tokens = CounterMetricFamily(_PREFIX + "tokens", "Tokens of limited users", labels=["kind"])
        tokens.add_metric(["used"], limiter.settled_tokens)
        tokens.add_metric(["given_back"], limiter.refunded_tokens)
        tokens.add_metric(["above_estimate"], limiter.charged_above_estimate_tokens)
        yield tokens
        yield GaugeMetricFamily("pybrix_gateway_api_keys", "API keys that Envoy lets in", value=len(admission.keyring))
