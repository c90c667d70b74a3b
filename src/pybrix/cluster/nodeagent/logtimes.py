"""When lines were logged: programs write their own files, so the agent notes how long each file was when.

Beside a log is a file of records: a time, and how long the log was by then. What is between two records was written in
between, a tenth of a second at most while an agent runs; what was written while none did has the time of the last
write. A length below the one before it means that the log was begun anew by a rotation.
"""

from __future__ import annotations

import asyncio
import bisect
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

INTERVAL_S = 0.1
_RECORD = struct.Struct("<dQ")


@dataclass(frozen=True, slots=True)
class Mark:
    """The log was `length` bytes long at `at` (seconds since 1970)."""

    at: float
    length: int


def times_path(log: Path) -> Path:
    return log.with_name(f"{log.stem}.times")


class LogTimes:
    """The marks of a log, and of the part of it that was rotated away."""

    def __init__(self, current: Sequence[Mark], older: Sequence[Mark]) -> None:
        self.current = current
        self.older = older

    @classmethod
    def load(cls, log: Path) -> LogTimes:
        """Read the marks of a log; a log without any has none."""
        try:
            content = times_path(log).read_bytes()
        except FileNotFoundError:
            return cls((), ())
        usable = len(content) - len(content) % _RECORD.size
        marks = [Mark(*fields) for fields in _RECORD.iter_unpack(content[:usable])]
        parts: list[list[Mark]] = [[]]
        for mark in marks:
            if parts[-1] and mark.length < parts[-1][-1].length:
                parts.append([])
            parts[-1].append(mark)
        return cls(parts[-1], parts[-2] if len(parts) > 1 else ())


def written_at(marks: Sequence[Mark], offset: int, otherwise: float) -> float:
    """Return when the byte at an offset was written; `otherwise` when no mark tells yet."""
    index = bisect.bisect_right(marks, offset, key=lambda mark: mark.length)
    return marks[index].at if index < len(marks) else otherwise


def offset_since(marks: Sequence[Mark], moment: float) -> int:
    """Return up to which byte everything was written before a moment."""
    index = bisect.bisect_left(marks, moment, key=lambda mark: mark.at)
    return marks[index - 1].length if index else 0


class Stamper:
    """Put the time before each line of a log that is read in pieces."""

    def __init__(self, marks: Sequence[Mark], offset: int, otherwise: float) -> None:
        self._marks = marks
        self._offset = offset
        self._otherwise = otherwise
        self._is_new_line = True

    def follow(self, written_at: float) -> None:
        """Take the time of what is read next: that at which it was written last."""
        self._marks = ()
        self._otherwise = written_at

    def stamp(self, piece: bytes) -> bytes:
        """Return the next piece with times."""
        stamped: list[bytes] = []
        for line in piece.splitlines(keepends=True):
            if self._is_new_line:
                stamped.append(print_time(written_at(self._marks, self._offset, self._otherwise)))
            stamped.append(line)
            self._is_new_line = line.endswith(b"\n")
            self._offset += len(line)
        return b"".join(stamped)


def print_time(at: float) -> bytes:
    """Return a moment as logs have it: RFC 3339 with nanoseconds, of which three digits are zero."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()


class LogClock:
    """Marks the logs that it follows while they grow."""

    def __init__(self) -> None:
        self._lengths: dict[Path, int] = {}

    def follow(self, log: Path) -> None:
        """Mark a log from now on, and what it has already."""
        marks = LogTimes.load(log).current
        self._lengths[log] = marks[-1].length if marks else 0
        self._look(log)

    def finish(self, log: Path) -> None:
        """Mark what a program wrote last; it has ended."""
        if log in self._lengths:
            self._look(log)
            self._lengths.pop(log, None)

    async def run(self) -> None:
        """Mark until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            for log in list(self._lengths):
                self._look(log)

    def _look(self, log: Path) -> None:
        try:
            found = log.stat()
        except FileNotFoundError:
            return  # the shell has not begun, or the pod's directory is gone
        before = self._lengths[log]
        if found.st_size == before:
            return
        try:
            if found.st_size < before:
                _forget(log)
            with times_path(log).open("ab") as file:
                file.write(_RECORD.pack(found.st_mtime, found.st_size))
        except OSError as error:
            _log.warning("the time of a log could not be noted", path=str(log), error=str(error))
        self._lengths[log] = found.st_size


def _forget(log: Path) -> None:
    """Drop the marks of what was rotated away twice."""
    kept = LogTimes.load(log).current
    path = times_path(log)
    temporary = path.with_suffix(".times.tmp")
    temporary.write_bytes(b"".join(_RECORD.pack(mark.at, mark.length) for mark in kept))
    temporary.replace(path)
