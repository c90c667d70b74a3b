"""Strategy `prefix-cache`: the endpoint that holds most of the prompt, unless it has too many requests.

    m(e)  = share of the prompt's blocks, from its beginning, that e holds (of 128 bytes; see `indexes/prefix.py`)
    n(e)  = requests in flight on e
    1. if max n - min n > IMBALANCE, only endpoints with n = min n are considered
    2. of those with m > 0 and n <= mean n + DEVIATIONS * stddev n: by m, highest first, then by n, lowest first
    3. then the others, by n
    score(e) = 1 - place / number of places

The prompt's blocks are noted for the chosen endpoint at once, before the engine has computed anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.scoring import in_order
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, EndpointId, InferenceRequest
from pybrix.gateway.indexes.prefix import PrefixIndex

IMBALANCE = 8
DEVIATIONS = 1.0


class PrefixCache:
    """
    Args:
        prefix: shared with the other strategies that look at prompts.
        imbalance: difference in requests above which only the least loaded are considered.
        deviations: standard deviations above the mean that an endpoint's requests may be.
    """

    name = "prefix-cache"
    prefers_new = True

    def __init__(self, prefix: PrefixIndex, imbalance: int = IMBALANCE, deviations: float = DEVIATIONS) -> None:
        self._prefix = prefix
        self._imbalance = imbalance
        self._deviations = deviations
        self._last: tuple[InferenceRequest | None, dict[EndpointId, int]] = (None, {})

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        ids = [endpoint.id for endpoint in endpoints]
        matched = self._prefix.match(request.chain, ids)
        self._last = (request, dict(zip(ids, matched, strict=True)))
        counts = [signals.load(endpoint.id).requests for endpoint in endpoints]
        least, most = min(counts), max(counts)
        is_imbalanced = most - least > self._imbalance
        limit = mean = sum(counts) / len(counts)
        if len(counts) > 1:
            # The module `statistics` is exact, and takes 20 times as long.
            limit += self._deviations * math.sqrt(sum([(n - mean) ** 2 for n in counts]) / (len(counts) - 1))
        keys = []
        for held, count in zip(matched, counts, strict=True):
            if is_imbalanced and count > least:
                keys.append((2, 0, count))
            elif held and count <= limit:
                keys.append((0, -held, count))
            else:
                keys.append((1, 0, count))
        return in_order(keys)

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        matched = self._prefix.match(request.chain, [endpoint.id for endpoint in endpoints])
        blocks = len(request.chain)
        return [
            f"holds {held} of the prompt's {blocks} blocks, {signals.load(endpoint.id).requests} requests in flight"
            for held, endpoint in zip(matched, endpoints, strict=True)
        ]

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        chain = request.chain
        if not chain:
            return 0
        # In a combination, another member may have noted the blocks by now: what was found before that counts.
        last, known = self._last
        held = known[endpoint.id] if last is request else self._prefix.match(chain, (endpoint.id,))[0]
        self._last = (None, {})
        self._prefix.insert(endpoint.id, chain)
        return request.prompt_tokens * held // len(chain)

    def observe_outcome(self, outcome: Outcome) -> None:
        """Note the blocks where a retry took them."""
        if outcome.endpoint is not None and outcome.endpoint.id != outcome.routed_to.id and outcome.request.chain:
            self._prefix.insert(outcome.endpoint.id, outcome.request.chain)
