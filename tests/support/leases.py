"""What `lease.lua` does, in Python, on a clock of its own: Redis as the counters see it."""

from __future__ import annotations

import math

from pybrix.gateway.admission.counter import Ask, Reply
from pybrix.gateway.admission.window import SLICES


class LeaseServer:
    """One window of one limit."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def hear(self, ask: Ask, now_s: float) -> Reply:
        span_ms, now_ms = ask.span_s * 1000, math.floor(now_s * 1000)
        width = span_ms / SLICES
        current = math.floor(now_ms / width)
        self.counts = {n: c for n, c in self.counts.items() if current - SLICES <= n <= current + SLICES}
        for number, amount in ask.returns:
            if number in self.counts:
                self.counts[number] -= min(amount, self.counts[number])
        granted = max(0, min(ask.want, ask.limit - sum(self.counts.values()) - ask.charge))
        if ask.charge + granted:
            self.counts[current] = self.counts.get(current, 0) + ask.charge + granted
        used = sum(self.counts.values())
        return Reply(current, granted, used, self._frees_in_ms(used, ask, width, now_ms) / 1000)

    def _frees_in_ms(self, used: int, ask: Ask, width: float, now_ms: int) -> float:
        over = used + max(ask.need, 1) - ask.limit
        if over <= 0:
            return 0
        for number in sorted(self.counts):
            over -= self.counts[number]
            if over <= 0:
                return max(0, math.ceil((number + SLICES + 1) * width - now_ms))
        return ask.span_s * 1000
