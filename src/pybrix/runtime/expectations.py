"""What a controller did that its cache does not show yet, keyed by the owner's UID.

A controller whose children have generated names would create them twice if it planned on a cache that lags behind its
own writes. It asks `is_settled(owner.uid)` first and does nothing until the cache has caught up:

    expectations.created(owner.uid, pod_uid)      # `runtime.apply` does both of these for actions with an owner
    expectations.deleted(owner.uid, pod_uid)
    if not expectations.is_settled(owner.uid): ...

Nothing is counted: each expected UID is looked up in the cache, so a missed or early event cannot upset the balance.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Any, Generic, TypeVar

from pybrix.api.identity import Uid
from pybrix.api.meta import Object
from pybrix.base.clock import Clock
from pybrix.kube.informer import Informer
from pybrix.kube.interface import EventType

T = TypeVar("T", bound=Object)

EXPIRY_S = 300.0
"""A child that never shows up (deleted while the watch was down) is forgotten after this time; as in upstream."""
OVERDUE_S = 60.0
"""A controller that must never create one too many asks the API server about children that are expected for so long."""
REMEMBERED_DELETIONS = 10_000


class Expectations(Generic[T]):
    """The children of one kind that are on their way into or out of an informer's cache."""

    def __init__(self, children: Informer[T], clock: Clock) -> None:
        self.cls = children.cls
        self._children = children
        self._clock = clock
        self._created: dict[Uid, dict[Uid, float]] = {}
        self._deleted: dict[Uid, dict[Uid, float]] = {}
        self._gone: OrderedDict[Uid, None] = OrderedDict()
        children.add_handler(self._observe)

    def created(self, owner: Uid, child: Uid) -> None:
        """Expect the cache to show a child that was just created."""
        self._created.setdefault(owner, {})[child] = self._clock.monotonic_s()

    def deleted(self, owner: Uid, child: Uid) -> None:
        """Expect the cache to show a child as terminating or gone."""
        self._deleted.setdefault(owner, {})[child] = self._clock.monotonic_s()

    def is_settled(self, owner: Uid) -> bool:
        """Say whether the cache shows everything that was done for this owner."""
        self._prune(self._created, owner, self._has_appeared)
        self._prune(self._deleted, owner, self._has_left)
        return owner not in self._created and owner not in self._deleted

    def count_unseen(self, owner: Uid) -> int:
        """Return how many children of an owner were created that the cache has not shown yet."""
        return sum(not self._has_appeared(child) for child in self._created.get(owner, ()))

    def is_overdue(self, owner: Uid) -> bool:
        """Say whether the cache owes the owner a creation for long: the API server is to be asked, see `renew`."""
        latest_s = self._clock.monotonic_s() - OVERDUE_S
        created = self._created.get(owner, {})
        return any(at_s <= latest_s and not self._has_appeared(child) for child, at_s in created.items())

    def renew(self, owner: Uid, present: Collection[Uid]) -> None:
        """Go on expecting the created children that the API server has; the others are gone again."""
        now_s = self._clock.monotonic_s()
        if kept := {child: now_s for child in self._created.pop(owner, {}) if child in present}:
            self._created[owner] = kept

    def forget(self, owner: Uid) -> None:
        """Drop what is expected for an owner that is gone."""
        self._created.pop(owner, None)
        self._deleted.pop(owner, None)

    def _prune(self, expected: dict[Uid, dict[Uid, float]], owner: Uid, is_met: Any) -> None:
        oldest_s = self._clock.monotonic_s() - EXPIRY_S
        waiting = {uid: at_s for uid, at_s in expected.pop(owner, {}).items() if at_s > oldest_s and not is_met(uid)}
        if waiting:
            expected[owner] = waiting

    def _has_appeared(self, child: Uid) -> bool:
        return self._children.by_uid(child) is not None or child in self._gone

    def _has_left(self, child: Uid) -> bool:
        seen = self._children.by_uid(child)
        return seen is None or seen.metadata.is_terminating

    def _observe(self, event: EventType, old: T | None, new: T | None) -> None:
        # A child that came and went between two looks has appeared, too.
        if event is EventType.DELETED and old is not None:
            self._gone[old.uid] = None
            if len(self._gone) > REMEMBERED_DELETIONS:
                self._gone.popitem(last=False)
