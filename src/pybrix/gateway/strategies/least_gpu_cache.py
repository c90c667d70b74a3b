"""Strategy `least-gpu-cache`: the endpoint whose KV cache on the GPU is the emptiest.

k(e)     = share of e's KV cache in use, as its engine says; the mean of the others if it does not
score(e) = 1 - (k(e) - min k) / (max k - min k);  1 for all when max k = min k
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.scoring import lowest_first
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class LeastGpuCache:
    name = "least-gpu-cache"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first([_used(endpoint, signals) for endpoint in endpoints])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        found = [_used(endpoint, signals) for endpoint in endpoints]
        return ["its engine does not say" if each is None else f"KV cache {each:.1%} full" for each in found]


def _used(endpoint: Endpoint, signals: Signals) -> float | None:
    metrics = signals.metrics(endpoint.id)
    return None if metrics is None else metrics.kv_cache_ratio
