"""What was decided lately, and what came of it: bounded, by request id or reservation. Pure; time is an argument.

Keeping a decision costs a few references: the request, the endpoints of the view it was made by, their scores. Reasons
cost as much again as the scores, so they are kept where someone asked for them and for so many decisions a second: of a
gateway that has little to do, for all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, Excluded, InferenceRequest

MAX_DECISIONS = 4096
MAX_REFUSALS = 512
"""Refusals are kept apart, so that a flood of them drives no decision out."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """Why an endpoint had its score, and its live numbers at that moment. None: nobody says."""

    why: str
    requests: int
    prompt_tokens: int
    uncached_tokens: int
    decode_tokens: int
    running: float | None = None
    waiting: float | None = None
    kv_cache_ratio: float | None = None
    metrics_age_s: float | None = None


def read_signals(endpoints: Sequence[Endpoint], reasons: Sequence[str], signals: Signals) -> list[Reading]:
    """Return what the endpoints were like, in their order, to go with the strategy's reasons."""
    found = []
    for endpoint, why in zip(endpoints, reasons, strict=True):
        load, metrics = signals.load(endpoint.id), signals.metrics(endpoint.id)
        numbers = (load.requests, load.prompt_tokens, load.uncached_tokens, load.decode_tokens)
        said = (None, None, None) if metrics is None else (metrics.running, metrics.waiting, metrics.kv_cache_ratio)
        found.append(Reading(why, *numbers, *said, signals.metrics_age_s(endpoint.id)))
    return found


class Trace(msgspec.Struct, gc=False):
    """One request: how it was decided and what happened after."""

    request_id: str
    """What the client sees as `request-id`; "" when Envoy sent none."""
    unix_s: float
    request: InferenceRequest | None = None
    """None for one that was refused before it was understood, or that Envoy routed by itself."""
    candidates: Sequence[Endpoint] = ()
    scores: Sequence[float] = ()
    """Of the candidates, in their order."""
    ranking: Sequence[Endpoint] = ()
    """Where Envoy was told to send it, best first."""
    excluded: Sequence[Excluded] = ()
    reservation: str = ""
    readings: Sequence[Reading] | None = None
    """Of the candidates, in their order; None where reasons were not kept."""
    refusal: Refusal | None = None
    record: AccessRecord | None = None
    """The last one of the access log; None before the first."""
    is_lost: bool = False
    """Whether the request was given up since nothing more was heard of it."""


class History:
    """The last decisions and refusals of a brain.

    Args:
        max_decisions: how many are kept; 0 keeps none.
        max_refusals: the same of refusals.
        reasons_per_s: for how many decisions a second reasons are kept; 0 for none but those that are asked for.
    """

    def __init__(
        self, max_decisions: int = MAX_DECISIONS, max_refusals: int = MAX_REFUSALS, reasons_per_s: int = 0
    ) -> None:
        self._decisions: deque[Trace] = deque(maxlen=max_decisions)
        self._refusals: deque[Trace] = deque(maxlen=max_refusals)
        self._reasons_per_s = reasons_per_s
        self._second_s = -1.0
        self._reasons_left = 0
        self.keep = self._decisions.append
        """Takes the trace of a decision."""

    def keep_refused(self, trace: Trace) -> None:
        """Take the trace of a refusal."""
        _let_go(trace)
        self._refusals.append(trace)

    def is_sampled(self, now_s: float) -> bool:
        """Say whether a decision at this moment is one whose reasons are kept; each question counts as one."""
        if now_s - self._second_s >= 1.0:
            self._second_s, self._reasons_left = now_s, self._reasons_per_s
        elif not self._reasons_left:
            return False
        self._reasons_left -= 1
        return self._reasons_per_s > 0

    def note(self, trace: Trace | None, record: AccessRecord) -> None:
        """Note what the access log says of a request, whether it goes on or has ended."""
        if trace is None:
            return
        trace.record = record
        if not record.is_renewal:
            _let_go(trace)

    def note_lost(self, trace: Trace | None) -> None:
        """Note that a request was given up."""
        if trace is not None:
            trace.is_lost = True
            _let_go(trace)

    def find(self, key: str) -> Trace | None:
        """Return the newest trace of a request id, or of a reservation; None when it is not (or no longer) there."""
        if not key:
            return None
        for kept in (self._decisions, self._refusals):
            for trace in reversed(kept):
                if key in (trace.request_id, trace.reservation):
                    return trace
        return None

    def newest(self, count: int) -> list[Trace]:
        """Return the newest of all, newest first."""
        both = sorted((*self._decisions, *self._refusals), key=lambda trace: trace.unix_s, reverse=True)
        return both[:count]

    def __len__(self) -> int:
        return len(self._decisions) + len(self._refusals)

    def __iter__(self) -> Iterator[Trace]:
        return iter([*self._decisions, *self._refusals])


def _let_go(trace: Trace) -> None:
    # A body may be large, and a long prompt has thousands of blocks: nobody needs them any more.
    if trace.request is not None:
        trace.request.known_chain = None
        trace.request.drop_body()
