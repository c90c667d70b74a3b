"""Strategy `throughput`: the endpoint that processed the fewest tokens lately.

    t(e)     = 2 * prompt tokens a second + generated tokens a second
    score(e) = 1 - (t(e) - min t) / (max t - min t);  1 for all when max t = min t

The rates are the engine's own where it was scraped, else those of the requests that this gateway saw end on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.scoring import lowest_first
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class Throughput:
    name = "throughput"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first([_tokens_per_s(endpoint, signals) for endpoint in endpoints])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        return [f"{_tokens_per_s(endpoint, signals):.0f} weighted tokens a second" for endpoint in endpoints]


def _tokens_per_s(endpoint: Endpoint, signals: Signals) -> float:
    metrics, learnt = signals.metrics(endpoint.id), signals.load(endpoint.id).learnt
    prompt = None if metrics is None else metrics.prompt_tokens_per_s
    generated = None if metrics is None else metrics.generation_tokens_per_s
    if prompt is None or generated is None:
        prompt, generated = learnt.prompt_tokens_per_s(signals.now_s), learnt.completion_tokens_per_s(signals.now_s)
    return 2.0 * prompt + generated
