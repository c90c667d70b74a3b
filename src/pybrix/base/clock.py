"""Time as an argument: the Clock protocol and the one system clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tell the time. Only `cli` and `app` modules choose which clock is used."""

    def now(self) -> datetime:
        """Return the wall-clock time, timezone-aware, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards, for durations within one process."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


def format_rfc3339(moment: datetime) -> str:
    """Print a UTC instant as Kubernetes does in `metav1.Time`: whole seconds, `Z` suffix."""
    m = moment.astimezone(UTC)
    # Every write of the embedded cluster prints a time, and `strftime` takes ten times as long.
    return f"{m.year:04d}-{m.month:02d}-{m.day:02d}T{m.hour:02d}:{m.minute:02d}:{m.second:02d}Z"


def format_rfc3339_micro(moment: datetime) -> str:
    """Print a UTC instant as `metav1.MicroTime` (Lease): six decimals, `Z` suffix."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> datetime:
    """Parse a `metav1.Time` or `metav1.MicroTime`.

    Raises:
        ValueError: the text is not an RFC 3339 instant with an offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset")
    return moment.astimezone(UTC)
