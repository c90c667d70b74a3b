"""Weighted combinations of strategies: `prefix-cache:2,least-request`. Pure.

    list      = member ("," member)*
    member    = name [":" weight], spaces allowed; a weight is a whole number from 0 to 1000000, 1 where it is absent
    norm_s(e) = (s(e) - min s) / (max s - min s);  1 for all when max s = min s;  0 for a score that is no number
    score(e)  = sum over members of weight * norm_s(e), over the sum of the weights

A member of weight 0 takes no part. An exclusive strategy decides alone: the first one in the list does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence

from pybrix.envoy.replies import listed_names
from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.plugins import Binding, Learner, Strategy
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest

MAX_WEIGHT = 1_000_000
MAX_TEXT_CHARS = 1024
EXCLUSIVE = frozenset({"pd", "slo", "slo-pack-load", "slo-least-load", "slo-least-load-pulling"})
"""What cannot be mixed: it decides by more than a score."""
UNSUPPORTED = {"pd": "prefill and decode on separate pods is not supported by this gateway"}
"""Names that AIBrix has and this gateway does not."""
_WEIGHT = re.compile(r"[0-9]{1,7}")


def parse_members(text: str, known: Collection[str]) -> tuple[tuple[str, int], ...]:
    """Return names and weights, without those of weight 0; an exclusive strategy alone.

    Raises:
        ValueError: what is wrong, for the client that sent the text.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise ValueError(f"it is longer than {MAX_TEXT_CHARS} characters")
    members: dict[str, int] = {}
    for term in text.split(","):
        name, colon, written = (part.strip() for part in term.partition(":"))
        if name in UNSUPPORTED:
            raise ValueError(f"{UNSUPPORTED[name]}; valid strategies: {listed_names(known)}")
        if name not in known:
            valid = f"valid strategies: {listed_names(known)}"
            if name == text:
                raise ValueError(valid)
            raise ValueError(f"{_shown(name)!r} is no strategy; {valid}" if name else f"a name is missing; {valid}")
        if name in members:
            raise ValueError(f"{name} is there twice")
        if colon and (not _WEIGHT.fullmatch(written) or int(written) > MAX_WEIGHT):
            raise ValueError(f"the weight of {name} is {_shown(written)!r}, not a number from 0 to {MAX_WEIGHT}")
        members[name] = int(written) if colon else 1
    weighted = tuple((name, weight) for name, weight in members.items() if weight)
    if not weighted:
        raise ValueError("every weight is 0")
    return next((((name, 1),) for name, _ in weighted if name in EXCLUSIVE), weighted)


def canonical_name(members: Sequence[tuple[str, int]]) -> str:
    """Return the text by which equal combinations are equal; a single strategy's own name."""
    if len(members) == 1:
        return members[0][0]
    return ",".join(name if weight == 1 else f"{name}:{weight}" for name, weight in members)


def normalised(scores: Sequence[float]) -> list[float]:
    """Return the scores spread over [0, 1]."""
    finite = [score for score in scores if math.isfinite(score)]
    least, most = min(finite, default=0.0), max(finite, default=0.0)
    if most == least:
        return [1.0 if math.isfinite(score) else 0.0 for score in scores]
    spread = most - least
    return [(score - least) / spread if math.isfinite(score) else 0.0 for score in scores]


class Combination:
    """Several strategies as one. Each member learns as if it had been asked for by itself.

    Args:
        members: with positive weights; more than one.
    """

    def __init__(self, members: Sequence[tuple[Strategy, int]]) -> None:
        self.name = canonical_name([(strategy.name, weight) for strategy, weight in members])
        self.prefers_new = any(strategy.prefers_new for strategy, _ in members)
        total = sum(weight for _, weight in members)
        self._members = [(strategy, weight / total) for strategy, weight in members]
        self._binding = next((strategy for strategy, _ in members if isinstance(strategy, Binding)), None)
        self._learners = [strategy for strategy, _ in members if isinstance(strategy, Learner)]

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        totals = [0.0] * len(endpoints)
        for strategy, share in self._members:
            for at, score in enumerate(normalised(strategy.score(request, endpoints, signals))):
                totals[at] += share * score
        # Shares may add up to a little more than 1.
        return [min(1.0, total) for total in totals]

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        whys: list[list[str]] = [[] for _ in endpoints]
        for strategy, share in self._members:
            scores = normalised(strategy.score(request, endpoints, signals))
            reasons = strategy.reasons(request, endpoints, signals)
            for found, score, why in zip(whys, scores, reasons, strict=True):
                found.append(f"{strategy.name} {share:.0%} x {score:.2f} ({why})")
        return ["; ".join(found) for found in whys]

    def session_id(self, request: InferenceRequest, endpoint: Endpoint) -> str:
        return self._binding.session_id(request, endpoint) if self._binding is not None else ""

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        # A member that knows nothing of caches says 0.
        return max((each.observe_routed(request, endpoint, signals) for each in self._learners), default=0)

    def observe_outcome(self, outcome: Outcome) -> None:
        for each in self._learners:
            each.observe_outcome(outcome)


def _shown(text: str) -> str:
    return text if len(text) <= 64 else text[:64] + "..."
