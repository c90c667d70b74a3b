"""The SQLite file under the store: open, lock, migrate, append, compact.

Durability: WAL with `synchronous=NORMAL`. A commit is in the kernel's hands before it is acknowledged, so a killed
process loses nothing. A power cut may lose the last commits; the processes that run the pods are then gone as well,
the database stays consistent, and `recover_revision` makes sure that no lost revision is ever issued again. `FULL`,
which survives power cuts, makes every heartbeat wait for the disk, inside the event loop: who wants it asks for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pybrix.cluster.errors import DataLocked, StoreCorrupt, StoreFailed, StoreFull, StoreTooNew
from pybrix.cluster.store.schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION

# More revisions than a machine writes between two flushes of its page cache.
REVISION_GAP_AFTER_REBOOT = 1_000_000
_CHECKPOINT_PAGES = 4000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Row:
    """One change as it is stored; `body` is the object's JSON."""

    revision: int
    type: str
    resource: str
    namespace: str
    name: str
    uid: str
    body: bytes


class Database:
    """One open, locked, migrated cluster database."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock_fd: int) -> None:
        self.path = path
        self._connection = connection
        self._lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path, *, boot_id: str | None = None, survives_power_loss: bool = False) -> Database:
        """Open or create the database at `path` and take its lock.

        Args:
            path: the file; its directory is created with mode 0700.
            survives_power_loss: whether a commit waits until the disk has it.
            boot_id: identity of this run of the kernel; None reads it from /proc.

        Raises:
            DataLocked, StoreCorrupt, StoreTooNew, StoreFull, StoreFailed: each says what to do.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock_fd = _lock(path)
        except OSError as err:
            raise _translate_os(path, err) from err
        connection: sqlite3.Connection | None = None
        try:
            connection = _connect(path, survives_power_loss)
            database = cls(path, connection, lock_fd)
            database._migrate()
            database.recover_revision(_read_boot_id() if boot_id is None else boot_id)
        except BaseException as err:
            if connection is not None:
                connection.close()
            os.close(lock_fd)
            if isinstance(err, sqlite3.Error):
                raise translate(path, err) from err
            if isinstance(err, OSError):
                raise _translate_os(path, err) from err
            raise
        return database

    def close(self) -> None:
        """Flush and release the lock. The lock file stays: removing it would race with the next process."""
        self._connection.close()
        os.close(self._lock_fd)

    def _migrate(self) -> None:
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        (owner,) = self._connection.execute("PRAGMA application_id").fetchone()
        if found > SCHEMA_VERSION and owner == APPLICATION_ID:
            raise StoreTooNew(self.path, found, SCHEMA_VERSION)
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != APPLICATION_ID and tables:
            raise StoreCorrupt(self.path, "it is a database of another program")
        for version in range(found, SCHEMA_VERSION):
            # One transaction a step: killed half-way, the next start repeats the step.
            statements = "".join(
                ("BEGIN IMMEDIATE;", MIGRATIONS[version], f"PRAGMA application_id = {APPLICATION_ID};")
            )
            self._connection.executescript(f"{statements} PRAGMA user_version = {version + 1}; COMMIT;")

    def recover_revision(self, boot_id: str) -> None:
        """Leave a gap in the revisions after a reboot, since the last of them may have been lost with the power."""
        if self.meta("boot_id") in (None, boot_id):
            if self.meta("boot_id") is None:
                self._set_meta("boot_id", boot_id)
            return
        base = self.base_revision() + REVISION_GAP_AFTER_REBOOT
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._put_meta("base_revision", str(base))
            # Nothing between the last row and the gap can be replayed, so watches start behind the gap.
            self._put_meta("compacted", str(base))
            self._put_meta("boot_id", boot_id)

    def meta(self, name: str) -> str | None:
        found = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def _set_meta(self, name: str, value: str) -> None:
        with self._connection:
            self._put_meta(name, value)

    def _put_meta(self, name: str, value: str) -> None:
        self._connection.execute(
            "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def base_revision(self) -> int:
        """Return the newest revision ever issued, as far as the file knows."""
        (newest,) = self._connection.execute("SELECT COALESCE(max(revision), 0) FROM log").fetchone()
        return max(int(newest), int(self.meta("base_revision") or 0))

    def compacted_revision(self) -> int:
        """Return the revision since which every change is still in the log."""
        return int(self.meta("compacted") or 0)

    def rows(self) -> Iterator[Row]:
        """Yield the log, oldest first."""
        query = "SELECT revision, type, resource, namespace, name, uid, body FROM log ORDER BY revision"
        try:
            for row in self._connection.execute(query):
                yield Row(*row)
        except sqlite3.Error as err:
            raise translate(self.path, err) from err

    def append(self, row: Row) -> None:
        """Commit one change; on an error nothing is changed.

        Raises:
            StoreFull, StoreCorrupt, StoreFailed
        """
        try:
            # Outside a transaction every statement commits by itself.
            self._connection.execute(
                "INSERT INTO log (revision, type, resource, namespace, name, uid, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (row.revision, row.type, row.resource, row.namespace, row.name, row.uid, row.body),
            )
        except sqlite3.Error as err:
            raise translate(self.path, err) from err

    def compact(self, revisions: Iterable[int], horizon: int) -> None:
        """Remove rows that nobody needs any more and record that watches before `horizon` cannot be served."""
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                # Revisions do not restart when the newest row is among those removed.
                self._put_meta("base_revision", str(self.base_revision()))
                self._put_meta("compacted", str(horizon))
                self._connection.executemany("DELETE FROM log WHERE revision = ?", ((r,) for r in revisions))
        except sqlite3.Error as err:
            raise translate(self.path, err) from err

    def limit_pages(self, pages: int) -> None:
        """Bound the file's size (4 KiB a page), as a disk quota does."""
        self._connection.execute(f"PRAGMA max_page_count = {pages:d}")


def translate(path: Path, err: sqlite3.Error) -> StoreFull | StoreCorrupt | StoreFailed:
    """Return the error that tells a person what SQLite's one means."""
    code = getattr(err, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(path, str(err))
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(path, str(err))
    return StoreFailed(path, str(err))


def _translate_os(path: Path, err: OSError) -> StoreFull | StoreFailed:
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(path, err.strerror or str(err))
    return StoreFailed(path, err.strerror or str(err))


def _connect(path: Path, survives_power_loss: bool) -> sqlite3.Connection:
    # Secrets are in it, and SQLite gives its side files the mode of the main one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if survives_power_loss else 'NORMAL'}")
        # A checkpoint waits for the disk.
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreCorrupt(path, str(verdict).strip())
    except BaseException:
        connection.close()
        raise
    return connection


def _lock(path: Path) -> int:
    """Take the advisory lock beside the database; the kernel releases it when the process ends, however it ends."""
    lock_path = path.with_name(path.name + ".lock")
    fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise DataLocked(path, f"process {holder}" if holder else "another process") from None
    except BaseException:
        os.close(fd)
        raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _read_boot_id() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "unknown"
