"""Strategy `least-busy-time`: the endpoint that was idle for the largest share of the last time.

b(e)     = smoothed share of scrapes of e's engine that found a request in a batch; the mean of the others if unknown
score(e) = 1 - (b(e) - min b) / (max b - min b);  1 for all when max b = min b
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.scoring import lowest_first
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class LeastBusyTime:
    name = "least-busy-time"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first([_busy(endpoint, signals) for endpoint in endpoints])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        found = [_busy(endpoint, signals) for endpoint in endpoints]
        return ["not scraped yet" if each is None else f"busy {each:.0%} of the time" for each in found]


def _busy(endpoint: Endpoint, signals: Signals) -> float | None:
    metrics = signals.metrics(endpoint.id)
    return None if metrics is None else metrics.busy_ratio
