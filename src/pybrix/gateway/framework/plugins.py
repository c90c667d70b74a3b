"""What a plugin of the scheduler is: filter, strategy, picker. A plugin imports this package and indexes, nothing else.

All are called within one synchronous step: they never wait, and what they read does not change under them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, EndpointId, InferenceRequest


class Chance(Protocol):
    """A source of randomness, seeded by whoever composes the gateway. `random.Random` is one."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class Filter(Protocol):
    """Take endpoints out of the choice."""

    @property
    def name(self) -> str: ...

    def why_excluded(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> str:
        """Return why the endpoint is out, or "" when it stays in."""
        ...


class Strategy(Protocol):
    """Score endpoints for a request: what the header `routing-strategy` names."""

    @property
    def name(self) -> str: ...

    @property
    def prefers_new(self) -> bool:
        """Whether equal scores put endpoints first that became ready less than `signals.WARM_UP_S` ago."""
        ...

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        """Return a score for each endpoint, in their order, in [0, 1]; 1 is best. Equal scores tie: the picker decides.

        There is at least one endpoint, all are of the request's model, and none is there twice.
        """
        ...

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        """Return for each endpoint, in their order, what its score was made of. Only `explain` asks."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A strategy that keeps something of its own. Both are called for the requests that it ranked, and no others."""

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        """Note that the request goes to the endpoint, before it is counted there.

        Returns:
            The prompt tokens that the endpoint is expected to have cached already; `uncached_tokens` counts the rest.
        """
        ...

    def observe_outcome(self, outcome: Outcome) -> None:
        """Note how the request ended. Not called for one whose end was never heard of."""
        ...


@runtime_checkable
class Binding(Protocol):
    """A strategy by which a client may come back to the endpoint that answered it."""

    def session_id(self, request: InferenceRequest, endpoint: Endpoint) -> str:
        """Return what the answer's `x-session-id` is to say; "" for no such header."""
        ...


@runtime_checkable
class Limiting(Protocol):
    """A strategy that refuses a request rather than to overload an endpoint with it."""

    def why_full(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        """Return for each endpoint, in their order, why it has no room for the request; "" where it has."""
        ...

    def retry_after_s(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> float:
        """Return in how many seconds the first of the endpoints, all of them full, may have room."""
        ...


class EndpointIndex(Protocol):
    """A structure with entries by endpoint that strategies share; the brain keeps it in step with the view."""

    def retain(self, live: set[EndpointId]) -> None:
        """Forget every endpoint that is not live, at once for readers."""
        ...

    def collect(self) -> bool:
        """Free a bounded slice of what was forgotten; called every second. Returns whether some is left."""
        ...


class Picker(Protocol):
    """Turn scores into an order."""

    def order(self, scores: Sequence[float], chance: Chance, favoured: Sequence[bool] | None = None) -> Sequence[int]:
        """Return the positions of all scores, best first.

        Args:
            favoured: which come first among equal scores; None for none.
        """
        ...
