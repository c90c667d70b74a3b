"""What the store holds and what lately happened to it: objects, changes and the ring of recent changes. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pybrix.api.identity import ObjectKey, Uid


class ChangeType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An object at one revision. `data` is shared by everyone who reads: it is never changed in place."""

    resource: str
    """`plural.group`, only `plural` for the core group."""
    key: ObjectKey
    uid: Uid
    revision: int
    data: dict[str, Any]
    raw: bytes
    """`data` as JSON, `metadata.resourceVersion` included."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One write. `object` of a deletion is the last form, at the deletion's own revision."""

    type: ChangeType
    revision: int
    object: Stored
    previous: Stored | None


class History:
    """The last changes, bounded by number and by bytes, in order of revision."""

    def __init__(self, limit: int, limit_bytes: int, compacted: int) -> None:
        self._changes: deque[Change] = deque()
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._oldest = compacted

    @property
    def oldest(self) -> int:
        """The first revision since which every change is known."""
        return self._oldest

    def append(self, change: Change) -> None:
        self._changes.append(change)
        self._size_bytes += len(change.object.raw)
        while len(self._changes) > self._limit or (self._size_bytes > self._limit_bytes and len(self._changes) > 1):
            gone = self._changes.popleft()
            self._size_bytes -= len(gone.object.raw)
            self._oldest = gone.revision

    def since(self, revision: int) -> list[Change]:
        """Return the changes after `revision`, oldest first."""
        return list(self.newest_first(revision))[::-1]

    def newest_first(self, revision: int) -> Iterator[Change]:
        """Yield the changes after `revision`, newest first."""
        for change in reversed(self._changes):
            if change.revision <= revision:
                return
            yield change
