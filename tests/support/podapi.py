"""A Kubernetes API of pods in memory, behind the `Client` protocol, that tests change and take away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.kube.errors import NotFound, Unreachable
from pybrix.kube.interface import EventType, ObjectList, PatchType, WatchEvent

T = TypeVar("T", bound=Object)


class PodApi:
    """`put` and `remove` are what a cluster does; `is_reachable` False makes every call fail and ends the watches."""

    def __init__(self, *pods: Pod, is_reachable: bool = True) -> None:
        self._pods = {pod.key: pod for pod in pods}
        self._version = 1
        self._watches: set[asyncio.Queue[WatchEvent[Pod] | None]] = set()
        self._is_reachable = is_reachable

    def put(self, pod: Pod) -> None:
        kind = EventType.MODIFIED if pod.key in self._pods else EventType.ADDED
        self._pods[pod.key] = pod
        self._tell(kind, pod)

    def remove(self, pod: Pod) -> None:
        del self._pods[pod.key]
        self._tell(EventType.DELETED, pod)

    def go_away(self) -> None:
        self._is_reachable = False
        for queue in self._watches:
            queue.put_nowait(None)

    def come_back(self) -> None:
        self._is_reachable = True

    def _tell(self, kind: EventType, pod: Pod) -> None:
        self._version += 1
        pod.metadata.resource_version = str(self._version)
        for queue in self._watches:
            queue.put_nowait(WatchEvent(kind, pod))

    def _check(self) -> None:
        if not self._is_reachable:
            raise Unreachable("connection refused")

    async def list(
        self, cls: type[T], namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList[T]:
        self._check()
        found = [p for p in self._pods.values() if namespace in (None, p.metadata.namespace) and isinstance(p, cls)]
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
        self._check()
        queue: asyncio.Queue[WatchEvent[Pod] | None] = asyncio.Queue()
        for pod in self._pods.values():
            if int(pod.metadata.resource_version or 0) > int(resource_version):
                queue.put_nowait(WatchEvent(EventType.MODIFIED, pod))
        self._watches.add(queue)
        try:
            while (event := await queue.get()) is not None:
                if isinstance(event.object, cls) and namespace in (None, event.object.metadata.namespace):
                    yield WatchEvent(event.type, event.object)
            raise Unreachable("connection reset")
        finally:
            self._watches.discard(queue)

    async def get(self, cls: type[T], key: ObjectKey) -> T:
        self._check()
        pod = self._pods.get(key)
        if not isinstance(pod, cls):
            raise NotFound(404, "NotFound", f"{key} not found")
        return pod

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
        propagation: str = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        raise AssertionError("a brain only reads")

    async def aclose(self) -> None:
        return None
