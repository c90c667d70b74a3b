"""What a request would be like on each endpoint, against what its model promises. Pure; time is an argument.

    p, d       = prompt tokens and generated tokens of the request, as estimated
    B(e), R(e) = backlog of prefill in tokens, and its rate; see `indexes/backlog.py`
    cached(e)  = tokens of the prompt, from its beginning, that e holds; see `indexes/prefix.py`
    ttft(e)    = (B(e) + p - cached(e)) / R(e) / warmth(e)
    tpot(e)    = learnt time per token * (1 + (n(e) + 1) / usual n(e)) / 2;  the engine's own, or the mean of the
                 others, where nothing was learnt; 0 where nobody knows
    e2e(e)     = ttft(e) + d * tpot(e);   tpat(e) = e2e(e) / (p + d)
    kv(e)      = (tokens in flight on e + p + d) / tokens of its KV cache;  0 where its size is not known
    x(e)       = max of kv(e) and of each expected latency over its target:  1 is as full as may be

n(e) are the requests in flight on e; the usual number is the mean of those that were there when requests were routed to
it lately. Half of the time of a step is taken to be the same for any batch, and half to grow with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pybrix.gateway.framework.modelconfig import Targets
from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, EndpointId, InferenceRequest
from pybrix.gateway.indexes.backlog import PrefillBacklogs
from pybrix.gateway.indexes.learnt import DecayedMean
from pybrix.gateway.indexes.prefix import PrefixIndex


class Forecast(NamedTuple):
    """One endpoint's. `is_idle`: nothing is in flight there, so it is never too full."""

    ttft_s: float
    tpot_s: float
    e2e_s: float
    kv_ratio: float
    pressure: float
    is_idle: bool

    @property
    def is_met(self) -> bool:
        """Whether the targets would be met."""
        return self.pressure <= 1.0

    def __str__(self) -> str:
        kv = f", KV cache {self.kv_ratio:.0%} full" if self.kv_ratio else ""
        return (
            f"expected: first token in {self.ttft_s:.2f} s, {self.tpot_s * 1000:.0f} ms a token, {self.e2e_s:.1f} s "
            f"in all{kv}: {self.pressure:.0%} of what is promised"
        )


def targets_of(request: InferenceRequest) -> Targets | None:
    """Return what the model promises for such a request; None for nothing."""
    profile = request.profile
    return profile.targets if profile is not None and profile.targets else None


class Forecaster:
    """Foretells, and learns from what came.

    Args:
        prefix: shared with the other strategies that look at prompts.
        backlogs: shared with those that look at prefills.
    """

    def __init__(self, prefix: PrefixIndex, backlogs: PrefillBacklogs) -> None:
        self._prefix = prefix
        self._backlogs = backlogs
        self._usual_counts: dict[EndpointId, DecayedMean] = {}

    def foretell(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals, targets: Targets
    ) -> list[Forecast]:
        """Return the forecasts, in the endpoints' order."""
        ids = [endpoint.id for endpoint in endpoints]
        matched = self._prefix.match(request.chain, ids)
        backlogs, rates = self._backlogs.waits(ids, signals.now_s, request)
        tpots = self._tpots_s(ids, signals)
        prompt, decode = request.prompt_tokens, request.decode_tokens
        per_block = prompt / len(request.chain) if request.chain else 0.0
        found = []
        for endpoint, held, backlog, rate, tpot_s in zip(endpoints, matched, backlogs, rates, tpots, strict=True):
            load = signals.load(endpoint.id)
            ttft_s = (backlog + prompt - per_block * held) / rate / signals.warmth(endpoint)
            e2e_s = ttft_s + decode * tpot_s
            metrics = signals.metrics(endpoint.id)
            capacity = metrics.kv_capacity_tokens if metrics is not None else None
            kv_ratio = (load.prompt_tokens + load.decode_tokens + prompt + decode) / capacity if capacity else 0.0
            pressure = max(
                kv_ratio,
                ttft_s / targets.ttft if targets.ttft else 0.0,
                tpot_s / targets.tpot if targets.tpot else 0.0,
                e2e_s / max(1, prompt + decode) / targets.tpat if targets.tpat else 0.0,
                e2e_s / targets.e2e if targets.e2e else 0.0,
            )
            found.append(Forecast(ttft_s, tpot_s, e2e_s, kv_ratio, pressure, not load.requests))
        return found

    def routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        """Count the request where it goes; return the tokens of its prompt that are cached there."""
        chain, key = request.chain, endpoint.id
        cached = 0
        if chain:
            cached = request.prompt_tokens * self._prefix.match(chain, (key,))[0] // len(chain)
            self._prefix.insert(key, chain)
        self._backlogs.add(key, request, request.prompt_tokens - cached, signals.now_s)
        usual = self._usual_counts.get(key)
        if usual is None:
            usual = self._usual_counts[key] = DecayedMean()
        usual.add(signals.load(key).requests + 1, signals.now_s)
        return cached

    def ended(self, outcome: Outcome) -> None:
        """Learn from how a request ended, and note where a retry took its prompt."""
        request, record, routed = outcome.request, outcome.record, outcome.routed_to.id
        if outcome.endpoint is None or outcome.endpoint.id != routed:
            self._backlogs.drop(routed, request, outcome.now_s)
            if outcome.endpoint is not None and request.chain:
                self._prefix.insert(outcome.endpoint.id, request.chain)
            return
        is_told = request.is_stream and record.ttft_ms is not None and 200 <= record.status < 300
        ttft_s = record.ttft_ms / 1000.0 if is_told and record.ttft_ms is not None else None
        self._backlogs.learn(routed, request, ttft_s, outcome.now_s)

    def retain(self, live: set[EndpointId]) -> None:
        """Forget every endpoint that is not live."""
        for endpoint in [known for known in self._usual_counts if known not in live]:
            del self._usual_counts[endpoint]

    def collect(self) -> bool:
        """Nothing is left over for later."""
        return False

    def __len__(self) -> int:
        return len(self._usual_counts)

    def _tpots_s(self, endpoints: Sequence[EndpointId], signals: Signals) -> list[float]:
        found: list[float | None] = []
        for key in endpoints:
            load, metrics = signals.load(key), signals.metrics(key)
            if load.learnt.tpot_ms is not None:
                usual = self._usual_counts.get(key)
                usual_count = (usual.value if usual is not None else None) or load.requests + 1.0
                found.append(load.learnt.tpot_ms / 1000.0 * (1.0 + (load.requests + 1.0) / usual_count) / 2.0)
            else:
                found.append(metrics.tpot_s if metrics is not None else None)
        known = [tpot_s for tpot_s in found if tpot_s is not None]
        mean = sum(known) / len(known) if known else 0.0
        return [mean if tpot_s is None else tpot_s for tpot_s in found]
