"""The brain's metrics: plain numbers become Prometheus series when someone asks, so that counting costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pybrix.gateway.director import Director
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.state import BrainState, ContactAge
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
        reservations: Reservations,
        xds: XdsPublisher,
        contact_age: ContactAge,
    ) -> None:
        self._state = state
        self._director = director
        self._view = view
        self._loads = loads
        self._reservations = reservations
        self._xds = xds
        self._contact_age = contact_age

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._endpoints()
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
                in_flight.add_metric(labels, load.requests)
                failed.add_metric(labels, load.outcomes.failed_attempts)
        yield in_flight
        yield failed
        yield ready

    def _process(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(_PREFIX + "reservations_held", "Requests in flight", value=len(self._reservations))
        yield GaugeMetricFamily(_PREFIX + "ready", "1 when the brain answers", value=float(self._state.is_ready))
        yield CounterMetricFamily(_PREFIX + "xds_writes", "Times that Envoy's files changed", value=self._xds.writes)
        yield CounterMetricFamily(_PREFIX + "xds_failures", "Times that they could not", value=self._xds.failures)
        age_s = self._contact_age()
        if age_s is not None:
            yield GaugeMetricFamily(
                _PREFIX + "api_contact_age_seconds", "Since the API server last said something", value=age_s
            )
