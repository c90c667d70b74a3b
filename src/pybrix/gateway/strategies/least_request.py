"""Strategy `least-request`: the endpoint with the fewest requests in flight.

    n(e)     = requests in flight on e, counted when they are routed
    score(e) = 1 - (n(e) - min n) / (max n - min n);  1 for all when max n = min n

An endpoint that was never used has n = 0. Endpoints with equal n tie; the picker puts ties in a random order.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.types import Endpoint, InferenceRequest, Loads


class LeastRequest:
    name = "least-request"

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads) -> Sequence[float]:
        load_of = loads.of
        counts = [load_of(endpoint.id).requests for endpoint in endpoints]
        if not counts:
            return []
        least, most = min(counts), max(counts)
        if most == least:
            return [1.0] * len(counts)
        spread = most - least
        return [1.0 - (count - least) / spread for count in counts]

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads) -> Sequence[str]:
        return [f"{loads.of(endpoint.id).requests} requests in flight" for endpoint in endpoints]
