"""Where a fleet saturates: the yardstick of `--load`.

A fleet keeps up with a trace at some speed when, at the moment of the last arrival, no more than LATE of the requests
still wait for their first token. Below saturation that is the few that came last; above it the queue has grown all the
time. Found by bisection with one strategy, to within PRECISION.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pybrix.base.errors import UsageError
from pybrix.lab.profiles import EngineProfile
from pybrix.lab.replay import Replay
from pybrix.lab.trace import Trace

YARDSTICK = "least-request"
LATE = 0.02
PRECISION = 0.01
MAX_SPEED = 1e6
MIN_SPEED = 1e-6
_Test = Callable[[float], bool]


def late_ratio(trace: Trace, *, strategy: str, pods: int, profile: EngineProfile, speed: float, seed: int) -> float:
    """Return the share of the requests that came until the last start and had no first token by then."""
    replay = Replay(trace, strategy=strategy, pods=pods, profile=profile, speed=speed, seed=seed)
    end_s = replay.last_start_s
    result = replay.run(until_s=end_s)
    came = [place for place, at_s in enumerate(result.arrival_s) if at_s <= end_s]
    late = sum(1 for place in came if math.isnan(result.ttft_s[place]) and result.pod[place] >= 0)
    return late / len(came) if came else 0.0


def find_saturation(trace: Trace, *, pods: int, profile: EngineProfile, seed: int = 1) -> float:
    """Return the highest speed at which `YARDSTICK` keeps up; `MAX_SPEED` for a trace that nothing can saturate.

    Raises:
        UsageError: the trace is too short, or too much of it comes with its last request: that is late at any speed.
    """
    if len(trace.requests) * LATE < 1:
        raise UsageError(
            f"{trace.name}: {len(trace.requests)} requests are too few to find the load that saturates anything",
            f"give {math.ceil(1 / LATE)} or more, or --speed in place of --load",
        )

    def keeps_up(speed: float) -> bool:
        return late_ratio(trace, strategy=YARDSTICK, pods=pods, profile=profile, speed=speed, seed=seed) <= LATE

    low, high = _bracket(_capacity_guess(trace, pods, profile), keeps_up)
    if low <= MIN_SPEED:
        raise UsageError(
            f"{trace.name}: more than {LATE:.0%} of the requests come at its very end, so nothing keeps up with it",
            "give a longer trace, or --speed in place of --load",
        )
    while high / low > 1.0 + PRECISION and high < MAX_SPEED:
        middle = math.sqrt(low * high)
        if keeps_up(middle):
            low = middle
        else:
            high = middle
    return low


def _capacity_guess(trace: Trace, pods: int, profile: EngineProfile) -> float:
    """Return the speed at which prompts alone would keep all engines busy, with nothing cached."""
    prefill_s = sum(request.prompt_tokens for request in trace.requests) / profile.prefill_tokens_per_s
    return max(1e-3, pods * trace.duration_s / prefill_s)


def _bracket(guess: float, keeps_up: _Test) -> tuple[float, float]:
    """Return a speed that is kept up with and one that is not, not far from each other."""
    if keeps_up(guess):
        low, high = guess, guess * 1.5
        while high < MAX_SPEED and keeps_up(high):
            low, high = high, high * 1.5
        return low, high
    low, high = guess / 1.5, guess
    while low > MIN_SPEED and not keeps_up(low):
        low, high = low / 1.5, low
    return low, high
