"""Strategy `vtc-basic`: users who were served much share some endpoints, those who were served little have others.

    t(u)     = prompt tokens + 2 * generated tokens of user u with this model lately (each counts exp(-age / 5 min)):
               as estimated while a request runs, as its answer says afterwards
    k        = number of endpoints;  i(e) = place of e, 0 to k - 1, by age of its pod, the oldest first
    b        = max(1000, max t / (k - 1))                                            tokens to go one place further
    pos(u)   = min(t(u) / b, k - 1)
    v(e)     = n(e) / max(8, 2 * mean n)                 n: requests in flight / warmth, as in `least-request`
    cost(e)  = |i(e) - pos(u)| / (2 * (k - 1)) + v(e)
    score(e) = 1 - (cost(e) - min cost) / (max cost - min cost)

The user is whom the gateway knows the client as: by API key, or by the header `user` where that is trusted. Without a
user, v(e) alone counts. The whole distance counts as much as requests of the mean do: one user alone, whose place is at
one end, has about half of the mean at the other end and one and a half times the mean at this one.
"""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.scoring import lowest_first, requests_in_flight
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.indexes.usertokens import Scope, UserTokens

PROMPT_WEIGHT = 1.0
GENERATED_WEIGHT = 2.0
DISTANCE_WEIGHT = 0.5
MIN_PLACE_TOKENS = 1000.0
MIN_CAPACITY = 8.0


class VtcBasic:
    """
    Args:
        users: what each user was served.
    """

    name = "vtc-basic"
    prefers_new = True

    def __init__(self, users: UserTokens) -> None:
        self._users = users

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        return lowest_first([far + busy for far, busy in self._costs(request, endpoints, signals)])

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        served = self._users.of(_scope(request, endpoints[0]), request.user, signals.now_s)
        who = f"user was served {served:.0f} weighted tokens" if request.user else "no user"
        return [
            f"{who}: distance {far:.2f}, {signals.load(endpoint.id).requests} requests in flight: load {busy:.2f}"
            for endpoint, (far, busy) in zip(endpoints, self._costs(request, endpoints, signals), strict=True)
        ]

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        if request.user:
            estimate = _weighted(request.prompt_tokens, request.decode_tokens)
            self._users.add(_scope(request, endpoint), request.user, estimate, signals.now_s)
        return 0

    def observe_outcome(self, outcome: Outcome) -> None:
        """Count what the request really used in place of the estimate."""
        request, record = outcome.request, outcome.record
        if not request.user:
            return
        used = _weighted(record.prompt_tokens, record.completion_tokens)
        if not used and 200 <= record.status < 300:
            # Nobody counts usage here: the estimate is the best there is.
            return
        estimate = _weighted(request.prompt_tokens, request.decode_tokens)
        self._users.add(_scope(request, outcome.routed_to), request.user, used - estimate, outcome.now_s)

    def _costs(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals
    ) -> list[tuple[float, float]]:
        """Return distance and load by endpoint."""
        counts = requests_in_flight(endpoints, signals)
        capacity = max(MIN_CAPACITY, 2.0 * sum(counts) / len(counts))
        last = len(endpoints) - 1
        if not request.user or not last:
            return [(0.0, count / capacity) for count in counts]
        scope = _scope(request, endpoints[0])
        place_tokens = max(MIN_PLACE_TOKENS, self._users.heaviest(scope, signals.now_s) / last)
        position = min(self._users.of(scope, request.user, signals.now_s) / place_tokens, last)
        oldest_first = sorted(range(len(endpoints)), key=lambda at: (endpoints[at].created_at, endpoints[at].id))
        places = {at: place for place, at in enumerate(oldest_first)}
        return [
            (DISTANCE_WEIGHT * abs(places[at] - position) / last, count / capacity) for at, count in enumerate(counts)
        ]


def _scope(request: InferenceRequest, endpoint: Endpoint) -> Scope:
    """Return where users compete: a base model and its adapters share engines."""
    return request.namespace, endpoint.base_model or request.model


def _weighted(prompt_tokens: int, generated_tokens: int) -> float:
    return PROMPT_WEIGHT * prompt_tokens + GENERATED_WEIGHT * generated_tokens
