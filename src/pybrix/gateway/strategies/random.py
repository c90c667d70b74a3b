"""Strategy `random`: every endpoint alike.

    score(e) = 1

All endpoints tie, and the picker puts ties in a random order: uniform over the ready endpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.types import Endpoint, InferenceRequest, Loads


class Random:
    name = "random"

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads) -> Sequence[float]:
        return [1.0] * len(endpoints)

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads) -> Sequence[str]:
        return ["any endpoint is as good as another"] * len(endpoints)
