"""Objects as a controller knows them: from its cache, or from its own writes where the cache lags behind.

A pass that plans on a cache without the controller's own last write ends in a conflict, or does the same again. With
this view it need not wait for the cache either:

    slices = OwnView(manager.informer(EndpointSlice), manager.applier, clock)
    slices.current(cached)                 # the newer of both
    slices.of_controller(cached, owner)    # what an owner controls: created ones included, deleted ones not
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.base.clock import Clock
from pybrix.kube.informer import Informer
from pybrix.kube.interface import EventType
from pybrix.runtime.apply import Applier

T = TypeVar("T", bound=Object)

EXPIRY_S = 60.0
"""A write that the cache never shows (the object was deleted while the watch was down) is forgotten after this time."""


class OwnView(Generic[T]):
    """The objects of one kind, at least as new as this process wrote them."""

    def __init__(self, informer: Informer[T], applier: Applier, clock: Clock) -> None:
        self._informer = informer
        self._clock = clock
        self._newer: dict[Uid, tuple[T, float]] = {}
        self._written: dict[Uid, str] = {}
        self._gone: dict[Uid, float] = {}
        informer.add_handler(self._observe)
        applier.tell_writes(self)

    def get(self, key: ObjectKey) -> T | None:
        """Return the object of that name as it is known best; None when there is none, or it was deleted here."""
        cached = self._informer.get(key)
        if cached is not None:
            return None if self._is_gone(cached.uid) else self.current(cached)
        return next((obj for uid in list(self._newer) if (obj := self._own(uid)) and obj.key == key), None)

    def current(self, obj: T) -> T:
        """Return an object, or a newer one of its UID that the cache has or that was written here."""
        known = (obj, self._informer.by_uid(obj.uid), self._own(obj.uid))
        return max((found for found in known if found is not None), key=version_of)

    def of_controller(self, cached: Iterable[T], owner: Uid) -> list[T]:
        """Return an owner's objects as they are known best, those included that the cache does not show yet."""
        found = {obj.uid: self.current(obj) for obj in cached if not self._is_gone(obj.uid)}
        for uid in list(self._newer):
            own = self._own(uid)
            controller = own.metadata.controller if own is not None else None
            if own is not None and uid not in found and controller is not None and controller.uid == owner:
                found[uid] = own
        return list(found.values())

    def is_own(self, obj: T) -> bool:
        """Say whether this is exactly what was last written here: no news to the one who wrote it."""
        return self._written.get(obj.uid) == obj.metadata.resource_version

    def is_newer(self, obj: T) -> bool:
        """Say whether an object is newer than anything that was written here."""
        return version_of(obj) > int(self._written.get(obj.uid, 0))

    def wrote(self, obj: Object) -> None:
        if not isinstance(obj, self._informer.cls):
            return
        self._written[obj.uid] = obj.metadata.resource_version
        cached = self._informer.by_uid(obj.uid)
        # The event of a write may come before its answer.
        if cached is None or version_of(cached) < version_of(obj):
            self._newer[obj.uid] = (obj, self._clock.monotonic_s())

    def deleted(self, cls: type[Object], uid: Uid) -> None:
        if cls is not self._informer.cls:
            return
        self._newer.pop(uid, None)
        if self._informer.by_uid(uid) is not None:
            self._gone[uid] = self._clock.monotonic_s()

    def _own(self, uid: Uid) -> T | None:
        if (known := self._newer.get(uid)) is None:
            return None
        if self._clock.monotonic_s() - known[1] > EXPIRY_S:
            del self._newer[uid]
            return None
        return known[0]

    def _is_gone(self, uid: Uid) -> bool:
        since_s = self._gone.get(uid)
        if since_s is not None and self._clock.monotonic_s() - since_s > EXPIRY_S:
            # A finalizer of somebody's keeps it.
            del self._gone[uid]
            return False
        return since_s is not None

    def _observe(self, event: EventType, old: T | None, new: T | None) -> None:
        if new is not None and (own := self._newer.get(new.uid)) and version_of(new) >= version_of(own[0]):
            del self._newer[new.uid]
        if event is EventType.DELETED and old is not None:
            for known in (self._newer, self._written, self._gone):
                known.pop(old.uid, None)


def version_of(obj: Object) -> int:
    """Return the resource version as a number, which it is and grows: KEP-5504."""
    return int(obj.metadata.resource_version or 0)
