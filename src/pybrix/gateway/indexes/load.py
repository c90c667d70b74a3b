"""What is in flight on each endpoint and how its requests ended. Keyed by `EndpointId`, outside of any view. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.types import EndpointId


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


@dataclass(slots=True)
class Load:
    """Reservations on one endpoint: how many, and their estimated prompt tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    outcomes: Outcomes = field(default_factory=Outcomes)


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

    def add(self, endpoint: EndpointId, prompt_tokens: int) -> None:
        entry = self._loads.get(endpoint) or self.entry(endpoint)
        entry.requests += 1
        entry.prompt_tokens += prompt_tokens

    def remove(self, endpoint: EndpointId, prompt_tokens: int) -> None:
        """Undo one `add` of the same arguments."""
        entry = self._loads[endpoint]
        entry.requests -= 1
        entry.prompt_tokens -= prompt_tokens

    def prune(self, live: Set[EndpointId]) -> None:
        """Drop what is neither live nor in use."""
        gone = [key for key, load in self._loads.items() if key not in live and not load.requests]
        for key in gone:
            del self._loads[key]

    def __len__(self) -> int:
        return len(self._loads)

    def __iter__(self) -> Iterator[tuple[EndpointId, Load]]:
        return iter(list(self._loads.items()))
