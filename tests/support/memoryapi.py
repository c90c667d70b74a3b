"""An API server in memory that implements `kube.interface.Client` and fails when told to."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.api.selectors import parse_field_selector, parse_label_selector
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.kube.errors import AlreadyExists, Conflict, Gone, KubeError, NotFound, StatusError, Unreachable
from pybrix.kube.interface import EventType, ObjectList, PatchType, WatchEvent
from pybrix.kube.patch import apply_merge_patch
from tests.support.clocks import LoopClock

T = TypeVar("T", bound=Object)
_Kind = tuple[str, str]
_Change = tuple[int, EventType, _Kind, dict[str, Any]]


class MemoryApi:
    """Objects in their wire form, one revision counter, and every change since the last `compact`.

    `fail_next("list", error)` makes the next call of that name raise; `is_down` makes every call fail and ends watches.
    """

    def __init__(self) -> None:
        self.revision = 10
        self.is_down = False
        self.missing: set[str] = set()
        """Kinds that the server does not know."""
        self.calls: list[str] = []
        self._objects: dict[_Kind, dict[ObjectKey, dict[str, Any]]] = {}
        self._history: list[_Change] = []
        self._oldest = 0
        # In order: who hears first must not depend on addresses in memory, or runs cannot be repeated.
        self._watchers: dict[asyncio.Queue[_Change | BaseException | None], None] = {}
        self._failures: dict[str, list[KubeError]] = {}
        self._uids = 0
        self._clock: Clock = LoopClock()

    # Scripting

    def fail_next(self, call: str, *errors: KubeError) -> None:
        self._failures.setdefault(call, []).extend(errors)

    def end_watches(self, error: KubeError | None = None) -> None:
        """End all watches, cleanly or with an error."""
        for watcher in self._watchers:
            watcher.put_nowait(error)

    def go_down(self) -> None:
        self.is_down = True
        self.end_watches(Unreachable("connection reset"))

    def compact(self) -> None:
        """Forget the past: watches from it get 410."""
        self._history.clear()
        self._oldest = self.revision

    def restore(self, revision: int, *objects: Object) -> None:
        """Replace everything, as a restored backup does: no events, another revision."""
        self._objects.clear()
        self._history.clear()
        self.revision, self._oldest = revision, revision
        for obj in objects:
            self._objects.setdefault(_kind(type(obj)), {})[obj.key] = obj.to_dict()

    def bookmark(self, cls: type[Object]) -> None:
        body = {"metadata": {"resourceVersion": str(self.revision)}}
        for watcher in self._watchers:
            watcher.put_nowait((self.revision, EventType.BOOKMARK, _kind(cls), body))

    @property
    def watch_count(self) -> int:
        return len(self._watchers)

    def all(self, cls: type[T]) -> list[T]:
        return [cls.from_dict(data) for data in self._objects.get(_kind(cls), {}).values()]

    def put(self, obj: T) -> T:
        """Create an object, without scripted failures."""
        return type(obj).from_dict(self._create(obj.to_dict()))

    def change(self, obj: T, patch: Mapping[str, Any]) -> T:
        """Merge-patch an object, without scripted failures."""
        return type(obj).from_dict(self._patch(_kind(type(obj)), obj.key, patch))

    def remove(self, obj: Object) -> None:
        """Delete an object, without scripted failures."""
        self._record(EventType.DELETED, _kind(type(obj)), self._objects[_kind(type(obj))].pop(obj.key))

    # Client

    async def get(self, cls: type[T], key: ObjectKey) -> T:
        await self._enter("get", cls)
        return cls.from_dict(self._find(_kind(cls), key))

    async def list(
        self, cls: type[T], namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList[T]:
        await self._enter("list", cls)
        found = self._objects.get(_kind(cls), {}).values()
        items = [cls.from_dict(d) for d in found if _selects(d, namespace, label_selector, field_selector)]
        return ObjectList(items, str(self.revision))

    async def watch(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        await self._enter("watch", cls)
        since = int(resource_version)
        if since < self._oldest:
            raise Gone(410, "Expired", f"too old resource version: {since} ({self._oldest})")
        if since > self.revision:
            raise StatusError(504, "Timeout", f"Too large resource version: {since}, current: {self.revision}")
        queue: asyncio.Queue[_Change | BaseException | None] = asyncio.Queue()
        for change in self._history:
            queue.put_nowait(change)
        self._watchers[queue] = None
        try:
            while (change_or_end := await queue.get()) is not None:
                if isinstance(change_or_end, BaseException):
                    raise change_or_end
                revision, event, kind, data = change_or_end
                if kind != _kind(cls) or (revision <= since and event is not EventType.BOOKMARK):
                    continue
                if event is EventType.BOOKMARK or _selects(data, namespace, label_selector, field_selector):
                    yield WatchEvent(event, cls.from_dict(data))
        finally:
            self._watchers.pop(queue, None)

    async def create(self, obj: T, *, field_manager: str = "pybrix") -> T:
        await self._enter("create", type(obj))
        return type(obj).from_dict(self._create(obj.to_dict()))

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        await self._enter("create", None)
        return self._create(copy.deepcopy(dict(data)))

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
        await self._enter("patch", cls)
        assert patch_type is PatchType.MERGE
        assert isinstance(patch, Mapping)
        assert subresource != "status" or set(patch) == {"status"}
        found = self._find(_kind(cls), key)
        if resource_version and found["metadata"]["resourceVersion"] != resource_version:
            raise Conflict(409, "Conflict", f"{key} has been modified")
        return cls.from_dict(self._patch(_kind(cls), key, patch))

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
        await self._enter("delete", cls)
        found = self._find(_kind(cls), key)
        if uid is not None and found["metadata"]["uid"] != uid:
            raise Conflict(409, "Conflict", f"{key} has another UID")
        if resource_version and found["metadata"]["resourceVersion"] != resource_version:
            raise Conflict(409, "Conflict", f"{key} has been modified")
        self._record(EventType.DELETED, _kind(cls), self._objects[_kind(cls)].pop(key))

    async def aclose(self) -> None:
        self.end_watches()

    # Storage

    async def _enter(self, call: str, cls: type[Object] | None) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.is_down:
            raise Unreachable("connection refused")
        if failures := self._failures.get(call):
            raise failures.pop(0)
        if cls is not None and cls.gvk.kind in self.missing:
            raise NotFound(404, "NotFound", "the server could not find the requested resource")

    def _create(self, data: dict[str, Any]) -> dict[str, Any]:
        metadata = data.setdefault("metadata", {})
        if not metadata.get("name"):
            self._uids += 1
            metadata["name"] = f"{metadata['generateName']}{self._uids:05d}"
        key = ObjectKey(metadata.get("namespace", ""), metadata["name"])
        kind = (data["apiVersion"], data["kind"])
        if key in self._objects.setdefault(kind, {}):
            raise AlreadyExists(409, "AlreadyExists", f"{key} exists")
        self._uids += 1
        metadata |= {
            "uid": f"uid-{self._uids}",
            "generation": 1,
            "creationTimestamp": format_rfc3339(self._clock.now()),
        }
        self._objects[kind][key] = data
        self._record(EventType.ADDED, kind, data)
        return copy.deepcopy(data)

    def _patch(self, kind: _Kind, key: ObjectKey, patch: Mapping[str, Any]) -> dict[str, Any]:
        before = self._find(kind, key)
        after: dict[str, Any] = apply_merge_patch(before, patch)
        if after == before:
            return after
        after["metadata"]["generation"] = before["metadata"]["generation"] + (after.get("spec") != before.get("spec"))
        self._objects[kind][key] = after
        self._record(EventType.MODIFIED, kind, after)
        return copy.deepcopy(after)

    def _find(self, kind: _Kind, key: ObjectKey) -> dict[str, Any]:
        try:
            return self._objects[kind][key]
        except KeyError:
            raise NotFound(404, "NotFound", f"{kind[1]} {key} not found") from None

    def _record(self, event: EventType, kind: _Kind, data: dict[str, Any]) -> None:
        self.revision += 1
        data["metadata"]["resourceVersion"] = str(self.revision)
        change = (self.revision, event, kind, copy.deepcopy(data))
        self._history.append(change)
        for watcher in self._watchers:
            watcher.put_nowait(change)


def _kind(cls: type[Object]) -> _Kind:
    return cls.gvk.api_version, cls.gvk.kind


def _selects(data: dict[str, Any], namespace: str | None, label_selector: str, field_selector: str) -> bool:
    metadata = data["metadata"]
    if namespace is not None and metadata.get("namespace", "") != namespace:
        return False
    if not parse_label_selector(label_selector).matches(metadata.get("labels", {})):
        return False
    return parse_field_selector(field_selector).matches(data)
