"""How requests ended, by model and strategy, in distributions; and times to first token of the last minute. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.histogram import Histogram, RecentTimes

# AIBrix's dashboards count in classes: their bounds are among these.
TTFT_BOUNDS_S = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
TPOT_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
DURATION_BOUNDS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0),
)
TOKEN_BOUNDS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)
DECISION_BOUNDS_S = (
    *(0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005),
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
)


TrafficKey = tuple[str, str, str]
"""Namespace, model and strategy, by which series are told apart: all three come from bounded sets."""


class Traffic:
    """Requests of one model that one strategy placed and that ended."""

    __slots__ = ("completion_tokens", "duration_s", "prompt_tokens", "statuses", "tpot_s", "ttft_s", "with_usage")

    def __init__(self) -> None:
        self.ttft_s = Histogram(TTFT_BOUNDS_S)
        self.tpot_s = Histogram(TPOT_BOUNDS_S)
        self.duration_s = Histogram(DURATION_BOUNDS_S)
        self.prompt_tokens = Histogram(TOKEN_BOUNDS)
        self.completion_tokens = Histogram(TOKEN_BOUNDS)
        self.statuses: dict[int, int] = {}
        """By HTTP status; 0 is no answer."""
        self.with_usage = 0

    def add(self, record: AccessRecord, ttft_ms: float | None) -> None:
        """Count one request that ended. Times and tokens are of those that succeeded.

        Args:
            ttft_ms: time to first token, where the record tells one.
        """
        status = record.status
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if not 200 <= status < 300:
            return
        duration_ms, completion = record.duration_ms, record.completion_tokens
        self.duration_s.add(duration_ms / 1000.0)
        if ttft_ms is not None:
            self.ttft_s.add(ttft_ms / 1000.0)
            if completion > 1 and duration_ms > ttft_ms:
                self.tpot_s.add((duration_ms - ttft_ms) / 1000.0 / (completion - 1))
        if record.prompt_tokens or completion:
            self.with_usage += 1
            self.prompt_tokens.add(record.prompt_tokens)
            self.completion_tokens.add(completion)


class TrafficTable:
    """Every model's traffic. What a model or an endpoint had is dropped when it goes."""

    def __init__(self) -> None:
        self._totals: dict[TrafficKey, Traffic] = {}
        self._models: dict[tuple[str, str], RecentTimes] = {}
        self._endpoints: dict[EndpointId, RecentTimes] = {}
        self.decision_s: dict[str, Histogram] = {}
        """By strategy."""

    def add(
        self, key: TrafficKey, endpoint: EndpointId | None, record: AccessRecord, is_stream: bool | None, now_s: float
    ) -> None:
        """Count one request that ended.

        Args:
            endpoint: what answered; None when nothing did.
            is_stream: whether the answer was asked for as a stream; None when that is not known.
        """
        ttft_ms = record.ttft_ms
        if is_stream is None:
            # A response that comes whole: its first byte is about its last.
            is_stream = ttft_ms is not None and record.duration_ms > ttft_ms * 1.01 + 1.0
        if not is_stream or not 200 <= record.status < 300:
            ttft_ms = None
        totals = self._totals.get(key)
        if totals is None:
            totals = self._totals[key] = Traffic()
        totals.add(record, ttft_ms)
        if ttft_ms is None:
            return
        seconds, model = ttft_ms / 1000.0, key[:2]
        recent = self._models.get(model)
        if recent is None:
            recent = self._models[model] = RecentTimes()
        recent.add(seconds, now_s)
        if endpoint is None:
            return
        recent = self._endpoints.get(endpoint)
        if recent is None:
            recent = self._endpoints[endpoint] = RecentTimes()
        recent.add(seconds, now_s)

    def add_decision(self, strategy: str, seconds: float) -> None:
        """Count how long one decision took."""
        found = self.decision_s.get(strategy)
        if found is None:
            found = self.decision_s[strategy] = Histogram(DECISION_BOUNDS_S)
        found.add(seconds)

    def ttft_s(self, model: tuple[str, str], share: float, now_s: float) -> float | None:
        """Return a quantile of a model's times to first token of the last minute; None when there were none."""
        recent = self._models.get(model)
        return None if recent is None else recent.quantile(share, now_s)

    def statuses(self, model: tuple[str, str]) -> dict[int, int]:
        """Return how a model's requests ended: counts by HTTP status, 0 for no answer."""
        found: dict[int, int] = {}
        for key, totals in self._totals.items():
            if key[:2] == model:
                for status, count in totals.statuses.items():
                    found[status] = found.get(status, 0) + count
        return found

    def endpoint_ttft_s(self, endpoint: EndpointId, share: float, now_s: float) -> float | None:
        """Return the same of an engine."""
        recent = self._endpoints.get(endpoint)
        return None if recent is None else recent.quantile(share, now_s)

    def retain(self, models: Iterable[tuple[str, str]], endpoints: Iterable[EndpointId]) -> None:
        """Drop what is of no live model or endpoint."""
        live_models, live_endpoints = set(models), set(endpoints)
        self._totals = {key: each for key, each in self._totals.items() if key[:2] in live_models}
        self._models = {key: each for key, each in self._models.items() if key in live_models}
        self._endpoints = {key: each for key, each in self._endpoints.items() if key in live_endpoints}

    def __iter__(self) -> Iterator[tuple[TrafficKey, Traffic]]:
        return iter(list(self._totals.items()))
