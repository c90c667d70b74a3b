"""Keep the current view: pods from informers in, views out, a few milliseconds after an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from pybrix.api.core import Pod
from pybrix.api.identity import Uid
from pybrix.base.clock import Clock
from pybrix.gateway.view.snapshot import EMPTY, ClusterView, ModelKey, PodFacts, apply, forget, podless, read_pod
from pybrix.kube.interface import EventType

DEBOUNCE_S = 0.002
"""A rollout changes several pods at once; one view for all of them is cheaper than one each."""
PODLESS_LINGER_S = 60.0
"""How long a model is known after its last pod left: clients are told to retry (503), not that it never was (404)."""

PodHandler = Callable[[EventType, Pod | None, Pod | None], None]
ViewHandler = Callable[[ClusterView, ClusterView], None]
_log = structlog.get_logger()


class PodSource(Protocol):
    """The part of an informer that a collector needs."""

    def add_handler(self, handler: PodHandler) -> None:
        """Call `handler(type, old, new)` for every pod there is and every change."""
        ...

    async def wait_synced(self) -> None: ...


class Collector:
    """Owns the current view and tells subscribers of each new one: `handler(before, after)`, in the event loop.

    Before the sources are synced, the view is the one it was started with: empty, or the last persisted one. The sync
    replaces it in one step, so that no half-listed cluster is ever seen.

    Args:
        sources: one informer for all namespaces, or one for each.
        start: the view to begin with.
    """

    def __init__(self, sources: Sequence[PodSource], clock: Clock, start: ClusterView = EMPTY) -> None:
        self._sources = tuple(sources)
        self._clock = clock
        self._view = start
        self._pending: dict[Uid, PodFacts | None] = {}
        self._wake = asyncio.Event()
        self._handlers: list[ViewHandler] = []
        self._podless_since: dict[ModelKey, float] = {}
        self._complaints: dict[Uid, str] = {}
        self.is_synced = False
        for source in self._sources:
            source.add_handler(self._on_pod)

    @property
    def view(self) -> ClusterView:
        return self._view

    def subscribe(self, handler: ViewHandler) -> None:
        self._handlers.append(handler)

    def adopt(self, view: ClusterView) -> None:
        """Show a persisted view until the sources are synced; afterwards it does nothing."""
        if not self.is_synced:
            self._publish(view)

    def _on_pod(self, event: EventType, old: Pod | None, new: Pod | None) -> None:
        # Old first: of one event it may be another object of the same name.
        if old is not None and (new is None or old.uid != new.uid):
            self._pending[old.uid] = None
            self._complaints.pop(old.uid, None)
        if new is not None:
            facts = None if event is EventType.DELETED else read_pod(new)
            self._pending[new.uid] = facts
            self._complain(new.uid, facts)
        self._wake.set()

    def _complain(self, uid: Uid, facts: PodFacts | None) -> None:
        # A mistake of a person that no readiness will mend: said once, not at every heartbeat.
        if facts is None or not facts.is_mislabelled:
            self._complaints.pop(uid, None)
        elif self._complaints.get(uid) != facts.absent_because:
            self._complaints[uid] = facts.absent_because
            _log.warning("pod is no endpoint", namespace=facts.namespace, pod=facts.name, why=facts.absent_because)

    async def run(self, synced: asyncio.Event) -> None:
        """Follow the sources until cancelled; `synced` is set when the view is theirs."""
        for source in self._sources:
            await source.wait_synced()
        self._take_over()
        synced.set()
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), self._next_forget_s())
            except TimeoutError:
                self._forget_podless()
                continue
            await asyncio.sleep(DEBOUNCE_S)
            self._flush()

    def _take_over(self) -> None:
        """Replace what was shown before the sync by what the sources hold."""
        listed, self._pending = self._pending, {}
        self._wake.clear()
        gone: dict[Uid, PodFacts | None] = {uid: None for uid in self._view.pods if uid not in listed}
        self.is_synced = True
        self._publish(apply(self._view, {**gone, **{u: f for u, f in listed.items() if f or u in self._view.pods}}))
        _log.info("view synced", models=len(self._view.models), endpoints=len(self._view.by_host))

    def _flush(self) -> None:
        changes, self._pending = self._pending, {}
        self._wake.clear()
        self._publish(apply(self._view, changes))

    def _publish(self, view: ClusterView) -> None:
        before = self._view
        if view is before:
            return
        self._view = view
        now_s = self._clock.monotonic_s()
        self._podless_since = {key: self._podless_since.get(key, now_s) for key in podless(view)}
        for handler in self._handlers:
            handler(before, view)

    def _next_forget_s(self) -> float | None:
        if not self._podless_since:
            return None
        earliest_s = min(self._podless_since.values()) + PODLESS_LINGER_S
        return max(0.0, earliest_s - self._clock.monotonic_s())

    def _forget_podless(self) -> None:
        due_s = self._clock.monotonic_s() - PODLESS_LINGER_S
        self._publish(forget(self._view, [key for key, since in self._podless_since.items() if since <= due_s]))
