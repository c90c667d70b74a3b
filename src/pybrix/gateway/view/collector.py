"""Keep the current view: pods, slices and adapters from informers in, views out, a few milliseconds after an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog

from pybrix.api.core import EndpointSlice, Pod
from pybrix.api.identity import Uid
from pybrix.api.meta import Object
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.base.clock import Clock
from pybrix.gateway.view.facts import (
    AdapterFacts,
    ModelKey,
    PodFacts,
    SliceFacts,
    read_adapter,
    read_pod,
    read_slice,
)
from pybrix.gateway.view.snapshot import EMPTY, ClusterView, ModelView, apply, forget, podless
from pybrix.kube.interface import EventType
from pybrix.kube.permissions import READ, Permission

PERMISSIONS = (
    Permission("", ("pods",), READ),
    Permission("discovery.k8s.io", ("endpointslices",), READ),
    Permission("model.aibrix.ai", ("modeladapters",), READ),
)
DEBOUNCE_S = 0.002
"""A rollout changes several pods at once; one view for all of them is cheaper than one each."""
PODLESS_LINGER_S = 60.0
"""How long a model is known after its last pod left: clients are told to retry (503), not that it never was (404)."""

_Kind = TypeVar("_Kind", bound=Object)
_Told = TypeVar("_Told", bound=Object, covariant=True)
_Facts = TypeVar("_Facts", PodFacts, SliceFacts, AdapterFacts)
ViewHandler = Callable[[ClusterView, ClusterView], None]
_log = structlog.get_logger()


class Source(Protocol[_Told]):
    """The part of an informer that a collector needs."""

    def add_handler(self, handler: Callable[[EventType, _Told | None, _Told | None], None], /) -> None:
        """Call `handler(type, old, new)` for every object there is and every change."""
        ...

    async def wait_synced(self) -> None: ...

    async def wait_settled(self) -> None:
        """Return when synced, or when the server has said that the kind cannot be read now."""
        ...


class _Feed(Generic[_Kind, _Facts]):
    """What one kind's sources have said and the view does not know yet."""

    def __init__(
        self, sources: Sequence[Source[_Kind]], read: Callable[[_Kind], _Facts | None], changed: Callable[[], None]
    ) -> None:
        self.sources = tuple(sources)
        self.is_synced = False
        """Whether the sources were complete once and the view has taken that over."""
        self._read: Callable[[_Kind], _Facts | None] = read
        self._changed = changed
        self._pending: dict[Uid, _Facts | None] = {}
        for source in self.sources:
            source.add_handler(self._on_event)

    def _on_event(self, event: EventType, old: _Kind | None, new: _Kind | None) -> None:
        # Old first: of one event it may be another object of the same name.
        if old is not None and (new is None or old.metadata.uid != new.metadata.uid):
            self._pending[old.metadata.uid] = None
        if new is not None:
            self._pending[new.metadata.uid] = None if event is EventType.DELETED else self._read(new)
        self._changed()

    def drain(self, known: Mapping[Uid, _Facts], *, is_complete: bool) -> dict[Uid, _Facts | None]:
        """Return the changes since the last time.

        Args:
            known: what the view has of this kind.
            is_complete: the sources have just been synced: what they have not said is gone.
        """
        changes, self._pending = self._pending, {}
        if is_complete:
            self.is_synced = True
            changes |= {uid: None for uid in known if uid not in changes}
        return {uid: facts for uid, facts in changes.items() if facts is not None or uid in known}


