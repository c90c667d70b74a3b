"""Strategy `least-latency`: the endpoint where this request is expected to take the least time.

    l(e)     = queue(e) + first(e) + decode_tokens * per_token(e)
    queue    = average time in the engine's queue since the last scrape; 0 if unknown
    first    = prompt_tokens / prefill rate of e as learnt; else time to first token as learnt, else as scraped
    per_token= time per output token as learnt, else the engine's average; 0 if unknown
    score(e) = 1 - (l(e) - min l) / (max l - min l);  1 for all when max l = min l

prompt_tokens and decode_tokens are the request's own, as estimated. An endpoint with neither a prefill rate nor a time
to first token counts as the mean of the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.scoring import lowest_first
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class LeastLatency:
    name = "least-latency"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first([_expected_s(request, endpoint, signals) for endpoint in endpoints])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        found = [_expected_s(request, endpoint, signals) for endpoint in endpoints]
        return ["nothing is known of its latency" if s is None else f"expected to take {s:.2f} s" for s in found]


def _expected_s(request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> float | None:
    metrics, learnt = signals.metrics(endpoint.id), signals.load(endpoint.id).learnt
    first_s: float | None
    if learnt.prefill_tokens_per_s:
        first_s = request.prompt_tokens / learnt.prefill_tokens_per_s
    elif learnt.ttft_ms is not None:
        first_s = learnt.ttft_ms / 1000.0
    else:
        first_s = None if metrics is None else metrics.ttft_s
    if first_s is None:
        return None
    if learnt.tpot_ms is not None:
        per_token_s = learnt.tpot_ms / 1000.0
    else:
        per_token_s = (metrics.tpot_s if metrics is not None else None) or 0.0
    queue_s = (metrics.queue_s if metrics is not None else None) or 0.0
    return queue_s + first_s + request.decode_tokens * per_token_s
