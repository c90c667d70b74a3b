"""Views from pod events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import pytest

from pybrix.api.core import EndpointSlice, Pod
from pybrix.api.meta import Object
from pybrix.gateway.view import collector as collector_module
from pybrix.gateway.view.collector import Collector
from pybrix.gateway.view.facts import ModelKey
from pybrix.gateway.view.snapshot import ClusterView, build_view
from pybrix.kube.interface import EventType
from tests.support.gateway import MovableClock, adapter_facts, facts, make_pod, make_slice, slice_facts, view_of

M = ModelKey("default", "m")


T = TypeVar("T", bound=Object)


class Source(Generic[T]):
    """An informer that a test speaks for."""

    def __init__(self) -> None:
        self._handlers: list[Callable[[EventType, T | None, T | None], None]] = []
        self.synced = asyncio.Event()
        self.settled = asyncio.Event()

    def add_handler(self, handler: Callable[[EventType, T | None, T | None], None]) -> None:
        self._handlers.append(handler)

    async def wait_synced(self) -> None:
        await self.synced.wait()

    async def wait_settled(self) -> None:
        await self.settled.wait()

    def sync(self) -> None:
        self.synced.set()
        self.settled.set()

    def say(self, kind: EventType, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            handler(kind, old, new)


class Following:
    def __init__(
        self, source: Source[Pod], collector: Collector, clock: MovableClock, slices: Source[EndpointSlice]
    ) -> None:
        self.source, self.collector, self.clock = source, collector, clock
        self.slices = slices
        self.changed = asyncio.Event()
        self.views: list[ClusterView] = []
        collector.subscribe(self._note)

    def _note(self, before: ClusterView, after: ClusterView) -> None:
        self.views.append(after)
        self.changed.set()

    async def next_view(self) -> ClusterView:
        async with asyncio.timeout(60):
            await self.changed.wait()
        self.changed.clear()
        return self.views[-1]


@asynccontextmanager
async def following(
    *, start: ClusterView | None = None, listed: tuple[Pod, ...] = (), slices: tuple[EndpointSlice, ...] | None = ()
) -> AsyncIterator[Following]:
    """Follow what is listed; `slices` None: the server refuses to list them."""
    source, clock, slice_source = Source[Pod](), MovableClock(), Source[EndpointSlice]()
    collector = Collector([source], clock, slices=[slice_source])
    world = Following(source, collector, clock, slice_source)
    if start is not None:
        collector.adopt(start)
        await world.next_view()
    for pod in listed:
        source.say(EventType.ADDED, None, pod)
    source.sync()
    for each in slices or ():
        slice_source.say(EventType.ADDED, None, each)
    if slices is None:
        slice_source.settled.set()
    else:
        slice_source.sync()
    synced = asyncio.Event()
    task = asyncio.ensure_future(collector.run(synced))
    try:
        async with asyncio.timeout(60):
            await synced.wait()
        world.changed.clear()
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def hosts(view: ClusterView) -> list[str]:
    return sorted(view.by_host)


async def test_what_is_listed_is_seen_at_once_and_never_half() -> None:
    async with following(listed=(make_pod("a", ip="127.64.0.1"), make_pod("b", ip="127.64.0.2"))) as world:
        assert [hosts(view) for view in world.views] == [["127.64.0.1:8000", "127.64.0.2:8000"]]


async def test_a_pod_that_turns_not_ready_leaves() -> None:
    pod = make_pod("a")
    async with following(listed=(pod,)) as world:
        world.source.say(EventType.MODIFIED, pod, make_pod("a", ready=False))
        view = await world.next_view()
        assert hosts(view) == []
        assert M in view.models


@pytest.mark.looptime
async def test_an_event_is_in_the_view_within_milliseconds() -> None:
    loop = asyncio.get_running_loop()
    async with following(listed=(make_pod("a"),)) as world:
        before_s = loop.time()
        world.source.say(EventType.MODIFIED, make_pod("a"), make_pod("a", ready=False))
        assert hosts(await world.next_view()) == []
        assert loop.time() - before_s == pytest.approx(collector_module.DEBOUNCE_S)
        assert collector_module.DEBOUNCE_S <= 0.005


async def test_events_together_make_one_view() -> None:
    async with following() as world:
        for number in range(1, 6):
            world.source.say(EventType.ADDED, None, make_pod(f"p{number}", ip=f"127.64.0.{number}"))
        assert len((await world.next_view()).by_host) == 5
        assert len(world.views) == 1


async def test_a_recreated_pod_replaces_the_old_one() -> None:
    old, new = make_pod("a", uid="old"), make_pod("a", uid="new", ip="127.64.0.7")
    async with following(listed=(old,)) as world:
        world.source.say(EventType.MODIFIED, old, new)
        assert [e.id.pod_uid for e in (await world.next_view()).models[M].endpoints] == ["new"]


async def test_the_sync_replaces_the_persisted_view_and_drops_what_is_gone() -> None:
    start = view_of(facts("gone", ip="127.64.0.1"), facts("kept", ip="127.64.0.2"))
    listed = (make_pod("kept", ip="127.64.0.2"), make_pod("new", ip="127.64.0.3"))
    async with following(start=start, listed=listed) as world:
        assert [hosts(view) for view in world.views] == [
            ["127.64.0.1:8000", "127.64.0.2:8000"],
            ["127.64.0.2:8000", "127.64.0.3:8000"],
        ]
        world.collector.adopt(start)
        assert hosts(world.collector.view) == ["127.64.0.2:8000", "127.64.0.3:8000"]


async def test_a_model_without_pods_is_forgotten_after_a_while() -> None:
    pod = make_pod("a")
    async with following(listed=(pod,)) as world:
        world.source.say(EventType.DELETED, pod, None)
        assert M in (await world.next_view()).models
        world.clock.seconds += collector_module.PODLESS_LINGER_S
        world.source.say(EventType.ADDED, None, make_pod("b", model="other"))
        await world.next_view()
        if M in world.collector.view.models:
            await world.next_view()
        assert list(world.collector.view.models) == [ModelKey("default", "other")]


A = ModelKey("default", "lora")


async def test_an_adapter_is_there_with_its_slice_and_gone_with_it() -> None:
    pod = make_pod("a", uid="u1")
    async with following(listed=(pod,)) as world:
        world.slices.say(EventType.ADDED, None, make_slice("lora", "u1"))
        assert [e.id.pod_uid for e in (await world.next_view()).models[A].endpoints] == ["u1"]
        world.slices.say(EventType.DELETED, make_slice("lora", "u1"), None)
        assert A not in (await world.next_view()).models, "nothing is left of it: no pods to wait for"


async def test_slices_that_may_not_be_read_keep_nothing_back_and_come_when_they_may() -> None:
    async with following(listed=(make_pod("a", uid="u1"),), slices=None) as world:
        assert hosts(world.collector.view) == ["127.64.0.1:8000"]
        assert list(world.collector.view.models) == [M]
        world.slices.say(EventType.ADDED, None, make_slice("lora", "u1"))
        world.slices.sync()
        assert A in (await world.next_view()).models


async def test_persisted_adapters_stay_until_slices_can_be_read() -> None:
    start = build_view([facts("a", uid="u1")], [slice_facts("lora", "u1")], [adapter_facts("lora")])
    async with following(start=start, listed=(make_pod("a", uid="u1"),), slices=None) as world:
        assert len(world.collector.view.models[A].endpoints) == 1
        world.slices.sync()
        assert A not in (await world.next_view()).models


async def test_a_missing_pod_of_a_persisted_adapter_is_no_endpoint() -> None:
    start = build_view([facts("a", uid="u1")], [slice_facts("lora", "u1")])
    async with following(start=start, listed=(), slices=None) as world:
        assert world.collector.view.models[A].endpoints == ()
