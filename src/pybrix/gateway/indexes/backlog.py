"""What each engine still has to prefill, as a reservoir that drains at a learnt rate. Pure; time is an argument.

    backlog(t) = max(0, backlog(t0) - rate * (t - t0)) + tokens that are routed there
    sample     = (backlog just before the request + its uncached tokens) / its time to first token
    rate       = mean of samples, recent ones counting more

Nobody tells when a prefill ends, only when a request has ended. A rate that is too high empties the reservoir too
early, so the next samples leave out what was waiting and come out lower; one that is too low makes them higher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pybrix.gateway.framework.types import EndpointId, InferenceRequest
from pybrix.gateway.indexes.learnt import DecayedMean, Sums

FIRST_RATE = 8000.0
"""Tokens a second of an engine that nothing is known of, and of whose neighbours nothing is known either."""
MIN_SAMPLE_TOKENS = 256
"""Fewer tokens measure overheads, not the prefill."""
MAX_AWAITED = 4096
"""Requests of an endpoint whose end is awaited; of some it is never heard, and the oldest are forgotten."""


_NO_SUMS: Sums = (0.0, 0.0)


class _Reservoir:
    __slots__ = ("ahead", "at_s", "mean", "rate", "routed", "tokens")

    def __init__(self, rate: float) -> None:
        self.tokens = 0.0
        self.routed = 0
        """Tokens that this gateway ever routed there, less those it took back."""
        self.at_s = 0.0
        self.rate = rate
        self.mean = DecayedMean()
        self.ahead: dict[int, tuple[float, int]] = {}
        """By `id` of the request, which lives as long as its reservation: what was waiting, and its own tokens."""

    def drained(self, now_s: float) -> float:
        if not self.tokens:
            return 0.0
        left = self.tokens - self.rate * (now_s - self.at_s)
        return left if left > 0.0 else 0.0


class PrefillBacklogs:
    """Reservoirs by endpoint. A new endpoint drains as fast as those of the same model that are known, in the mean."""

    def __init__(self) -> None:
        self._reservoirs: dict[EndpointId, _Reservoir] = {}
        # By namespace and model, with the endpoint that taught last.
        self._usual: dict[tuple[str, str], tuple[DecayedMean, EndpointId]] = {}

    def waits(
        self, endpoints: Iterable[EndpointId], now_s: float, request: InferenceRequest
    ) -> tuple[list[float], list[float]]:
        """Return backlogs in tokens, and rates in tokens a second, in the order of the endpoints, all of its model."""
        usual, get = self._usual_rate(request), self._reservoirs.get
        backlogs, rates = [], []
        for endpoint in endpoints:
            reservoir = get(endpoint)
            if reservoir is None:
                backlogs.append(0.0)
                rates.append(usual)
                continue
            # As `drained`, without the call: this is asked for every endpoint of every request.
            rate, tokens = reservoir.rate, reservoir.tokens
            if tokens:
                tokens -= rate * (now_s - reservoir.at_s)
            backlogs.append(tokens if tokens > 0.0 else 0.0)
            rates.append(rate)
        return backlogs, rates

    def tokens(self, endpoint: EndpointId, now_s: float) -> float:
        """Return the backlog."""
        reservoir = self._reservoirs.get(endpoint)
        return reservoir.drained(now_s) if reservoir is not None else 0.0

    def rate(self, endpoint: EndpointId, request: InferenceRequest) -> float:
        """Return tokens a second of an endpoint of the request's model."""
        return self.waits((endpoint,), 0.0, request)[1][0]

    def add(self, endpoint: EndpointId, request: InferenceRequest, uncached_tokens: int, now_s: float) -> None:
        """Count a request's uncached tokens on the endpoint."""
        reservoir = self._reservoirs.get(endpoint)
        if reservoir is None:
            reservoir = self._reservoirs[endpoint] = _Reservoir(self._usual_rate(request))
        ahead = reservoir.drained(now_s)
        reservoir.ahead[id(request)] = (ahead, uncached_tokens)
        if len(reservoir.ahead) > MAX_AWAITED:
            del reservoir.ahead[next(iter(reservoir.ahead))]
        reservoir.tokens = ahead + uncached_tokens
        reservoir.routed += uncached_tokens
        reservoir.at_s = now_s

    def drop(self, endpoint: EndpointId, request: InferenceRequest, now_s: float) -> None:
        """Take back a request that the endpoint did not serve."""
        reservoir = self._reservoirs.get(endpoint)
        found = reservoir.ahead.pop(id(request), None) if reservoir is not None else None
        if reservoir is not None and found is not None:
            reservoir.tokens = max(0.0, reservoir.drained(now_s) - found[1])
            reservoir.routed -= found[1]
            reservoir.at_s = now_s

    def learn(self, endpoint: EndpointId, request: InferenceRequest, ttft_s: float | None, now_s: float) -> None:
        """Take in how long a request waited for its first token; None: nobody can say."""
        reservoir = self._reservoirs.get(endpoint)
        found = reservoir.ahead.pop(id(request), None) if reservoir is not None else None
        if reservoir is None or found is None or ttft_s is None or ttft_s <= 0.0:
            return
        tokens = sum(found)
        if tokens < MIN_SAMPLE_TOKENS:
            return
        sample = tokens / ttft_s
        reservoir.mean.add(sample, now_s)
        scope = (request.namespace, request.model)
        usual, _ = self._usual.get(scope) or (DecayedMean(), endpoint)
        usual.add(sample, now_s)
        self._usual[scope] = (usual, endpoint)
        self._set_rate(reservoir, now_s)

    # What other gateways know.

    def routed(self, endpoint: EndpointId) -> int:
        """Return how many tokens this gateway ever routed there, less those it took back."""
        reservoir = self._reservoirs.get(endpoint)
        return reservoir.routed if reservoir is not None else 0

    def add_elsewhere(self, endpoint: EndpointId, tokens: float, now_s: float) -> None:
        """Count tokens that another gateway routed there just now, or took back."""
        reservoir = self._reservoir(endpoint)
        reservoir.tokens, reservoir.at_s = max(0.0, reservoir.drained(now_s) + tokens), now_s

    def adopt(self, endpoint: EndpointId, tokens: float, now_s: float) -> None:
        """Start with a backlog that another gateway knows of, where a smaller one is known here."""
        reservoir = self._reservoir(endpoint)
        reservoir.tokens, reservoir.at_s = max(reservoir.drained(now_s), tokens), now_s

    def own_rate(self, endpoint: EndpointId, now_s: float) -> Sums:
        """Return the sums behind the rate that are this gateway's own; see `DecayedMean`."""
        reservoir = self._reservoirs.get(endpoint)
        return reservoir.mean.own(now_s) if reservoir is not None else _NO_SUMS

    def set_rate_elsewhere(self, endpoint: EndpointId, sums: Sums, now_s: float) -> None:
        """Take in the sums of others, in place of those they had before."""
        reservoir = self._reservoir(endpoint)
        reservoir.mean.set_elsewhere(sums, now_s)
        self._set_rate(reservoir, now_s)

    def restore_rate(self, endpoint: EndpointId, sums: Sums, now_s: float) -> None:
        """Add sums of this gateway's own past."""
        reservoir = self._reservoir(endpoint)
        reservoir.mean.restore(sums, now_s)
        self._set_rate(reservoir, now_s)

    def _reservoir(self, endpoint: EndpointId) -> _Reservoir:
        reservoir = self._reservoirs.get(endpoint)
        if reservoir is None:
            # Which model's it is, others do not say: as fast as any that is known, until its own rate is.
            usual = next(iter(self._usual.values()), None)
            rate = usual[0].value if usual is not None else None
            reservoir = self._reservoirs[endpoint] = _Reservoir(rate or FIRST_RATE)
        return reservoir

    def _set_rate(self, reservoir: _Reservoir, now_s: float) -> None:
        left = reservoir.drained(now_s)
        reservoir.rate = reservoir.mean.value or reservoir.rate
        reservoir.tokens, reservoir.at_s = left, now_s

    def retain(self, live: set[EndpointId]) -> None:
        """Forget every endpoint that is not live."""
        for endpoint in [known for known in self._reservoirs if known not in live]:
            del self._reservoirs[endpoint]
        for scope in [scope for scope, (_, teacher) in self._usual.items() if teacher not in live]:
            del self._usual[scope]

    def collect(self) -> bool:
        """Nothing is left over for later."""
        return False

    def __contains__(self, endpoint: EndpointId) -> bool:
        return endpoint in self._reservoirs

    def __len__(self) -> int:
        return len(self._reservoirs)

    def __iter__(self) -> Iterator[EndpointId]:
        return iter(list(self._reservoirs))

    def _usual_rate(self, request: InferenceRequest) -> float:
        found = self._usual.get((request.namespace, request.model))
        return (found[0].value if found is not None else None) or FIRST_RATE
