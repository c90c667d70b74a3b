"""Strategy `least-request`: the endpoint with the fewest requests in flight.

    n(e)     = requests in flight on e, counted when they are routed, / warmth(e)
    score(e) = 1 - (n(e) - min n) / (max n - min n);  1 for all when max n = min n

An endpoint that was never used has n = 0. warmth(e) is 1 but for the first 30 s of a pod, in which it grows from 0.1: a
new pod takes its first request before others take another one, and then its share by and by. Endpoints with equal n
tie; new pods come first, and the picker puts the others in a random order.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.scoring import lowest_first, requests_in_flight
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class LeastRequest:
    name = "least-request"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first(requests_in_flight(endpoints, signals))

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        return [_reason(endpoint, signals) for endpoint in endpoints]


def _reason(endpoint: Endpoint, signals: Signals) -> str:
    warmth = signals.warmth(endpoint)
    warming = f", warmed up to {warmth:.0%}" if warmth < 1.0 else ""
    return f"{signals.load(endpoint.id).requests} requests in flight{warming}"
