"""Decide which Events are over, and when the next one will be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pybrix.api.identity import ObjectKey, Uid
from pybrix.base.clock import parse_rfc3339

LIFETIME = timedelta(hours=1)
"""How long an Event is kept after it last happened; a kube-apiserver's default."""
SWEEP_S = 10.0
"""Events that end within so long of each other go together."""


@dataclass(frozen=True, slots=True)
class Note:
    """An Event, and when it last happened; None when it does not say."""

    key: ObjectKey
    uid: Uid
    last: datetime | None


def plan(notes: Iterable[Note], now: datetime) -> tuple[tuple[Note, ...], float]:
    """Return the Events to delete, and in how many seconds to look again.

    No Event that comes meanwhile can be over before that: it lasts for LIFETIME.
    """
    over: list[Note] = []
    next_s = LIFETIME.total_seconds()
    for note in notes:
        left_s = (note.last + LIFETIME - now).total_seconds() if note.last is not None else 0.0
        if left_s <= 0:
            over.append(note)
        else:
            next_s = min(next_s, left_s)
    return tuple(over), max(next_s, SWEEP_S)


def read_note(key: ObjectKey, uid: Uid, data: Mapping[str, Any]) -> Note:
    """Read a stored Event: the latest of the times that it carries counts."""
    times = (
        data.get("lastTimestamp"),
        data.get("eventTime"),
        (data.get("series") or {}).get("lastObservedTime"),
        data["metadata"].get("creationTimestamp"),
    )
    return Note(key, uid, max((m for t in times if (m := _moment(t)) is not None), default=None))


def _moment(text: object) -> datetime | None:
    try:
        return parse_rfc3339(text) if isinstance(text, str) else None
    except ValueError:
        return None
