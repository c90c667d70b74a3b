"""Wait until an engine is idle: the preStop hook of an engine's pod.

Engines drop what they have on SIGTERM. Kubernetes sends it when the preStop hook returns, so the hook returns when
there is nothing left to drop. The pod has left the endpoints by then, or is about to: the settle time covers the
gateways that have not heard yet. Where they send requests all the same (an adapter that no other pod has yet), short
requests come and go between two looks: an engine that computed tokens since the last one is not idle either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pybrix.base.clock import Clock


@dataclass(frozen=True, slots=True)
class DrainRules:
    """When an engine counts as drained."""

    deadline_s: float = 25.0
    """Longest wait; 25. It must be shorter than the pod's `terminationGracePeriodSeconds`."""
    settle_s: float = 1.0
    """Requests may still arrive for so long, however idle the engine looks; 1."""
    poll_interval_s: float = 0.2
    """Time between two looks; 0.2."""
    idle_polls: int = 3
    """Looks in a row that must find it idle; 3."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one look saw. `requests` is None when the engine did not say; `problem` then tells why."""

    requests: int | None
    tokens: float = 0.0
    """Tokens that the engine read and wrote since it began; 0 where it does not count them."""
    is_gone: bool = False
    """Nobody listens on the engine's port: it has ended, or never began."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DrainOutcome:
    """How the wait ended."""

    reason: str
    """`idle`, `gone` or `deadline`."""
    waited_s: float
    polls: int
    most_requests: int
    """The most that any look saw."""
    requests_left: int | None
    """What the last look saw; None when it saw nothing."""
    problem: str = ""

    def __str__(self) -> str:
        left = "unknown" if self.requests_left is None else str(self.requests_left)
        text = (
            f"{self.reason} after {self.waited_s:.1f} s: {left} requests left, "
            f"at most {self.most_requests} seen in {self.polls} polls"
        )
        return f"{text} ({self.problem})" if self.problem else text


def wait_until_drained(
    rules: DrainRules, fetch_load: Callable[[float], Load], clock: Clock, sleep: Callable[[float], None]
) -> DrainOutcome:
    """Look at the engine until it is idle, gone, or the deadline has come.

    Args:
        rules: when it counts as drained.
        fetch_load: takes how many seconds one look may last.
        clock: for durations.
        sleep: waits so many seconds.
    """
    started_s = clock.monotonic_s()
    polls = idle_in_a_row = most_requests = 0
    tokens: float | None = None
    while True:
        remaining_s = rules.deadline_s - (clock.monotonic_s() - started_s)
        load = fetch_load(max(0.1, min(2.0, remaining_s)))
        polls += 1
        waited_s = clock.monotonic_s() - started_s
        most_requests = max(most_requests, load.requests or 0)
        # Looks within the settle time say nothing about what still arrives.
        is_idle = load.requests == 0 and waited_s >= rules.settle_s and tokens in (None, load.tokens)
        tokens = load.tokens if load.requests is not None else tokens
        idle_in_a_row = idle_in_a_row + 1 if is_idle else 0
        reason = None
        if load.is_gone:
            reason = "gone"
        elif idle_in_a_row >= rules.idle_polls:
            reason = "idle"
        elif waited_s >= rules.deadline_s:
            reason = "deadline"
        if reason is not None:
            return DrainOutcome(reason, waited_s, polls, most_requests, load.requests, load.problem)
        sleep(max(0.0, min(rules.poll_interval_s, rules.deadline_s - waited_s)))
