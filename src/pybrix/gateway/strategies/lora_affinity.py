"""Strategy `lora-affinity`: the endpoint whose batch already has the request's adapter.

    t(e)     = 2 where the adapter is in the batch or waits for it; 1 where the batch has room for one more adapter, or
               the engine does not say; 0 where it is full of others (the request would wait, or evict one)
    score(e) = (t(e) + s(e)) / 3,  s(e) = least-request's score

For a base model t is the same everywhere, and least-request decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.scoring import lowest_first, requests_in_flight
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest

_WHYS = ("its batch is full of other adapters", "its batch has room for the adapter", "its batch has the adapter")


class LoraAffinity:
    name = "lora-affinity"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        by_load = lowest_first(requests_in_flight(endpoints, signals))
        if not request.adapter:
            return by_load
        return [(_tier(request.adapter, e, signals) + s) / 3.0 for e, s in zip(endpoints, by_load, strict=True)]

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        whys = []
        for endpoint in endpoints:
            place = f"{_WHYS[_tier(request.adapter, endpoint, signals)]}, " if request.adapter else ""
            whys.append(f"{place}{signals.load(endpoint.id).requests} requests in flight")
        return whys


def _tier(adapter: str, endpoint: Endpoint, signals: Signals) -> int:
    metrics = signals.metrics(endpoint.id)
    if metrics is None:
        return 1
    active = metrics.running_loras | metrics.waiting_loras
    if adapter in active:
        return 2
    return 0 if metrics.max_loras is not None and len(active) >= metrics.max_loras else 1
