"""Strategy `slo-least-load-pulling`: as `slo-least-load`, but an endpoint that would break a promise takes nothing.

    full(e)     = x(e) > 1 and at least one request is in flight on e
    score(e)    = 1 - (x(e) - min x) / (max x - min x),  over the endpoints that are not full
    Retry-After = least time until an endpoint may have room, if all are full: 503
                  ttft(e) - target where only that one is missed, else time of a request on e / requests in flight on e

An idle endpoint takes any request: what is too large for every promise would never be served otherwise.

x(e), and what is expected, are defined in `indexes/forecast.py`; targets come from the profile's `routingConfig.slos`.
Without a target, `least-request` decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.scoring import lowest_first, requests_in_flight
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.indexes.forecast import Forecaster, targets_of


class SloLeastLoadPulling:
    """
    Args:
        forecaster: shared with the other strategies that keep promises.
    """

    name = "slo-least-load-pulling"
    prefers_new = True

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        targets = targets_of(request)
        if targets is None:
            return lowest_first(requests_in_flight(endpoints, signals))
        forecasts = self._forecaster.foretell(request, endpoints, signals, targets)
        return lowest_first([each.pressure for each in forecasts])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        targets = targets_of(request)
        if targets is None:
            return [f"nothing is promised, {signals.load(e.id).requests} requests in flight" for e in endpoints]
        return [str(each) for each in self._forecaster.foretell(request, endpoints, signals, targets)]

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        return self._forecaster.routed(request, endpoint, signals)

    def observe_outcome(self, outcome: Outcome) -> None:
        self._forecaster.ended(outcome)

    def why_full(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        targets = targets_of(request)
        if targets is None:
            return [""] * len(endpoints)
        forecasts = self._forecaster.foretell(request, endpoints, signals, targets)
        return ["" if each.is_met or each.is_idle else str(each) for each in forecasts]

    def retry_after_s(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> float:
        targets = targets_of(request)
        if targets is None:
            return 0.0
        waits_s = []
        for endpoint, each in zip(
            endpoints, self._forecaster.foretell(request, endpoints, signals, targets), strict=True
        ):
            load = signals.load(endpoint.id)
            latency_s = (load.learnt.latency_ms or 0.0) / 1000.0 or each.e2e_s
            wait_s = each.ttft_s - targets.ttft if targets.ttft else 0.0
            # The backlog of prefills drains by itself; for anything else, a request has to end.
            is_only_late = wait_s > 0.0 and each.pressure <= each.ttft_s / (targets.ttft or 1.0)
            waits_s.append(wait_s if is_only_late else max(wait_s, latency_s / max(1, load.requests)))
        return min(waits_s)
