"""The contents of an informer: objects by key and UID, indexes, and the handlers that hear of changes. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import structlog

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.kube.interface import EventType

T = TypeVar("T", bound=Object)
Handler = Callable[[EventType, T | None, T | None], None]
"""Called with what happened, the object before and the object after."""
IndexFunction = Callable[[T], Iterable[str]]
# In the classes below `list` is a method.
Objects = list[T]

_log = structlog.get_logger()


class _Index(Generic[T]):
    def __init__(self, values_of: IndexFunction[T]) -> None:
        self.values_of = values_of
        self._by_value: dict[str, dict[Uid, T]] = {}

    def insert(self, obj: T) -> None:
        for value in self.values_of(obj):
            self._by_value.setdefault(value, {})[obj.uid] = obj

    def remove(self, obj: T) -> None:
        for value in self.values_of(obj):
            if found := self._by_value.get(value):
                found.pop(obj.uid, None)
                if not found:
                    del self._by_value[value]

    def get(self, value: str) -> list[T]:
        return list(self._by_value.get(value, {}).values())


class ObjectStore(Generic[T]):
    """Objects as last seen. An object is known by its UID: one recreated under its name is another object.

    Every change first becomes visible and then reaches the handlers, in the order in which they were added.
    """

    def __init__(self) -> None:
        self._by_key: dict[ObjectKey, T] = {}
        self._by_uid: dict[Uid, T] = {}
        self._indexes: dict[str, _Index[T]] = {}
        self._handlers: list[Handler[T]] = []

    def get(self, key: ObjectKey) -> T | None:
        return self._by_key.get(key)

    def by_uid(self, uid: Uid) -> T | None:
        return self._by_uid.get(uid)

    def list(self, namespace: str | None = None) -> list[T]:
        return [obj for key, obj in self._by_key.items() if namespace is None or key.namespace == namespace]

    def add_index(self, name: str, values_of: IndexFunction[T]) -> None:
        if (known := self._indexes.get(name)) is not None:
            # Users of a shared informer may each ask for the same index.
            if known.values_of is not values_of:
                raise ValueError(f"there is another index {name!r} already")
            return
        index = self._indexes[name] = _Index(values_of)
        for obj in self._by_key.values():
            index.insert(obj)

    def by_index(self, name: str, value: str) -> Objects[T]:
        return self._indexes[name].get(value)

    def add_handler(self, handler: Handler[T]) -> None:
        self._handlers.append(handler)
        for obj in list(self._by_key.values()):
            self._tell_one(handler, EventType.ADDED, None, obj)

    def put(self, new: T) -> None:
        """Store what the server shows. The version that is there already changes nothing and tells nobody."""
        old = self._by_key.get(new.key)
        if old is not None and old.uid != new.uid:
            self._remove(old)
            old = None
        if old is None:
            self._insert(new)
            self._tell(EventType.ADDED, None, new)
        elif old.metadata.resource_version != new.metadata.resource_version:
            self._unlink(old)
            self._insert(new)
            self._tell(EventType.MODIFIED, old, new)

    def drop(self, last: T) -> None:
        """Remove a deleted object; news of an earlier object of that name is ignored."""
        old = self._by_key.get(last.key)
        if old is not None and old.uid == last.uid:
            self._remove(old)

    def replace(self, objects: Iterable[T]) -> None:
        """Take a complete list as the truth: what it lacks is deleted, the rest is put."""
        fresh = list(objects)
        present = {obj.uid for obj in fresh}
        for old in list(self._by_key.values()):
            if old.uid not in present:
                self._remove(old)
        for obj in fresh:
            self.put(obj)

    def _remove(self, old: T) -> None:
        self._unlink(old)
        self._tell(EventType.DELETED, old, None)

    def _insert(self, obj: T) -> None:
        self._by_key[obj.key] = obj
        self._by_uid[obj.uid] = obj
        for index in self._indexes.values():
            index.insert(obj)

    def _unlink(self, obj: T) -> None:
        del self._by_key[obj.key]
        self._by_uid.pop(obj.uid, None)
        for index in self._indexes.values():
            index.remove(obj)

    def _tell(self, event: EventType, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            self._tell_one(handler, event, old, new)

    def _tell_one(self, handler: Handler[T], event: EventType, old: T | None, new: T | None) -> None:
        try:
            handler(event, old, new)
        except Exception:  # noqa: BLE001
            # One handler's fault must not keep the change from the others, nor stop the informer.
            obj = new or old
            _log.exception("informer handler failed", kind=obj.kind if obj else "", key=str(obj.key) if obj else "")
