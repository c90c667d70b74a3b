"""Patches of the object that a controller is about, and waiting until its own cache shows them.

A pass on a cache that lags behind the controller's own last write can only end in a conflict. The change that ends the
wait is an event of its own, so a reconciler that finds `is_visible` false just returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import structlog

from pybrix.api.identity import Uid
from pybrix.api.meta import Object
from pybrix.kube.informer import Informer
from pybrix.kube.interface import Client, EventType

T = TypeVar("T", bound=Object)
LAG_S = 5.0
"""When to look again if the cache does not catch up with our own writes."""

_log = structlog.get_logger()


class OwnWrites(Generic[T]):
    """The versions that one controller wrote of one kind and its cache does not show yet."""

    def __init__(self, client: Client, informer: Informer[T]) -> None:
        self._client = client
        self._informer = informer
        self._written: dict[Uid, int] = {}
        informer.add_handler(self._observe)

    def is_visible(self, uid: Uid) -> bool:
        """Say whether the cache shows the object as it was last written here, or newer."""
        return uid not in self._written

    async def patch(self, obj: T, patch: Mapping[str, Any], why: str, *, subresource: str = "") -> T:
        """Merge-patch an object as it was observed, and return it as it is then. An empty patch is not sent.

        Raises:
            Conflict: the object is newer.
        """
        if not patch:
            return obj
        changed = await self._client.patch(
            self._informer.cls,
            obj.key,
            patch,
            subresource=subresource,
            resource_version=obj.metadata.resource_version,
        )
        _log.info("patched", kind=obj.gvk.kind, key=str(obj.key), subresource=subresource, why=why)
        seen = self._informer.by_uid(changed.uid)
        # The event of a write may come before its answer; and an object that is gone has no further event.
        if seen is not None and _version(seen) < _version(changed):
            self._written[changed.uid] = _version(changed)
        return changed

    async def patch_status(self, obj: T, difference: Mapping[str, Any], why: str) -> T:
        """Merge-patch the fields of `status` that differ."""
        return await self.patch(obj, {"status": difference} if difference else {}, why, subresource="status")

    def _observe(self, event: EventType, old: T | None, new: T | None) -> None:
        if new is not None and _version(new) >= self._written.get(new.uid, 0):
            self._written.pop(new.uid, None)
        if event is EventType.DELETED and old is not None:
            self._written.pop(old.uid, None)


def _version(obj: Object) -> int:
    # Versions of one resource are numbers that grow: https://kubernetes.io/docs/reference/using-api/api-concepts/
    return int(obj.metadata.resource_version)
