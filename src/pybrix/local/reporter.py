"""Tells a person what happens to an installation."""

from __future__ import annotations

from collections.abc import Callable

from pybrix.base.clock import Clock, format_rfc3339


class Reporter:
    """Tells a person how the start goes, and what happens later; the command line prints, tests collect."""

    def __init__(self, write: Callable[[str], None], clock: Clock) -> None:
        """`write` shows a line; it must not raise, since parts that run depend on what comes after."""
        self.write = write
        self._clock = clock

    def done(self, what: str, detail: str) -> None:
        self.write(f"  ✓ {what:<14} {detail}")

    def note(self, sentence: str) -> None:
        self.write(f"  · {sentence}")

    def event(self, sentence: str) -> None:
        """Tell what happened to what runs, and when: it may be read days later."""
        self.note(f"{format_rfc3339(self._clock.now())} {sentence}")
