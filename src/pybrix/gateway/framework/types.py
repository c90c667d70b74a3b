"""The words of one routing decision: endpoint, request, ranking, and what a plugin of the scheduler is.

Strategies, filters and pickers import this module and nothing else of the gateway but indexes. Everything here is
immutable; live numbers come in as an argument (`Loads`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from pybrix.api.identity import Uid


class EndpointId(NamedTuple):
    """Identity of an endpoint: the pod's UID and the port. A recreated pod has another one."""

    pod_uid: Uid
    port: int


class Endpoint(msgspec.Struct, frozen=True):
    """A ready address of a model. `host` is `ip:port` as Envoy prints it; `pod_name` is only shown to people."""

    id: EndpointId
    namespace: str
    model: str
    pod_name: str
    host: str
    labels: Mapping[str, str] = {}
    created_at: str = ""


class Question(msgspec.Struct, gc=False):
    """What Envoy asks: path and headers as the client sent them, the whole body. Absent headers are ""."""

    path: str
    body: bytes
    namespace: str = ""
    strategy: str = ""


class InferenceRequest(msgspec.Struct, frozen=True, gc=False):
    """What is known of a request when it is routed. `prompt_tokens` is an estimate: body bytes / 4."""

    namespace: str
    model: str
    path: str
    strategy: str
    body_bytes: int
    prompt_tokens: int


class Decision(msgspec.Struct, frozen=True):
    """Where a request may go, best first. `reservation` is the id under which it is counted on the first one."""

    request: InferenceRequest
    endpoints: Sequence[Endpoint]
    reservation: str


class Ranked(msgspec.Struct, frozen=True):
    """An endpoint in its place, for people. `score` is in [0, 1], 1 best."""

    endpoint: Endpoint
    score: float
    why: str


class Excluded(msgspec.Struct, frozen=True):
    """An endpoint that a filter took out, and why."""

    endpoint: Endpoint
    why: str


class Explanation(msgspec.Struct, frozen=True):
    """What a decision would be and why: all endpoints, best first, and those that filters took out."""

    request: InferenceRequest
    ranking: Sequence[Ranked]
    excluded: Sequence[Excluded] = ()


class EndpointLoad(Protocol):
    """What is in flight on an endpoint, as this brain counts it."""

    @property
    def requests(self) -> int: ...

    @property
    def prompt_tokens(self) -> int: ...


class Loads(Protocol):
    """Live load by endpoint; an endpoint that was never used has zero load."""

    def of(self, endpoint: EndpointId, /) -> EndpointLoad: ...


class Chance(Protocol):
    """A source of randomness, seeded by whoever composes the gateway. `random.Random` is one."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class Filter(Protocol):
    """Take endpoints out of the choice."""

    @property
    def name(self) -> str: ...

    def why_excluded(self, request: InferenceRequest, endpoint: Endpoint, loads: Loads) -> str:
        """Return why the endpoint is out, or "" when it stays in."""
        ...


class Strategy(Protocol):
    """Score endpoints for a request: what the header `routing-strategy` names."""

    @property
    def name(self) -> str: ...

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads) -> Sequence[float]:
        """Return a score for each endpoint, in their order, in [0, 1]; 1 is best."""
        ...

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads) -> Sequence[str]:
        """Return for each endpoint, in their order, what its score was made of. Only `explain` asks."""
        ...


class Picker(Protocol):
    """Turn scores into an order."""

    def order(self, scores: Sequence[float], chance: Chance) -> Sequence[int]:
        """Return the positions of all scores, best first."""
        ...
