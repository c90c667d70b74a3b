"""Strategy `random`: every endpoint alike.

    score(e) = 1

All endpoints tie, and the picker puts ties in a random order: uniform over the ready endpoints, new ones included.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class Random:
    name = "random"
    prefers_new = False

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return [1.0] * len(endpoints)

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        return ["any endpoint is as good as another"] * len(endpoints)
