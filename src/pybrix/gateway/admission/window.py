"""Amounts of the last seconds, by slices of time. Pure; time is an argument."""

from __future__ import annotations

SLICES = 60
"""Slices of a window. A slice counts until all of it is out: a total is never too small, and too large by one slice."""


class SlidingWindow:
    """What was counted in the last `span_s` seconds.

    total(t) = sum of slices n with n >= floor(t / width) - SLICES, width = span_s / SLICES

    No stretch of `span_s` seconds holds more than the total at its end: there is no boundary at which twice as much
    goes through. Time never goes back.
    """

    __slots__ = ("_counts", "_newest", "_oldest", "_total", "_width_s", "span_s")

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._width_s = span_s / SLICES
        # Oldest slice first.
        self._counts: dict[int, int] = {}
        self._oldest = 0
        self._newest = 0
        self._total = 0

    def slice_at(self, now_s: float) -> int:
        """Return the number of the slice that holds this instant."""
        return int(now_s // self._width_s)

    def add(self, amount: int, now_s: float) -> int:
        """Count an amount now; return the slice, by which it can be taken back."""
        self._forget(now_s)
        current = int(now_s // self._width_s)
        counts = self._counts
        if current in counts:
            counts[current] += amount
        else:
            if not counts:
                self._oldest = current
            counts[current] = amount
            self._newest = current
        self._total += amount
        return current

    def take_back(self, slice_number: int, amount: int, now_s: float) -> None:
        """Undo what was counted in a slice; nothing happens when the slice is out already."""
        self._forget(now_s)
        held = self._counts.get(slice_number)
        if held is not None:
            undone = min(amount, held)
            self._counts[slice_number] = held - undone
            self._total -= undone

    def total(self, now_s: float) -> int:
        """Return what counts now."""
        self._forget(now_s)
        return self._total

    def frees_in_s(self, amount: int, now_s: float) -> float:
        """Return the seconds until so much of the total has left; all of it at most, 0 for nothing."""
        self._forget(now_s)
        left, freed_at_s = 0, now_s
        for number, count in self._counts.items():
            if left >= amount:
                break
            if count:
                left += count
                freed_at_s = (number + SLICES + 1) * self._width_s
        return max(0.0, freed_at_s - now_s)

    def empties_in_s(self, now_s: float) -> float:
        """Return the seconds until nothing counts any more; 0 when nothing does."""
        if not self.total(now_s):
            return 0.0
        return (self._newest + SLICES + 1) * self._width_s - now_s

    def _forget(self, now_s: float) -> None:
        counts = self._counts
        first_kept = int(now_s // self._width_s) - SLICES
        if self._oldest >= first_kept or not counts:
            return
        for oldest in list(counts):
            if oldest >= first_kept:
                self._oldest = oldest
                return
            self._total -= counts.pop(oldest)
