"""Strategy `prefix-affinity`: stay with the endpoint that holds the prompt's prefix until it is saturated.

    p        = prompt tokens of the request, as estimated;  d = tokens that it is expected to generate
    h(e)     = share of the prompt's blocks, from its beginning, that e holds
    w(e)     = p * (1 - h(e))                                  tokens that e would have to compute
    R(e)     = tokens a second that e prefills, learnt: (backlog when routed + uncached) / time to first token
    B(e)     = backlog: tokens routed to e and not prefilled yet; falls by R(e) a second, to 0
    q        = mean of B / mean uncached tokens of the requests in flight     how many wait for a prefill, by endpoint
    n(e)     = requests in flight on e
    kv(e)    = (tokens in flight on e, those that requests have in common once, + w(e) + d) / C(e)
    C(e)     = tokens of its KV cache; ASSUMED_KV where nobody says
    wait(e)  = (B(e) + w(e)) / R(e)                            time to first token that is to be expected
    delay(e) = w(e) / R(e) * (q + DECODING * n(e))             what the request costs others
    room(e)  = KV_S * kv(e) + FULL_S * max(0, kv(e) - 1)
    cost(e)  = (wait(e) + delay(e) + room(e)) / warmth(e)
    score(e) = 1 - (cost(e) - min cost) / (max cost - min cost)

A holder saves p * h(e) tokens of prefill, so it is chosen until its backlog exceeds that of another endpoint by what
that is worth; then the prefix is held twice from there on. What it is worth depends on the others: every token that is
computed again delays who comes behind, and who is being decoded meanwhile. With nobody there, the request's own time
counts alone; the more wait, the more it takes to give up a prefix. Endpoints with room in their KV cache come before
others, as a full one keeps no prefixes and, in the end, makes requests start again.

The backlog drains by a learnt rate, since nobody says when a prefill ends; a rate that is wrong corrects itself, for
what was waiting is part of each sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.scoring import lowest_first
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, EndpointId, InferenceRequest
from pybrix.gateway.indexes.backlog import PrefillBacklogs
from pybrix.gateway.indexes.prefix import PrefixIndex

DECODING = 0.1
"""How much a second counts by which a prefill holds up a request that is in flight, against one of a first token."""
KV_S = 2.0
"""What an empty KV cache is worth against a full one."""
FULL_S = 120.0
"""What it costs to come to a KV cache that lacks as many tokens as it holds: the time in which that many others end."""
ASSUMED_KV = 262_144
"""Tokens of a KV cache of unknown size. Such a one is never taken to be full."""


class PrefixAffinity:
    """
    Args:
        prefix: shared with the other strategies that look at prompts.
        backlogs: what is still to be prefilled on each endpoint.
    """

    name = "prefix-affinity"
    prefers_new = True

    def __init__(self, prefix: PrefixIndex, backlogs: PrefillBacklogs) -> None:
        self._prefix = prefix
        self._backlogs = backlogs
        self._last: tuple[InferenceRequest | None, list[EndpointId], list[int]] = (None, [], [])

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first(self._costs_s(request, endpoints, signals))

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        ids = [endpoint.id for endpoint in endpoints]
        matched, blocks = self._prefix.match(request.chain, ids), len(request.chain)
        costs_s = self._costs_s(request, endpoints, signals)
        whys = []
        for endpoint, held, cost_s in zip(ids, matched, costs_s, strict=True):
            backlog = self._backlogs.tokens(endpoint, signals.now_s)
            rate, count = self._backlogs.rate(endpoint, request), signals.load(endpoint).requests
            whys.append(
                f"holds {held} of the prompt's {blocks} blocks, {backlog:.0f} tokens to prefill at {rate:.0f} a "
                f"second, {count} requests in flight: costs {cost_s:.3f} s"
            )
        return whys

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        chain, key = request.chain, endpoint.id
        last, known, matched = self._last
        cached = 0
        if chain:
            is_known = last is request and key in known
            held = matched[known.index(key)] if is_known else self._prefix.match(chain, (key,))[0]
            self._prefix.insert(key, chain)
            cached = request.prompt_tokens * held // len(chain)
        self._backlogs.add(key, request, request.prompt_tokens - cached, signals.now_s)
        self._last = (None, [], [])
        return cached

    def observe_outcome(self, outcome: Outcome) -> None:
        """Learn the rate; note the blocks where a retry took them."""
        record, routed = outcome.record, outcome.routed_to.id
        is_moved = outcome.endpoint is None or outcome.endpoint.id != routed
        if is_moved:
            self._backlogs.drop(routed, outcome.request, outcome.now_s)
            if outcome.endpoint is not None and outcome.request.chain:
                self._prefix.insert(outcome.endpoint.id, outcome.request.chain)
            return
        is_told = outcome.request.is_stream and record.ttft_ms is not None and 200 <= record.status < 300
        ttft_s = record.ttft_ms / 1000.0 if is_told and record.ttft_ms is not None else None
        self._backlogs.learn(routed, outcome.request, ttft_s, outcome.now_s)

    def _costs_s(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> list[float]:
        # A comprehension for each column: half the time of one loop over all of them.
        chain, prompt = request.chain, request.prompt_tokens
        ids = [endpoint.id for endpoint in endpoints]
        matched = self._prefix.match(chain, ids)
        self._last = (request, ids, matched)
        loads = list(map(signals.load, ids))
        backlogs, rates = self._backlogs.waits(ids, signals.now_s, request)
        uncached = sum([load.uncached_tokens for load in loads])
        # The request itself is 1; see `q` above.
        others = 1.0
        if uncached:
            others += sum(backlogs) * sum([load.requests for load in loads]) / (uncached * len(ids))
        per_block = prompt / len(chain) if chain else 0.0
        metrics = list(map(signals.metrics, ids))
        capacities = [(each is not None and each.kv_capacity_tokens) or ASSUMED_KV for each in metrics]
        own = prompt + request.decode_tokens
        kv = [
            (load.prompt_tokens - load.common_tokens + load.decode_tokens + own - per_block * held) / c
            for load, held, c in zip(loads, matched, capacities, strict=True)
        ]
        costs = [
            (backlog + (prompt - per_block * held) * (others + DECODING * load.requests)) / rate + KV_S * full
            for backlog, held, load, rate, full in zip(backlogs, matched, loads, rates, kv, strict=True)
        ]
        if max(kv) > 1.0:
            costs = [
                cost + FULL_S * (full - 1.0) if full > 1.0 and each is not None and each.kv_capacity_tokens else cost
                for cost, full, each in zip(costs, kv, metrics, strict=True)
            ]
        if signals.has_new:
            return [cost / signals.warmth(endpoint) for cost, endpoint in zip(costs, endpoints, strict=True)]
        return costs
