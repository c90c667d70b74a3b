"""The brain's metrics: plain numbers become Prometheus series when someone asks, so that counting costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pybrix.gateway.director import Director
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.modelconfigs import ConfigProblems
from pybrix.gateway.state import BrainState, ContactAge
from pybrix.gateway.view.scraper import ScrapeCounts
from pybrix.gateway.view.snapshot import ClusterView
from pybrix.gateway.xds import XdsPublisher

_PREFIX = "pybrix_gateway_"


class BrainMetrics(Collector):
    """Reads the live objects. Label values come from the view and from closed lists, so their number is bounded."""

    def __init__(
        self,
        *,
        state: BrainState,
        director: Director,
        view: Callable[[], ClusterView],
        loads: LoadTable,
        metrics: MetricsTable,
        scrapes: ScrapeCounts,
        reservations: Reservations,
        xds: XdsPublisher,
        contact_age: ContactAge,
        config_problems: ConfigProblems,
        now: Callable[[], float],
    ) -> None:
        self._state = state
        self._director = director
        self._view = view
        self._loads = loads
        self._metrics = metrics
        self._scrapes = scrapes
        self._reservations = reservations
        self._xds = xds
        self._contact_age = contact_age
        self._config_problems = config_problems
        self._now_s = now

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._endpoints()
        yield from self._engines()
        yield from self._process()

    def _requests(self) -> Iterator[Metric]:
        counters = self._director.counters
        decisions = CounterMetricFamily(_PREFIX + "decisions", "Requests that were routed", labels=["strategy"])
        for strategy, count in counters.decisions.items():
            decisions.add_metric([strategy], count)
        yield decisions
        refusals = CounterMetricFamily(_PREFIX + "refusals", "Requests that were refused", labels=["reason"])
        for reason, count in counters.refusals.items():
            refusals.add_metric([reason.value], count)
        yield refusals
        records = CounterMetricFamily(_PREFIX + "access_log_records", "Records taken in", labels=["kind"])
        for kind, count in counters.records.items():
            records.add_metric([kind], count)
        yield records
        requests = CounterMetricFamily(
            _PREFIX + "requests", "Requests that ended", labels=["namespace", "model", "status"]
        )
        tokens = CounterMetricFamily(
            _PREFIX + "tokens", "Tokens that engines reported", labels=["namespace", "model", "kind"]
        )
        for (namespace, model), totals in counters.models.items():
            for status, count in totals.by_status().items():
                requests.add_metric([namespace, model, status], count)
            tokens.add_metric([namespace, model, "prompt"], totals.prompt_tokens)
            tokens.add_metric([namespace, model, "cached"], totals.cached_tokens)
            tokens.add_metric([namespace, model, "completion"], totals.completion_tokens)
        yield requests
        yield tokens
        yield CounterMetricFamily(
            _PREFIX + "reservations_expired", "Reservations released without an end record", value=counters.expired
        )

    def _endpoints(self) -> Iterator[Metric]:
        names = ["namespace", "model", "pod", "uid"]
        in_flight = GaugeMetricFamily(_PREFIX + "endpoint_requests_in_flight", "Requests in flight", labels=names)
        failed = CounterMetricFamily(
            _PREFIX + "endpoint_failed_attempts", "Attempts that were retried elsewhere", labels=names
        )
        ready = GaugeMetricFamily(_PREFIX + "model_endpoints_ready", "Ready endpoints", labels=["namespace", "model"])
        for key, model in self._view().models.items():
            ready.add_metric([key.namespace, key.model], len(model.endpoints))
            for endpoint in model.endpoints:
                labels = [key.namespace, key.model, endpoint.pod_name, endpoint.id.pod_uid]
                load = self._loads.of(endpoint.id)
                # This gateway's own: whoever adds up all gateways counts each request once.
                in_flight.add_metric(labels, load.own.requests)
                failed.add_metric(labels, load.outcomes.failed_attempts)
        wrong = GaugeMetricFamily(
            _PREFIX + "model_config_problems", "Things wrong with model.aibrix.ai/config", labels=["namespace", "model"]
        )
        for key, problems in self._config_problems:
            wrong.add_metric([key.namespace, key.model], len(problems))
        yield wrong
        yield in_flight
        yield failed
        yield ready

    def _engines(self) -> Iterator[Metric]:
        names = ["namespace", "pod", "uid"]
        gauges = {
            "running": GaugeMetricFamily(
                _PREFIX + "engine_requests_running", "In a batch, the engine says", labels=names
            ),
            "waiting": GaugeMetricFamily(_PREFIX + "engine_requests_waiting", "Queued, the engine says", labels=names),
            "kv_cache_ratio": GaugeMetricFamily(_PREFIX + "engine_kv_cache_ratio", "KV cache in use", labels=names),
        }
        age = GaugeMetricFamily(_PREFIX + "engine_metrics_age_seconds", "Since the last scrape", labels=names)
        now_s, pods = self._now_s(), self._view().pods
        for key, found in self._metrics:
            pod = pods.get(key.pod_uid)
            if pod is None:
                continue
            labels = [pod.namespace, pod.name, pod.uid]
            age.add_metric(labels, now_s - found.observed_at_s)
            for field, gauge in gauges.items():
                if (value := getattr(found, field)) is not None:
                    gauge.add_metric(labels, value)
        yield age
        yield from gauges.values()
        scrapes = CounterMetricFamily(_PREFIX + "engine_scrapes", "Times engines were asked", labels=["result"])
        scrapes.add_metric(["success"], self._scrapes.succeeded)
        scrapes.add_metric(["failure"], self._scrapes.failed)
        yield scrapes

    def _process(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(_PREFIX + "reservations_held", "Requests in flight", value=len(self._reservations))
        yield GaugeMetricFamily(_PREFIX + "ready", "1 when the brain answers", value=float(self._state.is_ready))
        yield CounterMetricFamily(_PREFIX + "xds_writes", "Times that Envoy's files changed", value=self._xds.writes)
        yield CounterMetricFamily(_PREFIX + "xds_failures", "Times that they could not", value=self._xds.failures)
        # Without a sample before the first contact.
        yield GaugeMetricFamily(
            _PREFIX + "api_contact_age_seconds", "Since the API server last said something", value=self._contact_age()
        )
