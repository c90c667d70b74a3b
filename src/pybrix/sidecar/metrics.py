"""The sidecar's own metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import pybrix
from pybrix.sidecar.artifacts.store import ArtifactStore
from pybrix.sidecar.loaded import LoadedAdapters
from pybrix.sidecar.options import EngineKind

_PREFIX = "pybrix_sidecar_"


class RequestMetrics:
    """Requests to the sidecar, in AIBrix's names. Labels come from the routes, so their number is bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "aibrix:api_request", "Requests to the sidecar", ["method", "endpoint", "status"], registry=registry
        )
        self._latency = Histogram(
            "aibrix:api_request_latency",
            "Seconds that they took",
            ["method", "endpoint"],
            registry=registry,
            buckets=(0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1800),
        )

    def note(self, method: str, endpoint: str, status: int, duration_s: float) -> None:
        """Count a request that ended."""
        self._requests.labels(method, endpoint, str(status)).inc()
        self._latency.labels(method, endpoint).observe(duration_s)


class SidecarMetrics(Collector):
    """Reads the live objects."""

    def __init__(self, kind: EngineKind, store: ArtifactStore, loaded: LoadedAdapters) -> None:
        self._kind = kind
        self._store = store
        self._loaded = loaded
        self.is_engine_up = False
        """What the last look found."""

    def collect(self) -> Iterator[Metric]:
        # AIBrix's name of it, which is a gauge there as well.
        info = GaugeMetricFamily("aibrix:info", "The sidecar", labels=["version", "engine"])
        info.add_metric([pybrix.__version__, str(self._kind)], 1.0)
        yield info
        yield GaugeMetricFamily(
            _PREFIX + "engine_up", "1 when the engine's metrics could be read", value=float(self.is_engine_up)
        )
        yield GaugeMetricFamily(
            _PREFIX + "adapters_loaded", "Adapters on record as loaded", value=len(self._loaded.names)
        )
        manifests = self._store.manifests()
        yield GaugeMetricFamily(_PREFIX + "artifacts", "Complete artifacts on the disk", value=len(manifests))
        yield GaugeMetricFamily(
            _PREFIX + "artifact_bytes", "Bytes of them", value=sum(manifest.size_bytes for manifest in manifests)
        )
        yield GaugeMetricFamily(
            _PREFIX + "downloads_under_way", "Artifacts being fetched", value=len(self._store.flights())
        )
        counters = self._store.counters
        downloads = CounterMetricFamily(_PREFIX + "downloads", "Downloads that ended", labels=["scheme", "result"])
        for (scheme, result), number in counters.downloads.items():
            downloads.add_metric([scheme, result], number)
        yield downloads
        received = CounterMetricFamily(_PREFIX + "received_bytes", "Bytes that were fetched", labels=["scheme"])
        for scheme, number in counters.received_bytes.items():
            received.add_metric([scheme], number)
        yield received
        yield CounterMetricFamily(_PREFIX + "artifact_hits", "Artifacts that were here already", value=counters.hits)
        yield CounterMetricFamily(
            _PREFIX + "downloads_joined", "Requests that joined a download", value=counters.joined
        )
        yield CounterMetricFamily(_PREFIX + "evictions", "Artifacts that left to make room", value=counters.evictions)


def own_families(registry: CollectorRegistry) -> frozenset[str]:
    """Return the names of all families that a registry shows, with and without `_total`."""
    names = {metric.name for metric in registry.collect()}
    return frozenset(names | {f"{name}_total" for name in names})
