"""What gateways share, as Prometheus series. Instances are labels: their number is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pybrix.gateway.statesync.service import StateSync

_PREFIX = "pybrix_gateway_statesync_"


class StateSyncMetrics(Collector):
    """Reads the live objects.

    Args:
        now_s: the monotonic clock.
    """

    def __init__(self, sync: StateSync, now_s: Callable[[], float]) -> None:
        self._sync = sync
        self._now_s = now_s

    def collect(self) -> Iterator[Metric]:
        sync, replica, now_s = self._sync, self._sync.replica, self._now_s()
        yield GaugeMetricFamily(
            _PREFIX + "degraded",
            "1 when others are to be told and cannot be: this gateway decides by what it knows itself",
            value=float(bool(sync.problem)),
        )
        live = [peer for peer in replica.peers if peer.is_counted]
        yield GaugeMetricFamily(_PREFIX + "peers", "Other gateways whose requests count here", value=len(live))
        lag = GaugeMetricFamily(_PREFIX + "lag_seconds", "Since an instance's last word", labels=["instance"])
        delay = GaugeMetricFamily(_PREFIX + "delay_seconds", "How long its last word took", labels=["instance"])
        divergence = GaugeMetricFamily(
            _PREFIX + "divergence_ratio",
            "How far its view of the requests in flight is from this one's",
            labels=["instance"],
        )
        behind = GaugeMetricFamily(_PREFIX + "behind", "1 when something it said is missing here", labels=["instance"])
        for peer in live:
            lag.add_metric([peer.name], now_s - peer.heard_s)
            delay.add_metric([peer.name], peer.delay_s)
            behind.add_metric([peer.name], float(peer.is_behind))
            if peer.divergence_ratio is not None:
                divergence.add_metric([peer.name], peer.divergence_ratio)
        yield lag
        yield delay
        yield divergence
        yield behind
        messages = CounterMetricFamily(_PREFIX + "messages", "Messages by what became of them", labels=["kind"])
        messages.add_metric(["sent"], sync.sent)
        messages.add_metric(["taken"], replica.taken)
        messages.add_metric(["refused"], replica.refused)
        yield messages
        size = CounterMetricFamily(_PREFIX + "bytes", "Bytes of messages and snapshots", labels=["direction"])
        size.add_metric(["sent"], sync.sent_bytes)
        size.add_metric(["received"], sync.received_bytes)
        yield size
        snapshots = CounterMetricFamily(_PREFIX + "snapshots", "Snapshots", labels=["direction"])
        snapshots.add_metric(["written"], sync.snapshots)
        snapshots.add_metric(["read"], replica.resynced)
        yield snapshots
        yield CounterMetricFamily(
            _PREFIX + "operations", "Commands sent to Redis, or datagrams to peers", value=sync.operations
        )
        yield CounterMetricFamily(_PREFIX + "failures", "Times that others could not be reached", value=sync.failures)
