"""Live numbers of endpoints, as strategies see them: what is in flight, what was learnt, what engines say.

All are keyed by `EndpointId`, so a base model and its adapters on one engine share them. Reading one is a dictionary
lookup; an endpoint that nothing is known of reads as idle, unlearnt, and without metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import msgspec

from pybrix.gateway.framework.types import Endpoint, EndpointId

WARM_UP_S = 30.0
"""How long a pod counts as new after it became ready."""
COLDEST = 0.1
"""Share of its capacity that a pod is trusted with at the moment it becomes ready."""
STALE_AFTER_S = 30.0
"""Engine metrics older than this are not shown to strategies."""


class EngineMetrics(msgspec.Struct, frozen=True, gc=False):
    """What an engine's `/metrics` said, at `observed_at_s` of the monotonic clock. None: it does not say.

    Rates and averages are of the last 15 to 30 s, from differences of counters; None at the first scrape and at the
    first after a restart of the engine, and averages while nothing ended.
    """

    observed_at_s: float
    running: float | None = None
    """Requests in a batch now."""
    waiting: float | None = None
    """Requests that wait for a place in a batch."""
    kv_cache_ratio: float | None = None
    """Share of the KV cache in use, from 0 to 1."""
    cpu_cache_ratio: float | None = None
    """Share of the cache that was moved to the host's memory, from 0 to 1; only old engines have it."""
    utilization_ratio: float | None = None
    """How busy the engine calls itself, from 0 to 1."""
    kv_capacity_tokens: int | None = None
    """Tokens that the whole KV cache holds."""
    prompt_tokens_per_s: float | None = None
    generation_tokens_per_s: float | None = None
    prefix_hit_ratio: float | None = None
    """Share of prompt tokens found in the prefix cache."""
    queue_s: float | None = None
    """Average time from arrival to the first batch."""
    prefill_s: float | None = None
    decode_s: float | None = None
    ttft_s: float | None = None
    """Average time to first token."""
    tpot_s: float | None = None
    """Average time per output token after the first."""
    e2e_s: float | None = None
    """Average time of a whole request."""
    busy_ratio: float | None = None
    """Share of scrapes that found a request in a batch, over the last half minute or so."""
    max_loras: int | None = None
    """Adapters in one batch."""
    running_loras: frozenset[str] = frozenset()
    waiting_loras: frozenset[str] = frozenset()


class Learnt(Protocol):
    """What the requests that ended taught, recent ones counting more. None: nothing was learnt yet."""

    @property
    def ttft_ms(self) -> float | None: ...

    @property
    def tpot_ms(self) -> float | None:
        """Time per output token after the first."""
        ...

    @property
    def latency_ms(self) -> float | None:
        """Time of a whole request."""
        ...

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """Uncached prompt tokens over time to first token, of requests with enough of them to tell."""
        ...

    @property
    def failure_ratio(self) -> float:
        """Share of attempts that got no answer or a 5xx, from 0 to 1."""
        ...

    def prompt_tokens_per_s(self, now_s: float, /) -> float:
        """Return prompt tokens of requests that ended, a second, over the last minute or so."""
        ...

    def completion_tokens_per_s(self, now_s: float, /) -> float: ...


class EndpointLoad(Protocol):
    """What is in flight on an endpoint: counted when it is routed there, until it ends."""

    @property
    def requests(self) -> int: ...

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of those requests, as estimated when they were routed."""
        ...

    @property
    def uncached_tokens(self) -> int:
        """The part of them that the strategy did not expect to be in the endpoint's prefix cache."""
        ...

    @property
    def decode_tokens(self) -> int:
        """Tokens that those requests are expected to generate."""
        ...

    @property
    def common_tokens(self) -> int:
        """The part of the prompt tokens that is counted for more than one request, while an engine keeps it once.

        Of this gateway's requests that were placed by their prompts; estimated by a sample of the blocks.
        """
        ...

    @property
    def learnt(self) -> Learnt: ...


class Signals(msgspec.Struct, frozen=True, gc=False):
    """All live numbers at the moment of one decision."""

    now_s: float
    """Monotonic clock; ages of metrics are against it."""
    unix_s: float
    """The same moment as Unix time; ages of endpoints are against it."""
    load: Callable[[EndpointId], EndpointLoad]
    """Returns what is in flight on an endpoint; zeros for one that was never used."""
    metrics: Callable[[EndpointId], EngineMetrics | None]
    """Returns the last scrape; None when there is none, or it is older than `STALE_AFTER_S`."""
    has_new: bool = False
    """Whether one of the model's endpoints is in its first `WARM_UP_S`; if not, `warmth` is 1 for all of them."""

    def age_s(self, endpoint: Endpoint) -> float:
        """Return for how long the endpoint has been ready; infinity when nobody says."""
        return max(0.0, self.unix_s - endpoint.ready_since_s) if endpoint.ready_since_s else math.inf

    def warmth(self, endpoint: Endpoint) -> float:
        """Return the share of its capacity that the endpoint is to be trusted with: from `COLDEST` up to 1.

        warmth = min(1, COLDEST + (1 - COLDEST) * age / WARM_UP_S)
        """
        if endpoint.ready_since_s <= self.unix_s - WARM_UP_S:
            return 1.0
        return COLDEST + (1.0 - COLDEST) * max(0.0, self.unix_s - endpoint.ready_since_s) / WARM_UP_S

    def is_new(self, endpoint: Endpoint) -> bool:
        """Say whether the endpoint became ready less than `WARM_UP_S` ago."""
        return self.has_new and endpoint.ready_since_s > self.unix_s - WARM_UP_S

    def metrics_age_s(self, endpoint: EndpointId) -> float | None:
        """Return the age of what `metrics` returns."""
        found = self.metrics(endpoint)
        return None if found is None else self.now_s - found.observed_at_s
