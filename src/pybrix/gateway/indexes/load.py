"""What is in flight on each endpoint and how its requests ended. Keyed by `EndpointId`, outside of any view. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.learnt import LearntRates


@dataclass(slots=True)
class Outcomes:
    """Totals of requests that ended: of an endpoint, for strategies that learn from what happened, or of a model.

    `ttft_ms` is the sum over `ttft_count` answers. Statuses count by class: 2 is 2xx; 0 is no answer.
    """

    by_status_class: dict[int, int] = field(default_factory=dict)
    failed_attempts: int = 0
    ttft_ms: float = 0.0
    ttft_count: int = 0
    duration_ms: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, record: AccessRecord) -> None:
        """Count one request that ended."""
        status_class = record.status // 100
        self.by_status_class[status_class] = self.by_status_class.get(status_class, 0) + 1
        self.duration_ms += record.duration_ms
        self.prompt_tokens += record.prompt_tokens
        self.cached_tokens += record.cached_tokens
        self.completion_tokens += record.completion_tokens
        if record.ttft_ms is not None:
            self.ttft_ms += record.ttft_ms
            self.ttft_count += 1

    def by_status(self) -> dict[str, int]:
        """Return the counts by `2xx`, ..., `none`, sorted."""
        return {f"{key}xx" if key else "none": count for key, count in sorted(self.by_status_class.items())}


SAMPLED = 8
"""One of so many blocks of a prompt stands for all of them when it is counted what requests have in common."""


class Weight(NamedTuple):
    """What one request counts for on an endpoint, in tokens as estimated when it was routed."""

    prompt_tokens: int = 0
    uncached_tokens: int = 0
    decode_tokens: int = 0
    blocks: Sequence[int] = ()
    """Every `SAMPLED`-th block of the prompt. Each hash is made with those before it, so that two requests which have
    one in common have all up to it in common."""


NO_WEIGHT = Weight()


def sample(chain: Sequence[int]) -> Sequence[int]:
    """Return the blocks by which a prompt is compared with others."""
    return chain[SAMPLED - 1 :: SAMPLED]


class Share(NamedTuple):
    """A part of a load: so many requests, and their tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    uncached_tokens: int = 0
    decode_tokens: int = 0


NO_SHARE = Share()


@dataclass(slots=True)
class Load:
    """Requests in flight on one endpoint: how many, and their estimated tokens. See `framework.signals.EndpointLoad`.

    The numbers are of all gateways together, so that reading them costs nothing; `elsewhere` is the part of them that
    other gateways routed, as far as is known. Outcomes are of this gateway's requests.
    """

    requests: int = 0
    prompt_tokens: int = 0
    uncached_tokens: int = 0
    decode_tokens: int = 0
    common_tokens: int = 0
    outcomes: Outcomes = field(default_factory=Outcomes)
    learnt: LearntRates = field(default_factory=LearntRates)
    elsewhere: Share = NO_SHARE
    blocks: dict[int, list[int]] = field(default_factory=dict)
    """Sampled blocks of prompts in flight: of how many requests, and the tokens for which each of those counts."""

    def join(self, blocks: Sequence[int], tokens: int) -> None:
        """Count what a request has in common with those in flight.

        Args:
            blocks: of its prompt, sampled.
            tokens: that each of them stands for.
        """
        held = self.blocks
        for block in blocks:
            found = held.get(block)
            if found is None:
                held[block] = [1, tokens]
            else:
                found[0] += 1
                self.common_tokens += found[1]

    def leave(self, blocks: Sequence[int]) -> None:
        """Undo one `join` of the same blocks."""
        held = self.blocks
        for block in blocks:
            found = held[block]
            if found[0] == 1:
                del held[block]
            else:
                found[0] -= 1
                self.common_tokens -= found[1]

    @property
    def own(self) -> Share:
        """What this gateway routed."""
        other = self.elsewhere
        return Share(
            self.requests - other.requests,
            self.prompt_tokens - other.prompt_tokens,
            self.uncached_tokens - other.uncached_tokens,
            self.decode_tokens - other.decode_tokens,
        )


_IDLE = Load()


class _Loads(dict[EndpointId, Load]):
    def __missing__(self, _: EndpointId) -> Load:
        return _IDLE


class LoadTable:
    """Live load by endpoint. An endpoint that left is dropped once nothing is in flight on it.

    Attributes:
        of: returns an endpoint's load, only to be read; zero for one that was never used. The dict's own method, for
            strategies call it for every endpoint of every request.
    """

    def __init__(self) -> None:
        self._loads = _Loads()
        self.of: Callable[[EndpointId], Load] = self._loads.__getitem__

    def entry(self, endpoint: EndpointId) -> Load:
        """Return the live object, making it if need be."""
        found = self._loads.get(endpoint)
        if found is None:
            found = self._loads[endpoint] = Load()
        return found

    def add(self, endpoint: EndpointId, weight: Weight = NO_WEIGHT) -> None:
        """Count one request."""
        entry = self._loads.get(endpoint) or self.entry(endpoint)
        entry.requests += 1
        prompt, uncached, decode, blocks = weight
        entry.prompt_tokens += prompt
        entry.uncached_tokens += uncached
        entry.decode_tokens += decode
        if blocks:
            # What is behind the last sampled block is less than one of them stands for.
            entry.join(blocks, prompt // (len(blocks) + 1))

    def remove(self, endpoint: EndpointId, weight: Weight = NO_WEIGHT) -> None:
        """Undo one `add` of the same arguments."""
        entry = self._loads[endpoint]
        entry.requests -= 1
        prompt, uncached, decode, blocks = weight
        entry.prompt_tokens -= prompt
        entry.uncached_tokens -= uncached
        entry.decode_tokens -= decode
        if blocks:
            entry.leave(blocks)

    def set_elsewhere(self, endpoint: EndpointId, share: Share) -> None:
        """Take in what other gateways have in flight there, in place of what they had before."""
        entry = self.entry(endpoint)
        before, entry.elsewhere = entry.elsewhere, share
        entry.requests += share.requests - before.requests
        entry.prompt_tokens += share.prompt_tokens - before.prompt_tokens
        entry.uncached_tokens += share.uncached_tokens - before.uncached_tokens
        entry.decode_tokens += share.decode_tokens - before.decode_tokens

    def prune(self, live: Set[EndpointId]) -> None:
        """Drop what is neither live nor in use."""
        gone = [key for key, load in self._loads.items() if key not in live and not load.requests]
        for key in gone:
            del self._loads[key]

    def __contains__(self, endpoint: EndpointId) -> bool:
        return endpoint in self._loads

    def __len__(self) -> int:
        return len(self._loads)

    def __iter__(self) -> Iterator[tuple[EndpointId, Load]]:
        return iter(list(self._loads.items()))
