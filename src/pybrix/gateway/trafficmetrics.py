"""How requests ended, as Prometheus histograms; and the same by the names that AIBrix's dashboards use.

Labels are namespace, model and strategy, so the number of series is bounded by the models there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pybrix.gateway.indexes.histogram import Histogram
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.indexes.traffic import Traffic, TrafficTable

_KEY = ("namespace", "model", "strategy")
_HISTOGRAMS: Sequence[tuple[str, str, Callable[[Traffic], Histogram]]] = (
    ("pybrix_request_ttft_seconds", "Time to first token of streams that succeeded", lambda t: t.ttft_s),
    (
        "pybrix_request_time_per_output_token_seconds",
        "Time per token after the first, of streams that succeeded",
        lambda t: t.tpot_s,
    ),
    ("pybrix_request_duration_seconds", "Time of requests that succeeded", lambda t: t.duration_s),
    ("pybrix_request_prompt_tokens", "Prompt tokens of requests whose usage is known", lambda t: t.prompt_tokens),
    (
        "pybrix_request_completion_tokens",
        "Generated tokens of requests whose usage is known",
        lambda t: t.completion_tokens,
    ),
)
_MODEL = ("namespace", "model")
# AIBrix counts in classes, each with a label of its own; the bounds are among those of our histograms.
_TIME_CLASSES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_TOTAL_CLASSES_MS = (100, 250, 500, 1000, 5000, 20000, 60000)
_TOKEN_CLASSES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_CLASSES: Sequence[tuple[str, str, Callable[[Traffic], Histogram], Sequence[int], str, float]] = (
    ("gateway_ttft_bucket", "ttft", lambda t: t.ttft_s, _TIME_CLASSES_MS, "ms", 0.001),
    ("gateway_tpot_bucket", "time_per_output_token", lambda t: t.tpot_s, _TIME_CLASSES_MS, "ms", 0.001),
    ("gateway_total_time_bucket", "duration", lambda t: t.duration_s, _TOTAL_CLASSES_MS, "ms", 0.001),
    ("gateway_prompt_token_bucket", "prompt_tokens", lambda t: t.prompt_tokens, _TOKEN_CLASSES, "", 1.0),
    ("gateway_completion_token_bucket", "completion_tokens", lambda t: t.completion_tokens, _TOKEN_CLASSES, "", 1.0),
)
AIBRIX_NAMES: Mapping[str, str] = {
    "gateway_in_flight_requests": "pybrix_gateway_reservations_held",
    "gateway_model_in_flight_requests": "pybrix_gateway_reservations_held, by model",
    "gateway_request_model_success_total": "pybrix_request_duration_seconds_count: answered with a 2xx",
    "gateway_request_model_fail_total": "pybrix_gateway_requests_total with another status: answered with no 2xx, "
    "or not at all (`status_code` 0)",
    "gateway_input_tokens_total": "pybrix_request_prompt_tokens_sum",
    "gateway_output_tokens_total": "pybrix_request_completion_tokens_sum",
    "gateway_requests_with_usage_total": "pybrix_request_prompt_tokens_count",
    "gateway_routing_time_bucket_total": "pybrix_decision_seconds, of all models together",
    **{f"{name}_total": f"pybrix_request_{ours}{'_seconds' if unit else ''}" for name, ours, _, _, unit, _ in _CLASSES},
}
"""What a dashboard made for AIBrix finds -> what of ours it says. Labels are those below, not those of pods."""


class TrafficMetrics(Collector):
    """Reads the table of traffic."""

    def __init__(self, traffic: TrafficTable, reservations: Reservations) -> None:
        self._traffic = traffic
        self._reservations = reservations

    def collect(self) -> Iterator[Metric]:
        yield from self._histograms()
        yield from self._aibrix_counters()
        yield from self._aibrix_classes()

    def _histograms(self) -> Iterator[Metric]:
        for name, text, of in _HISTOGRAMS:
            family = HistogramMetricFamily(name, text, labels=_KEY)
            for key, traffic in self._traffic:
                histogram = of(traffic)
                family.add_metric(key, histogram.cumulative(), histogram.total)
            yield family
        decisions = HistogramMetricFamily(
            "pybrix_decision_seconds", "Time that one decision took in the brain", labels=["strategy"]
        )
        for strategy, histogram in self._traffic.decision_s.items():
            decisions.add_metric([strategy], histogram.cumulative(), histogram.total)
        yield decisions

    def _aibrix_counters(self) -> Iterator[Metric]:
        held = [(each.ranking[0].namespace, each.ranking[0].model) for each in self._reservations]
        yield GaugeMetricFamily("gateway_in_flight_requests", _as("gateway_in_flight_requests"), value=len(held))
        by_model = GaugeMetricFamily(
            "gateway_model_in_flight_requests", _as("gateway_model_in_flight_requests"), labels=_MODEL
        )
        for model, count in Counter(held).items():
            by_model.add_metric(model, count)
        yield by_model
        statuses: Counter[tuple[str, str, int]] = Counter()
        for (namespace, name, _), traffic in self._traffic:
            for status, count in traffic.statuses.items():
                statuses[namespace, name, status] += count
        for kind, is_success in (("success", True), ("fail", False)):
            full_name = f"gateway_request_model_{kind}"
            family = CounterMetricFamily(full_name, _as(f"{full_name}_total"), labels=[*_MODEL, "status_code"])
            for (namespace, name, status), count in sorted(statuses.items()):
                if (200 <= status < 300) == is_success:
                    family.add_metric([namespace, name, str(status)], count)
            yield family
        totals: Sequence[tuple[str, Callable[[Traffic], float]]] = (
            ("gateway_input_tokens", lambda t: t.prompt_tokens.total),
            ("gateway_output_tokens", lambda t: t.completion_tokens.total),
            ("gateway_requests_with_usage", lambda t: t.with_usage),
        )
        for full_name, amount in totals:
            family = CounterMetricFamily(full_name, _as(f"{full_name}_total"), labels=_MODEL)
            amounts: dict[tuple[str, str], float] = {}
            for (namespace, name, _), traffic in self._traffic:
                amounts[namespace, name] = amounts.get((namespace, name), 0.0) + amount(traffic)
            for pair, value in amounts.items():
                family.add_metric(pair, value)
            yield family

    def _aibrix_classes(self) -> Iterator[Metric]:
        for name, _, of, bounds, unit, scale in _CLASSES:
            family = CounterMetricFamily(name, _as(f"{name}_total"), labels=[*_MODEL, "bucket"])
            sums: Counter[tuple[str, str, str]] = Counter()
            for (namespace, model, _), traffic in self._traffic:
                for label, count in classes_of(of(traffic), bounds, unit, scale):
                    sums[namespace, model, label] += count
            for labels, count in sums.items():
                family.add_metric(labels, count)
            yield family
        routing = CounterMetricFamily(
            "gateway_routing_time_bucket", _as("gateway_routing_time_bucket_total"), labels=["bucket"]
        )
        found: Counter[str] = Counter()
        for histogram in self._traffic.decision_s.values():
            for label, count in classes_of(histogram, _TIME_CLASSES_MS, "ms", 0.001):
                found[label] += count
        for label, count in found.items():
            routing.add_metric([label], count)
        yield routing


def classes_of(histogram: Histogram, bounds: Sequence[int], unit: str, scale: float) -> Iterator[tuple[str, int]]:
    """Yield classes and their counts: `0-1ms`, `1-2ms`, ..., `5000ms+`.

    Args:
        bounds: between the classes, in units of `scale`.
    """
    below, place, start = 0, 0, 0
    counts = histogram.counts
    for bound in bounds:
        while place < len(histogram.bounds) and histogram.bounds[place] <= bound * scale * (1 + 1e-9):
            below += counts[place]
            place += 1
        yield f"{start}-{bound}{unit}", below
        below, start = 0, bound
    yield f"{start}{unit}+", sum(counts[place:])


def _as(aibrix_name: str) -> str:
    return f"AIBrix's name for {AIBRIX_NAMES[aibrix_name]}"
