"""Strategy `power-of-two`: of two endpoints drawn at random, the one with fewer requests in flight.

    a, b     = two different endpoints, drawn uniformly
    score    = 1 for the one of a and b with the smaller n(e), 0.75 for the other; 0.5 for the rest
    n(e)     = requests in flight on e / warmth(e), as in `least-request`

With equal n, both of the two have 1. Many gateways that decide alike on the same numbers do not all pick the same
endpoint, which is the point of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.plugins import Chance
from pybrix.gateway.framework.scoring import requests_in_flight
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class PowerOfTwo:
    name = "power-of-two"
    prefers_new = False

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        scores = [0.5] * len(endpoints)
        if len(endpoints) == 1:
            return [1.0]
        one = int(self._chance.random() * len(endpoints))
        other = (one + 1 + int(self._chance.random() * (len(endpoints) - 1))) % len(endpoints)
        first, second = requests_in_flight((endpoints[one], endpoints[other]), signals)
        scores[one] = 1.0 if first <= second else 0.75
        scores[other] = 1.0 if second <= first else 0.75
        return scores

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        return [
            f"{signals.load(endpoint.id).requests} requests in flight; two are drawn for each request"
            for endpoint in endpoints
        ]
