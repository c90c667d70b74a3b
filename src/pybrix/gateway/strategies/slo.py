"""Strategy `slo`: the endpoint that is expected to answer first, of those that keep what the model promises.

    1. of the endpoints with x(e) <= 1: by expected time of the whole request, lowest first
    2. then the others, by x, lowest first
    score(e) = 1 - place / number of places

A request that no endpoint can serve in time is served late, by the one that is late the least.

x(e), and what is expected, are defined in `indexes/forecast.py`; targets come from the profile's `routingConfig.slos`.
Without a target, `least-request` decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.scoring import in_order, lowest_first, requests_in_flight
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.indexes.forecast import Forecaster, targets_of


class Slo:
    """
    Args:
        forecaster: shared with the other strategies that keep promises.
    """

    name = "slo"
    prefers_new = True

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        targets = targets_of(request)
        if targets is None:
            return lowest_first(requests_in_flight(endpoints, signals))
        forecasts = self._forecaster.foretell(request, endpoints, signals, targets)
        return in_order([(0, each.e2e_s) if each.is_met else (1, each.pressure) for each in forecasts])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        targets = targets_of(request)
        if targets is None:
            return [f"nothing is promised, {signals.load(e.id).requests} requests in flight" for e in endpoints]
        return [str(each) for each in self._forecaster.foretell(request, endpoints, signals, targets)]

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        return self._forecaster.routed(request, endpoint, signals)

    def observe_outcome(self, outcome: Outcome) -> None:
        self._forecaster.ended(outcome)
