"""What is sent: kinds of requests, how often each comes, and the text of every request. Pure.

Request number n of a mix is always the same, so that two runs send the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pybrix.base.errors import UsageError

_MAX_WEIGHT = 1000
# Every so many requests begin with the same sentence: what prefix caches and prefix-aware strategies live on.
_TOPICS = 16


class Kind(StrEnum):
    """How a request is asked and read."""

    SHORT = "short"
    """A short answer in one piece."""
    LONG = "long"
    """A long answer in one piece."""
    STREAM = "stream"
    """A short answer as a stream."""
    LONG_STREAM = "long-stream"
    """A long answer as a stream."""
    CANCELLED = "cancelled"
    """A long stream whose client goes away in the middle."""
    ABANDONED = "abandoned"
    """A long stream whose client goes away after a moment, whether or not anything has come."""


DEFAULT_WEIGHTS: Mapping[Kind, int] = {
    Kind.SHORT: 8,
    Kind.LONG: 2,
    Kind.STREAM: 6,
    Kind.LONG_STREAM: 2,
    Kind.CANCELLED: 1,
    Kind.ABANDONED: 1,
}
_STREAMED = frozenset({Kind.STREAM, Kind.LONG_STREAM, Kind.CANCELLED, Kind.ABANDONED})
_SHORT = frozenset({Kind.SHORT, Kind.STREAM})


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `cancel_after_events` and `cancel_after_s` say when its client goes away; None: it does not."""

    number: int
    kind: Kind
    body: dict[str, Any]
    cancel_after_events: int | None = None
    cancel_after_s: float | None = None

    @property
    def is_streamed(self) -> bool:
        return self.kind in _STREAMED


@dataclass(frozen=True)
class Mix:
    """How much of each kind there is, and how long answers are."""

    model: str
    weights: Mapping[Kind, int] = field(default_factory=lambda: DEFAULT_WEIGHTS)
    """Requests of each kind in a round; those of `DEFAULT_WEIGHTS`."""
    short_tokens: int = 16
    """Longest short answer; 16."""
    long_tokens: int = 160
    """Length of a long answer; 160."""
    is_length_forced: bool = True
    """Whether long answers are made so long by vLLM's `ignore_eos`; else they end when the engine ends them. True."""
    cancel_after_s: float = 0.05
    """After how long the client of an abandoned request goes away; 0.05."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_round", interleave(self.weights))

    def request(self, number: int) -> Request:
        """Return request number `number`, counted from 0."""
        order: tuple[Kind, ...] = self._round  # type: ignore[attr-defined]
        kind = order[number % len(order)]
        is_short = kind in _SHORT
        content = f"Tell me about topic {number % _TOPICS} of {_TOPICS}, in your own words. This is question {number}."
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.short_tokens if is_short else self.long_tokens,
            "temperature": 0,
        }
        if not is_short and self.is_length_forced:
            body["ignore_eos"] = True
        if kind in _STREAMED:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return Request(
            number,
            kind,
            body,
            cancel_after_events=self.long_tokens // 4 if kind is Kind.CANCELLED else None,
            cancel_after_s=self.cancel_after_s if kind is Kind.ABANDONED else None,
        )


def interleave(weights: Mapping[Kind, int]) -> tuple[Kind, ...]:
    """Return one round in which every kind comes as often as its weight says, spread evenly.

    Smooth weighted round robin, as nginx balances by weight.
    """
    total = sum(weights.values())
    credit = dict.fromkeys(weights, 0)
    order = []
    for _ in range(total):
        for kind, weight in weights.items():
            credit[kind] += weight
        chosen = max(credit, key=lambda kind: credit[kind])
        credit[chosen] -= total
        order.append(chosen)
    return tuple(order)


def parse_weights(text: str) -> dict[Kind, int]:
    """Return the weights of `short=8,stream=4`; kinds that are not named do not come.

    Raises:
        UsageError: a kind is unknown or a weight is no number, or nothing is left.
    """
    known = ", ".join(Kind)
    weights: dict[Kind, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition("=")
        if name not in list(Kind):
            raise UsageError(f"--mix: there is no kind of request {name!r}", f"kinds are {known}")
        if not number.isdecimal() or int(number) > _MAX_WEIGHT:
            raise UsageError(
                f"--mix: {part!r} is no KIND=NUMBER up to {_MAX_WEIGHT}", "example: --mix short=8,stream=4"
            )
        weights[Kind(name)] = int(number)
    weights = {kind: weight for kind, weight in weights.items() if weight}
    if not weights:
        raise UsageError("--mix: nothing is to be sent", f"example: --mix short=8,stream=4; kinds are {known}")
    return weights
