"""When an engine is asked for its metrics again: soon while it is loaded, rarely while it is idle or silent. Pure."""

from __future__ import annotations

IDLE_LIMIT_S = 12.0
"""An idle engine is asked at least so often: less than half of `STALE_AFTER_S`, so that one lost answer is no gap."""
SILENT_LIMIT_S = 30.0
MAX_SHARE = 0.1
"""Share of a CPU that all scrapes together may take; beyond it, everyone is asked less often."""
JITTER = 0.2


def next_delay_s(
    *, shortest_s: float, idle_rounds: int, silent_rounds: int, engines: int, cost_s: float, draw: float
) -> float:
    """Return how long to wait before the next scrape.

    delay = max(min(limit, shortest * 2^rounds), engines * cost / MAX_SHARE) * (1 +- JITTER)

    Args:
        shortest_s: of an engine under load.
        idle_rounds: how many scrapes in a row found it idle.
        silent_rounds: how many in a row failed; counts before `idle_rounds`.
        engines: how many are scraped.
        cost_s: CPU time of one scrape.
        draw: a random number in [0, 1).
    """
    rounds, limit_s = (silent_rounds, SILENT_LIMIT_S) if silent_rounds else (idle_rounds, IDLE_LIMIT_S)
    wanted_s = max(shortest_s, min(limit_s, shortest_s * 2.0 ** min(rounds, 16)))
    return max(wanted_s, engines * cost_s / MAX_SHARE) * (1.0 - JITTER + 2.0 * JITTER * draw)
