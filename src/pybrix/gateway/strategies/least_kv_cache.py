"""Strategy `least-kv-cache`: the endpoint with the least KV cache in use, on the GPU and moved to the host together.

    k(e)     = share of the GPU's cache in use + share of the host's; an engine without the latter has none of it
    score(e) = 1 - (k(e) - min k) / (max k - min k);  1 for all when max k = min k

An endpoint whose engine says nothing counts as the mean of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.scoring import lowest_first
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class LeastKvCache:
    name = "least-kv-cache"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first([_used(endpoint, signals) for endpoint in endpoints])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        found = [_used(endpoint, signals) for endpoint in endpoints]
        return ["its engine does not say" if each is None else f"KV caches {each:.1%} full" for each in found]


def _used(endpoint: Endpoint, signals: Signals) -> float | None:
    metrics = signals.metrics(endpoint.id)
    if metrics is None or metrics.kv_cache_ratio is None:
        return None
    return metrics.kv_cache_ratio + (metrics.cpu_cache_ratio or 0.0)
