"""Errors of the embedded cluster.

UsageError
├── DataLocked          another process works on the same data
├── StoreCorrupt        the database is damaged or is no database
├── StoreTooNew         a newer pybrix wrote the database
├── StoreFull           the disk (or its quota) has no room for a write
├── StoreFailed         a write failed for another reason: read-only file system, I/O error
├── AddressInUse        another program has the API server's port
└── NotLoopback         the API server was told to listen beyond this machine
StoreConflict           the object is not at the expected revision (or exists, or is gone)
HistoryGone             changes since that revision are no longer kept
ObjectTooLarge          an object is larger than the store takes
SlowSubscriber          a subscriber fell too far behind and was cut off
"""

from __future__ import annotations

from pathlib import Path

from pybrix.base.errors import PybrixError, UsageError


class DataLocked(UsageError):
    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(
            f"{path} is in use by {holder}",
            "stop it with `pybrix down`, or choose another --data-dir",
        )
        self.path = path
        self.holder = holder


class StoreCorrupt(UsageError):
    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(
            f"the cluster database {path} is damaged: {detail}",
            "restore a copy, or move the file away to start with an empty cluster",
        )
        self.path = path


class StoreTooNew(UsageError):
    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"the cluster database {path} has schema version {found}, this pybrix knows up to {known}",
            "run the newer pybrix that wrote it, or choose another --data-dir",
        )
        self.found = found
        self.known = known


class StoreFull(UsageError):
    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"no room to write {path}: {detail}", "free disk space; nothing was changed")


class StoreFailed(UsageError):
    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"cannot write {path}: {detail}", "check the disk and the file's permissions")


class AddressInUse(UsageError):
    def __init__(self, address: str, port: int, detail: str) -> None:
        super().__init__(
            f"the Kubernetes API cannot listen on {address}:{port}: {detail}",
            "choose another port, or stop the program that has it",
        )


class NotLoopback(UsageError):
    def __init__(self, address: str) -> None:
        super().__init__(
            f"the Kubernetes API listens on this machine only, not on {address}",
            "use 127.0.0.1",
        )


class StoreConflict(PybrixError):
    """The object is not at the revision that the writer saw; `found` is 0 when it does not exist."""

    def __init__(self, resource: str, name: str, expected: int, found: int) -> None:
        super().__init__(f"{resource} {name}: expected revision {expected}, found {found}")
        self.expected = expected
        self.found = found


class HistoryGone(PybrixError):
    """The changes after `since` are no longer kept; `oldest` is the first revision to watch from."""

    def __init__(self, since: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {since} ({oldest})")
        self.since = since
        self.oldest = oldest


class ObjectTooLarge(PybrixError):
    """The object's JSON is longer than what the store takes; nothing was changed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the object is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class SlowSubscriber(PybrixError):
    """The subscriber did not take its changes; it lists again and subscribes anew."""

    def __init__(self, pending: int) -> None:
        super().__init__(f"cut off with {pending} changes not taken")