class Collector:
    """Owns the current view and tells subscribers of each new one: `handler(before, after)`, in the event loop.

    Before the pods are synced, the view is the one it was started with: empty, or the last persisted one. The sync
    replaces it in one step, so that no half-listed cluster is ever seen. Slices and adapters that cannot be read (their
    CRD or the right to read them is missing) keep nothing back: the view has none, or the persisted ones, until they
    can.

    Args:
        pods: one informer for all namespaces, or one for each.
        slices: the same, of EndpointSlices with the label of adapters.
        adapters: the same, of ModelAdapters.
        start: the view to begin with.
    """

    def __init__(
        self,
        pods: Sequence[Source[Pod]],
        clock: Clock,
        start: ClusterView = EMPTY,
        *,
        slices: Sequence[Source[EndpointSlice]] = (),
        adapters: Sequence[Source[ModelAdapter]] = (),
    ) -> None:
        self._clock = clock
        self._view = start
        self._wake = asyncio.Event()
        self._handlers: list[ViewHandler] = []
        self._podless_since: dict[ModelKey, float] = {}
        self._complaints: dict[ModelKey, frozenset[tuple[str, str]]] = {}
        self._pods: _Feed[Pod, PodFacts] = _Feed(pods, read_pod, self._wake.set)
        self._slices: _Feed[EndpointSlice, SliceFacts] = _Feed(slices, read_slice, self._wake.set)
        self._adapters: _Feed[ModelAdapter, AdapterFacts] = _Feed(adapters, read_adapter, self._wake.set)
        self._complete: set[_Feed[Any, Any]] = set()

    @property
    def view(self) -> ClusterView:
        return self._view

    @property
    def is_synced(self) -> bool:
        """Whether the view is that of the sources."""
        return self._pods.is_synced

    def subscribe(self, handler: ViewHandler) -> None:
        self._handlers.append(handler)

    def adopt(self, view: ClusterView) -> None:
        """Show a persisted view until the sources are synced; afterwards it does nothing."""
        if not self.is_synced:
            self._publish(view)

    async def run(self, synced: asyncio.Event) -> None:
        """Follow the sources until cancelled; `synced` is set when the view is theirs."""
        async with asyncio.TaskGroup() as tasks:
            for feed in (self._pods, self._slices, self._adapters):
                tasks.create_task(self._note_complete(feed))
            for source in self._pods.sources:
                await source.wait_synced()
            others: list[Source[Any]] = [*self._slices.sources, *self._adapters.sources]
            for other in others:
                await other.wait_settled()
            # The tasks above say of the same moment which feeds are complete.
            await asyncio.sleep(0)
            self._flush()
            _log.info("view synced", models=len(self._view.models), endpoints=len(self._view.by_host))
            synced.set()
            while True:
                try:
                    # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with the event.
                    async with asyncio.timeout(self._next_forget_s()):
                        await self._wake.wait()
                except TimeoutError:
                    self._forget_podless()
                    continue
                await asyncio.sleep(DEBOUNCE_S)
                self._flush()

    async def _note_complete(self, feed: _Feed[Any, Any]) -> None:
        for source in feed.sources:
            await source.wait_synced()
        self._complete.add(feed)
        self._wake.set()

    def _flush(self) -> None:
        """Bring the view up to date with every kind that is complete."""
        self._wake.clear()
        view = apply(
            self._view,
            self._changes(self._pods, self._view.pods),
            self._changes(self._slices, self._view.slices),
            self._changes(self._adapters, self._view.adapters),
        )
        # A base model may lack pods between two of them; an adapter of which nothing is left was deleted.
        self._publish(forget(view, [key for key in podless(view) if self._view.is_adapter(key)]))

    def _changes(self, feed: _Feed[Any, _Facts], known: Mapping[Uid, _Facts]) -> dict[Uid, _Facts | None]:
        if feed not in self._complete:
            return {}
        return feed.drain(known, is_complete=not feed.is_synced)

    def _publish(self, view: ClusterView) -> None:
        before = self._view
        if view is before:
            return
        self._view = view
        now_s = self._clock.monotonic_s()
        self._podless_since = {key: self._podless_since.get(key, now_s) for key in podless(view)}
        self._complain(before, view)
        for handler in self._handlers:
            handler(before, view)

    def _complain(self, before: ClusterView, view: ClusterView) -> None:
        for key, model in view.models.items():
            if model is not before.models.get(key):
                said = _mistakes(model)
                for why, of in sorted(said - self._complaints.get(key, frozenset())):
                    _log.warning("not routed to", namespace=key.namespace, model=key.model, of=of, why=why)
                self._complaints[key] = said
        for key in [known for known in self._complaints if known not in view.models]:
            del self._complaints[key]

    def _next_forget_s(self) -> float | None:
        if not self._podless_since:
            return None
        earliest_s = min(self._podless_since.values()) + PODLESS_LINGER_S
        return max(0.0, earliest_s - self._clock.monotonic_s())

    def _forget_podless(self) -> None:
        due_s = self._clock.monotonic_s() - PODLESS_LINGER_S
        self._publish(forget(self._view, [key for key, since in self._podless_since.items() if since <= due_s]))


def _mistakes(model: ModelView) -> frozenset[tuple[str, str]]:
    """Return what only a person can mend, and of which pod: said once, not at every heartbeat."""
    found = {(pod.absent_because, pod.name) for pod in model.pods if pod.is_mislabelled}
    if model.is_shadowed:
        found.add(("a base model of this namespace has the adapter's name", "ModelAdapter"))
    return frozenset(found)
