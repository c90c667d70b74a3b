"""Failures that a simulated engine is told to have, so that tests can see what a gateway makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pybrix.base.errors import UsageError


class FailureKind(StrEnum):
    DIE_BEFORE_HEADERS = "die-before-headers"
    """The process ends when a request arrives."""
    RESET_BEFORE_HEADERS = "reset-before-headers"
    """The connection is closed without an answer."""
    CUT_STREAM = "cut-stream"
    """The connection is closed in the middle of the answer's tokens."""
    ERROR_500 = "error-500"
    """The answer is an internal error."""
    ERROR_503 = "error-503"
    """The answer is that the engine is overloaded."""
    HANG = "hang"
    """No answer ever comes."""


class Chance(Protocol):
    """The part of `random.Random` that is needed; seeded by whoever makes it."""

    def random(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Failures:
    """Probability of each failure, per request."""

    probability: Mapping[FailureKind, float] = field(default_factory=dict)

    def pick(self, chance: Chance) -> FailureKind | None:
        """Draw what happens to one request; None when it is served."""
        if not self.probability:
            return None
        drawn = chance.random()
        for kind, probability in self.probability.items():
            if drawn < probability:
                return kind
            drawn -= probability
        return None


def parse_failures(specs: Iterable[str]) -> Failures:
    """Parse `KIND` or `KIND=PROBABILITY` texts; the probability defaults to 1.

    Raises:
        UsageError: an unknown kind, or probabilities that are no probabilities.
    """
    probability: dict[FailureKind, float] = {}
    for spec in specs:
        name, _, text = spec.partition("=")
        try:
            kind = FailureKind(name)
        except ValueError:
            raise UsageError(f"unknown failure {name!r}", "known: " + ", ".join(FailureKind)) from None
        try:
            probability[kind] = float(text or 1)
        except ValueError:
            raise UsageError(f"{text!r} is no probability", "example: --failure cut-stream=0.05") from None
    if any(not 0 <= p <= 1 for p in probability.values()) or sum(probability.values()) > 1:
        raise UsageError("failure probabilities must lie between 0 and 1 and add up to at most 1")
    return Failures(probability)
