"""A Kubernetes API in memory that a brain reads: pods, slices and adapters, which tests change and take away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.kube.errors import Forbidden, NotFound, Unreachable
from pybrix.kube.interface import EventType, ObjectList, PatchType, WatchEvent

T = TypeVar("T", bound=Object)


class PodApi:
    """`put` and `remove` are what a cluster does; `is_reachable` False makes every call fail and ends the watches.

    Kinds in `missing` are unknown, those in `forbidden` may not be read.
    """

    def __init__(self, *objects: Object, is_reachable: bool = True) -> None:
        self._objects = {(type(each), each.key): each for each in objects}
        self.missing: set[type[Object]] = set()
        self.forbidden: set[type[Object]] = set()
        self._version = 1
        self._watches: set[asyncio.Queue[WatchEvent[Any] | None]] = set()
        self._is_reachable = is_reachable

    def put(self, obj: Object) -> None:
        kind = EventType.MODIFIED if (type(obj), obj.key) in self._objects else EventType.ADDED
        self._objects[type(obj), obj.key] = obj
        self._tell(kind, obj)

    def remove(self, obj: Object) -> None:
        del self._objects[type(obj), obj.key]
        self._tell(EventType.DELETED, obj)

    def go_away(self) -> None:
        self._is_reachable = False
        for queue in self._watches:
            queue.put_nowait(None)

    def come_back(self) -> None:
        self._is_reachable = True

    def _tell(self, kind: EventType, obj: Object) -> None:
        self._version += 1
        obj.metadata.resource_version = str(self._version)
        for queue in self._watches:
            queue.put_nowait(WatchEvent(kind, obj))

    def _check(self, cls: type[Object]) -> None:
        if not self._is_reachable:
            raise Unreachable("connection refused")
        if cls in self.missing:
            raise NotFound(404, "NotFound", f"no kind {cls.__name__}")
        if cls in self.forbidden:
            raise Forbidden(403, "Forbidden", f"no right to read {cls.__name__}")

    async def list(
        self, cls: type[T], namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList[T]:
        self._check(cls)
        found = [p for p in self._objects.values() if namespace in (None, p.metadata.namespace) and isinstance(p, cls)]
        return ObjectList(found, str(self._version))

    async def watch(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        self._check(cls)
        queue: asyncio.Queue[WatchEvent[Any] | None] = asyncio.Queue()
        for each in self._objects.values():
            if int(each.metadata.resource_version or 0) > int(resource_version):
                queue.put_nowait(WatchEvent(EventType.MODIFIED, each))
        self._watches.add(queue)
        try:
            while (event := await queue.get()) is not None:
                if isinstance(event.object, cls) and namespace in (None, event.object.metadata.namespace):
                    yield WatchEvent(event.type, event.object)
            raise Unreachable("connection reset")
        finally:
            self._watches.discard(queue)

    async def get(self, cls: type[T], key: ObjectKey) -> T:
        self._check(cls)
        found = self._objects.get((cls, key))
        if not isinstance(found, cls):
            raise NotFound(404, "NotFound", f"{key} not found")
        return found

    async def create(self, obj: T, *, field_manager: str = "pybrix") -> T:
        raise AssertionError("a brain only reads")

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError("a brain only reads")

    async def patch(
        self,
        cls: type[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Any],
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        resource_version: str = "",
        field_manager: str = "pybrix",
        force: bool = False,
    ) -> T:
        raise AssertionError("a brain only reads")

    async def delete(
        self,
        cls: type[T],
        key: ObjectKey,
        *,
        uid: Uid | None = None,
        resource_version: str = "",
        propagation: str = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        raise AssertionError("a brain only reads")

    async def aclose(self) -> None:
        return None
