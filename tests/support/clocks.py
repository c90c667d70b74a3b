"""Clocks for tests: one that is set, and one that follows the event loop's (virtual) time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Stand still until `advance`."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._now = start
        self._monotonic_s = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds


class LoopClock:
    """Tell a loop's time, by default the running one's: with looptime, hours pass in no time."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        return (self._loop or asyncio.get_running_loop()).time()
