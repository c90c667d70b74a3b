"""Strategy `prefix-cache-preble`: go where most of the prompt is, or else where the request costs the least work.

    m(e)     = share of the prompt's blocks, from its beginning, that e holds (see `indexes/prefix.py`)
    n(e)     = requests in flight on e
    R(e)     = prompt tokens a second that e prefills;  D(e) = seconds for each token that it generates; as learnt, else
               the mean of the others, else 8000 and 0.02
    L(e)     = uncached(e) / R(e) + decode(e) * D(e)       work that was routed to e in the last 3 minutes, in seconds
    P(e)     = prompt_tokens * (1 - m(e)) / R(e) + decode_tokens * D(e)                         work of this request
    E(e)     = hit(e) * evicted(e) / R(e)                  work that comes again because others' blocks have to go
    cost(e)  = (L(e) + P(e) + E(e)) / warmth(e)

    1. if max n - min n > IMBALANCE, only endpoints with n = min n are considered
    2. if max m > 1/2, of those with m > 1/2: by m, highest first, then by L, lowest first
    3. then the others, by cost
    score(e) = 1 - place / number of places

uncached(e) and decode(e) are the tokens that were routed to e and not expected in its cache, and that it generated.
hit(e) is the share of prompts routed to e in the same time that was cached there; evicted(e) the tokens of the blocks
beyond those that fit into its KV cache with the prompt's. The rule is that of the paper Preble (arXiv 2407.00023): use
what is cached where that is more than half of the prompt, else spread the load.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.scoring import in_order
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, EndpointId, InferenceRequest
from pybrix.gateway.indexes.prefix import PrefixIndex
from pybrix.gateway.indexes.tokenhistory import TokenHistory, Tokens

IMBALANCE = 8
ENOUGH = 0.5
FIRST_RATE = 8000.0
FIRST_TPOT_S = 0.02


class PrefixCachePreble:
    """
    Args:
        prefix: shared with the other strategies that look at prompts.
        history: what was routed to each engine by this strategy.
    """

    name = "prefix-cache-preble"
    prefers_new = True

    def __init__(self, prefix: PrefixIndex, history: TokenHistory) -> None:
        self._prefix = prefix
        self._history = history
        self._last: tuple[InferenceRequest | None, dict[EndpointId, int]] = (None, {})

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        matched = self._match(request, endpoints)
        enough = ENOUGH * len(request.chain)
        counts = [signals.load(endpoint.id).requests for endpoint in endpoints]
        least = min(counts)
        is_imbalanced = max(counts) - least > IMBALANCE
        keys = []
        for held, count, (load_s, cost_s) in zip(
            matched, counts, self._costs_s(request, endpoints, signals, matched), strict=True
        ):
            if is_imbalanced and count > least:
                keys.append((2, 0, cost_s))
            elif held > enough:
                keys.append((0, -held, load_s))
            else:
                keys.append((1, 0, cost_s))
        return in_order(keys)

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        matched, blocks = self._match(request, endpoints), len(request.chain)
        costs = self._costs_s(request, endpoints, signals, matched)
        return [
            f"holds {held} of the prompt's {blocks} blocks, {load_s:.2f} s of work in 3 minutes, costs {cost_s:.2f} s, "
            f"{signals.load(endpoint.id).requests} requests in flight"
            for endpoint, held, (load_s, cost_s) in zip(endpoints, matched, costs, strict=True)
        ]

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        chain, key = request.chain, endpoint.id
        last, known = self._last
        self._last = (None, {})
        cached = 0
        if chain:
            # In a combination, another member may have noted the blocks by now: what was found before that counts.
            held = known[key] if last is request else self._prefix.match(chain, (key,))[0]
            self._prefix.insert(key, chain)
            cached = request.prompt_tokens * held // len(chain)
        self._history.add(key, Tokens(request.prompt_tokens, cached, request.decode_tokens), signals.now_s)
        return cached

    def observe_outcome(self, outcome: Outcome) -> None:
        """Count what was really generated, and the work where a retry took it."""
        request, record, routed = outcome.request, outcome.record, outcome.routed_to.id
        is_done = 200 <= record.status < 300
        decode = (record.completion_tokens or request.decode_tokens) if is_done else record.completion_tokens
        if outcome.endpoint is not None and outcome.endpoint.id == routed:
            self._history.add(routed, Tokens(decode=decode - request.decode_tokens), outcome.now_s)
            return
        self._history.add(routed, Tokens(-request.prompt_tokens, 0, -request.decode_tokens), outcome.now_s)
        if outcome.endpoint is not None:
            if request.chain:
                self._prefix.insert(outcome.endpoint.id, request.chain)
            self._history.add(outcome.endpoint.id, Tokens(request.prompt_tokens, 0, decode), outcome.now_s)

    def _match(self, request: InferenceRequest, endpoints: Sequence[Endpoint]) -> list[int]:
        ids = [endpoint.id for endpoint in endpoints]
        matched = self._prefix.match(request.chain, ids)
        self._last = (request, dict(zip(ids, matched, strict=True)))
        return matched

    def _costs_s(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals, matched: Sequence[int]
    ) -> list[tuple[float, float]]:
        """Return L and cost, in seconds."""
        blocks, prompt = len(request.chain), request.prompt_tokens
        per_block = prompt / blocks if blocks else 0.0
        learnt = [signals.load(endpoint.id).learnt for endpoint in endpoints]
        rates = _or_mean([each.prefill_tokens_per_s for each in learnt], FIRST_RATE)
        tpots_ms = _or_mean([each.tpot_ms for each in learnt], FIRST_TPOT_S * 1000.0)
        costs = []
        for endpoint, held, rate, tpot_ms in zip(endpoints, matched, rates, tpots_ms, strict=True):
            past = self._history.of(endpoint.id, signals.now_s)
            tpot_s = tpot_ms / 1000.0
            load_s = (past.prompt - past.cached) / rate + past.decode * tpot_s
            own_s = (prompt - per_block * held) / rate + request.decode_tokens * tpot_s
            evicted = max(0, blocks - held - self._prefix.room(endpoint.id)) * per_block
            cost_s = load_s + own_s + past.hit_ratio * evicted / rate
            costs.append((load_s, cost_s / signals.warmth(endpoint) if signals.has_new else cost_s))
        return costs


def _or_mean(values: Sequence[float | None], first: float) -> list[float]:
    """Return the values, the mean of the known ones where there is none, `first` where there is none at all."""
    known = [value for value in values if value]
    usual = sum(known) / len(known) if known else first
    return [value or usual for value in values]
