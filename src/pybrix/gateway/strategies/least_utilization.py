"""Strategy `least-utilization`: the endpoint whose engine is the least utilised.

    u(e)     = the utilisation that e's engine states; where it states none, the larger of
                 KV cache in use, and waiting / (running + waiting)
    score(e) = 1 - (u(e) - min u) / (max u - min u);  1 for all when max u = min u

An endpoint whose engine says none of these counts as the mean of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.scoring import lowest_first
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class LeastUtilization:
    name = "least-utilization"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first([_utilization(endpoint, signals) for endpoint in endpoints])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        found = [_utilization(endpoint, signals) for endpoint in endpoints]
        return ["its engine does not say" if each is None else f"{each:.1%} utilised" for each in found]


def _utilization(endpoint: Endpoint, signals: Signals) -> float | None:
    metrics = signals.metrics(endpoint.id)
    if metrics is None:
        return None
    if metrics.utilization_ratio is not None:
        return metrics.utilization_ratio
    signs = []
    if metrics.kv_cache_ratio is not None:
        signs.append(metrics.kv_cache_ratio)
    if metrics.waiting is not None and metrics.running is not None:
        signs.append(metrics.waiting / max(1.0, metrics.running + metrics.waiting))
    return max(signs, default=None)
