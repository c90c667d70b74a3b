"""The last metrics of each engine, by `EndpointId`. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pybrix.gateway.framework.signals import STALE_AFTER_S, EngineMetrics
from pybrix.gateway.framework.types import EndpointId


class MetricsTable:
    """What the scrapes found.

    Attributes:
        of: returns an engine's metrics, None when there are none that are fresh. The dict's own method, for strategies
            call it for every endpoint of every request.
    """

    def __init__(self) -> None:
        self._metrics: dict[EndpointId, EngineMetrics] = {}
        self.of: Callable[[EndpointId], EngineMetrics | None] = self._metrics.get

    def put(self, endpoint: EndpointId, metrics: EngineMetrics) -> None:
        self._metrics[endpoint] = metrics

    def drop(self, endpoint: EndpointId) -> None:
        self._metrics.pop(endpoint, None)

    def expire(self, now_s: float) -> None:
        """Drop what is older than `STALE_AFTER_S`; called every second, so that readers need not look."""
        for key in [key for key, found in self._metrics.items() if now_s - found.observed_at_s > STALE_AFTER_S]:
            del self._metrics[key]

    def __len__(self) -> int:
        return len(self._metrics)

    def __iter__(self) -> Iterator[tuple[EndpointId, EngineMetrics]]:
        return iter(list(self._metrics.items()))
