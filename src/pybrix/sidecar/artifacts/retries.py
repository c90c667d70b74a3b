"""Ask again what may work the next time, with growing pauses."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from pybrix.sidecar.artifacts.errors import ArtifactError, SourceUnavailable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often, and how long between."""

    attempts: int = 5
    """Attempts in a row without any progress; 5."""
    most_failures: int = 200
    """Failures of all files of one artifact together, with progress between them or not; 200."""
    first_delay_s: float = 0.5
    """Pause after the first, doubled after each; 0.5."""
    longest_delay_s: float = 20.0
    """Longest pause, also when the server asks for a longer one; 20."""

    def delay_s(self, failures: int, asked_s: float | None, draw: float) -> float:
        """Return the pause after so many failures in a row.

        Args:
            failures: at least 1.
            asked_s: the server's `Retry-After`.
            draw: from 0 to 1; half of the pause is left to chance, so that pods do not come back together.
        """
        grown_s = self.first_delay_s * 2.0 ** min(failures - 1, 30) * (0.5 + draw / 2)
        return min(max(grown_s, asked_s or 0.0), self.longest_delay_s)


@dataclass(slots=True)
class Failures:
    """How often an artifact failed, all its files together."""

    total: int = 0


class Retrier:
    """Runs something until it works, or its error is one that stays.

    Args:
        rules: how often.
        sleep: waits so many seconds.
        chance: draws the pauses.
    """

    def __init__(self, rules: RetryRules, sleep: Callable[[float], Awaitable[None]], chance: random.Random) -> None:
        self._rules = rules
        self._sleep = sleep
        self._chance = chance

    async def run(
        self,
        attempt: Callable[[], Awaitable[bool]],
        what: str,
        progress: Callable[[], int],
        together: Failures | None = None,
    ) -> None:
        """Call `attempt` until it returns true. Returning false asks for another attempt at once, as a failure.

        Args:
            attempt: raises ArtifactError; transient ones lead to the next attempt.
            what: for the log.
            progress: a number that grows when an attempt got somewhere; failures then count anew.
            together: counts failures that never count anew; None when nothing else shares them.

        Raises:
            ArtifactError: that of the last attempt.
        """
        failures = 0
        together = together or Failures()
        while True:
            before = progress()
            try:
                if await attempt():
                    return
                error: ArtifactError = SourceUnavailable(f"{what}: the transfer did not complete")
            except ArtifactError as err:
                if not isinstance(err, SourceUnavailable):
                    raise
                error = err
            failures = 1 if progress() > before else failures + 1
            together.total += 1
            if failures >= self._rules.attempts or together.total >= self._rules.most_failures:
                raise error
            asked_s = error.retry_after_s if isinstance(error, SourceUnavailable) else None
            delay_s = self._rules.delay_s(failures, asked_s, self._chance.random())
            log.warning("source failed, trying again", what=what, error=str(error), delay_s=round(delay_s, 2))
            await self._sleep(delay_s)
