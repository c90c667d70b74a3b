"""Delete Events that are over: the shell around `plan`, on the cluster's own store."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from pybrix.base.clock import Clock
from pybrix.cluster.store.history import Change
from pybrix.cluster.store.store import Store
from pybrix.cluster.workloads.eventexpiry.plan import plan, read_note
from pybrix.cluster.workloads.storeloop import Objects, StoreLoop
from pybrix.kube.errors import NotFound

EVENTS = "events"

_log = structlog.get_logger(controller="eventexpiry")


class EventExpiry:
    """Sweep the Events whenever the oldest is over; new Events are no reason to look."""

    def __init__(self, store: Store, objects: Objects, clock: Clock) -> None:
        self._store = store
        self._objects = objects
        self._clock = clock

    def start(self) -> Iterable[str]:
        return [EVENTS]

    def observe(self, change: Change) -> Iterable[str]:
        return []

    def work(self, key: str) -> float | None:
        notes = [read_note(stored.key, stored.uid, stored.data) for stored in self._store.list(EVENTS)]
        over, again_s = plan(notes, self._clock.now())
        for note in over:
            try:
                self._objects.delete(EVENTS, note.key, uid=note.uid)
            except NotFound:
                continue
        if over:
            _log.info("events expired", count=len(over))
        return again_s


def event_expiry_loop(store: Store, objects: Objects, clock: Clock) -> StoreLoop[str]:
    """Return the loop that deletes old Events."""
    return StoreLoop("eventexpiry", store, EventExpiry(store, objects, clock), resource=EVENTS)
