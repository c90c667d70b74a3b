"""Distributions in buckets: totals for dashboards, and quantiles of the last minute. Pure; time is an argument."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

RECENT_S = 60.0
"""What is older than this, or than half of it, is out of a recent distribution."""
_FINEST = 1.15
"""Ratio of one bucket's bound to the one before it, where quantiles are wanted: they are right to about 7 %."""
RECENT_BOUNDS = tuple(round(0.001 * _FINEST**step, 6) for step in range(100))
"""Of times in seconds: 1 ms up to about a quarter of an hour."""


class Histogram:
    """Counts of values by bucket, since the beginning.

    Args:
        bounds: upper bounds of the buckets, ascending, each belonging to its bucket; one more takes what is above.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """Sum of the values."""

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, int]]:
        """Return, for every bound and `+Inf`, how many values are at most that."""
        found, below = [], 0
        for bound, count in zip([*map(_shown, self.bounds), "+Inf"], self.counts, strict=True):
            below += count
            found.append((bound, below))
        return found


def _shown(bound: float) -> str:
    # As Prometheus' own clients do: `1.0`, not `1`.
    return repr(float(bound))


class RecentTimes:
    """Times of the last `RECENT_S`, for quantiles: what is older leaves in steps of half of that."""

    __slots__ = ("_before", "_counts", "_since_s")

    def __init__(self) -> None:
        self._counts: list[int] | None = None
        self._before: list[int] | None = None
        self._since_s = 0.0

    def add(self, seconds: float, now_s: float) -> None:
        counts = self._counts
        if counts is None or now_s - self._since_s >= RECENT_S / 2:
            counts = self._turn(now_s)
        counts[bisect_left(RECENT_BOUNDS, seconds)] += 1

    def _turn(self, now_s: float) -> list[int]:
        self._before = self._counts if now_s - self._since_s < RECENT_S else None
        self._since_s = now_s
        self._counts = [0] * (len(RECENT_BOUNDS) + 1)
        return self._counts

    def quantile(self, share: float, now_s: float) -> float | None:
        """Return the time that a share of the values is at most, in seconds; None when there are none."""
        age_s = now_s - self._since_s
        counts = [0] * (len(RECENT_BOUNDS) + 1)
        # The half before counts as long as the current one is not over.
        for half, is_in in ((self._counts, age_s < RECENT_S), (self._before, age_s < RECENT_S / 2)):
            if half is not None and is_in:
                counts = [one + other for one, other in zip(counts, half, strict=True)]
        wanted = share * sum(counts)
        if wanted <= 0:
            return None
        below = 0
        for place, count in enumerate(counts):
            if count and below + count >= wanted:
                low = RECENT_BOUNDS[place - 1] if place else 0.0
                high = RECENT_BOUNDS[min(place, len(RECENT_BOUNDS) - 1)]
                return low + (high - low) * (wanted - below) / count
            below += count
        return RECENT_BOUNDS[-1]
