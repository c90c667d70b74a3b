"""Waiting longer after every failure, and never in step with others."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from `first_s` up to `limit_s`, each shortened by chance to between half and all of itself."""

    def __init__(self, chance: random.Random, *, first_s: float, limit_s: float) -> None:
        self._chance = chance
        self._first_s = first_s
        self._limit_s = limit_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return how long to wait now; the next wait is longer."""
        delay_s = self._next_s * self._chance.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._limit_s)
        return delay_s

    def reset(self) -> None:
        self._next_s = self._first_s
