"""The cluster's state: every object in memory, every change durable, one revision for all of it.

Calls are synchronous and belong to one event loop: a write is checked, committed to SQLite, made visible and
announced without anything happening in between, which is what makes read-modify-write atomic for the API server.
"""

from __future__ import annotations

import bisect
import builtins
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey, Uid
from pybrix.base.clock import Clock
from pybrix.cluster.errors import HistoryGone, ObjectTooLarge, StoreConflict, StoreCorrupt
from pybrix.cluster.store.database import Database, Row
from pybrix.cluster.store.history import Change, ChangeType, History, Stored
from pybrix.cluster.store.subscription import Subscription

HISTORY_LIMIT = 5_000
HISTORY_LIMIT_BYTES = 32 * 1024 * 1024
SUBSCRIPTION_LIMIT = 10_000
SUBSCRIPTION_LIMIT_BYTES = 32 * 1024 * 1024
# Superseded rows are removed in batches: one more commit in so many.
_COMPACT_EVERY = 500

MAX_OBJECT_BYTES = 3 * 1024 * 1024 // 2

_encode = msgspec.json.Encoder().encode


class Store:
    """A versioned object store with watches. Open it with `Store.open`."""

    def __init__(self, database: Database, *, clock: Clock, history_limit: int, history_limit_bytes: int) -> None:
        self._database = database
        self._clock = clock
        self._objects: dict[str, dict[ObjectKey, Stored]] = {}
        self._by_uid: dict[Uid, Stored] = {}
        self._sorted: dict[str, list[ObjectKey]] = {}
        self._subscriptions: list[Subscription] = []
        # (revision that made the row obsolete, the row's revision), oldest first.
        self._obsolete: deque[tuple[int, int]] = deque()
        self._history = History(history_limit, history_limit_bytes, database.compacted_revision())
        self._revision = 0
        self._replay()
        self._revision = max(self._revision, database.base_revision())

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        history_limit: int = HISTORY_LIMIT,
        history_limit_bytes: int = HISTORY_LIMIT_BYTES,
        survives_power_loss: bool = False,
    ) -> Store:
        """Open or create the database at `path`, migrate it if it is older, and load it.

        A killed process loses no write that was acknowledged; with `survives_power_loss` neither does a power cut.

        Raises:
            DataLocked, StoreCorrupt, StoreTooNew, StoreFull, StoreFailed: each says what to do.
        """
        database = Database.open(path, survives_power_loss=survives_power_loss)
        try:
            return cls(database, clock=clock, history_limit=history_limit, history_limit_bytes=history_limit_bytes)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """End all subscriptions and release the file."""
        for subscription in list(self._subscriptions):
            subscription.close()
        self._database.close()

    def _replay(self) -> None:
        for row in self._database.rows():
            try:
                data = msgspec.json.decode(row.body)
            except msgspec.DecodeError as err:
                raise StoreCorrupt(self._database.path, f"revision {row.revision}: {err}") from err
            key = ObjectKey(row.namespace, row.name)
            stored = Stored(row.resource, key, Uid(row.uid), row.revision, data, row.body)
            self._remember(Change(ChangeType(row.type), row.revision, stored, self.get(row.resource, key)))

    def _remember(self, change: Change) -> None:
        stored, previous = change.object, change.previous
        kept = self._objects.setdefault(stored.resource, {})
        if previous is not None:
            self._by_uid.pop(previous.uid, None)
            self._obsolete.append((change.revision, previous.revision))
        keys = self._sorted.setdefault(stored.resource, [])
        if change.type == ChangeType.DELETED:
            if kept.pop(stored.key, None) is not None:
                del keys[bisect.bisect_left(keys, stored.key)]
            self._obsolete.append((change.revision, change.revision))
        else:
            if stored.key not in kept:
                bisect.insort(keys, stored.key)
            kept[stored.key] = stored
            self._by_uid[stored.uid] = stored
        self._revision = change.revision
        if change.revision > self._history.oldest:
            self._history.append(change)

    @property
    def revision(self) -> int:
        """The newest revision; a list read now is a consistent snapshot of it."""
        return self._revision

    @property
    def oldest_revision(self) -> int:
        """The first revision that can be watched from."""
        return self._history.oldest

    def get(self, resource: str, key: ObjectKey) -> Stored | None:
        return self._objects.get(resource, {}).get(key)

    def by_uid(self, uid: Uid) -> Stored | None:
        return self._by_uid.get(uid)

    def count(self, resource: str) -> int:
        return len(self._objects.get(resource, {}))

    def resources(self) -> builtins.list[str]:
        """Return the resources that have objects."""
        return sorted(resource for resource, kept in self._objects.items() if kept)

    def iterate(self) -> Iterator[Stored]:
        """Yield every object. Writes while iterating do not disturb it."""
        for resource in self.resources():
            yield from self.list(resource)

    def list_at(self, resource: str, namespace: str | None, revision: int) -> builtins.list[Stored]:
        """Return the list as it was at `revision`, undoing what happened since.

        Raises:
            HistoryGone: what happened since is no longer known.
        """
        if revision < self.oldest_revision:
            raise HistoryGone(revision, self.oldest_revision)
        then = {stored.key: stored for stored in self.list(resource, namespace)}
        for change in self._history.newest_first(revision):
            if change.object.resource != resource or (
                namespace is not None and change.object.key.namespace != namespace
            ):
                continue
            if change.previous is None:
                then.pop(change.object.key, None)
            else:
                then[change.object.key] = change.previous
        return sorted(then.values(), key=lambda stored: stored.key)

    def subscribe(
        self,
        resource: str | None = None,
        namespace: str | None = None,
        *,
        since: int | None = None,
        limit: int = SUBSCRIPTION_LIMIT,
        limit_bytes: int = SUBSCRIPTION_LIMIT_BYTES,
    ) -> Subscription:
        """Return the stream of changes after `since` (None: from now on) of a resource (None: all).

        Raises:
            HistoryGone: changes since then are no longer known; list and subscribe from the list's revision.
        """
        backlog: list[Change] = []
        if since is not None:
            if since < self.oldest_revision:
                raise HistoryGone(since, self.oldest_revision)
            backlog = self._history.since(since)
        subscription = Subscription(resource, namespace, backlog, limit, limit_bytes, self._subscriptions.remove)
        self._subscriptions.append(subscription)
        return subscription

    def create(self, resource: str, key: ObjectKey, data: dict[str, Any]) -> Stored:
        """Store a new object; `metadata.uid` is set by the caller, `metadata.resourceVersion` here.

        Raises:
            StoreConflict: an object of that key exists.
            ObjectTooLarge: it has more than MAX_OBJECT_BYTES.
            StoreFull, StoreFailed, StoreCorrupt: nothing was changed.
        """
        existing = self.get(resource, key)
        if existing is not None:
            raise StoreConflict(resource, str(key), 0, existing.revision)
        return self._write(ChangeType.ADDED, resource, key, data, None)

    def update(self, resource: str, key: ObjectKey, data: dict[str, Any], *, expected: int) -> Stored:
        """Replace an object that is at revision `expected`.

        Raises:
            StoreConflict: it is at another revision or gone.
            ObjectTooLarge: it has more than MAX_OBJECT_BYTES.
            StoreFull, StoreFailed, StoreCorrupt: nothing was changed.
        """
        return self._write(ChangeType.MODIFIED, resource, key, data, self._expect(resource, key, expected))

    def delete(self, resource: str, key: ObjectKey, *, expected: int, data: dict[str, Any] | None = None) -> Stored:
        """Remove an object that is at revision `expected`; `data` is its last form when that differs.

        Raises:
            StoreConflict: it is at another revision or gone.
            StoreFull, StoreFailed, StoreCorrupt: nothing was changed.
        """
        previous = self._expect(resource, key, expected)
        return self._write(ChangeType.DELETED, resource, key, previous.data if data is None else data, previous)

    def _expect(self, resource: str, key: ObjectKey, expected: int) -> Stored:
        previous = self.get(resource, key)
        if previous is None or previous.revision != expected:
            raise StoreConflict(resource, str(key), expected, previous.revision if previous else 0)
        return previous

    def _write(
        self, type_: ChangeType, resource: str, key: ObjectKey, data: dict[str, Any], previous: Stored | None
    ) -> Stored:
        revision = self._revision + 1
        data = {**data, "metadata": {**data["metadata"], "resourceVersion": str(revision)}}
        uid = Uid(str(data["metadata"].get("uid", "")))
        raw = _encode(data)
        if len(raw) > MAX_OBJECT_BYTES and type_ is not ChangeType.DELETED:
            raise ObjectTooLarge(MAX_OBJECT_BYTES)
        stored = Stored(resource, key, uid, revision, data, raw)
        self._database.append(Row(revision, str(type_), resource, key.namespace, key.name, uid, raw))
        change = Change(type_, revision, stored, previous)
        self._remember(change)
        for subscription in list(self._subscriptions):
            if subscription.wants(change):
                subscription.offer(change)
        self._compact()
        return stored

    def _compact(self) -> None:
        # A row may go when the change that made it obsolete is itself out of the history: until then it is the
        # `previous` of a change that a watch may still ask for.
        horizon = self._history.oldest
        if len(self._obsolete) >= _COMPACT_EVERY and self._obsolete[_COMPACT_EVERY - 1][0] <= horizon:
            batch = [self._obsolete.popleft()[1] for _ in range(_COMPACT_EVERY)]
            self._database.compact(batch, horizon)

    def list(self, resource: str, namespace: str | None = None) -> builtins.list[Stored]:
        """Return the objects of a resource, in one namespace or all, by namespace and name."""
        kept, keys = self._objects.get(resource, {}), self._sorted.get(resource, [])
        if namespace is not None:
            # No name is empty, and none of a namespace has a character before the space.
            start = bisect.bisect_left(keys, ObjectKey(namespace, ""))
            keys = keys[start : bisect.bisect_left(keys, ObjectKey(namespace + " ", ""), start)]
        return [kept[key] for key in keys]
