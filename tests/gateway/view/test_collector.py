"""Views from pod events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pybrix.api.core import Pod
from pybrix.gateway.view import collector as collector_module
from pybrix.gateway.view.collector import Collector, PodHandler
from pybrix.gateway.view.snapshot import ClusterView, ModelKey
from pybrix.kube.interface import EventType
from tests.support.gateway import MovableClock, facts, make_pod, view_of

M = ModelKey("default", "m")


class Source:
    """An informer that a test speaks for."""

    def __init__(self) -> None:
        self._handlers: list[PodHandler] = []
        self.synced = asyncio.Event()

    def add_handler(self, handler: PodHandler) -> None:
        self._handlers.append(handler)

    async def wait_synced(self) -> None:
        await self.synced.wait()

    def say(self, kind: EventType, old: Pod | None, new: Pod | None) -> None:
        for handler in self._handlers:
            handler(kind, old, new)


class Following:
    def __init__(self, source: Source, collector: Collector, clock: MovableClock) -> None:
        self.source, self.collector, self.clock = source, collector, clock
        self.changed = asyncio.Event()
        self.views: list[ClusterView] = []
        collector.subscribe(self._note)

    def _note(self, before: ClusterView, after: ClusterView) -> None:
        self.views.append(after)
        self.changed.set()

    async def next_view(self) -> ClusterView:
        async with asyncio.timeout(5):
            await self.changed.wait()
        self.changed.clear()
        return self.views[-1]


@asynccontextmanager
async def following(*, start: ClusterView | None = None, listed: tuple[Pod, ...] = ()) -> AsyncIterator[Following]:
    source, clock = Source(), MovableClock()
    collector = Collector([source], clock)
    world = Following(source, collector, clock)
    if start is not None:
        collector.adopt(start)
        await world.next_view()
    for pod in listed:
        source.say(EventType.ADDED, None, pod)
    source.synced.set()
    synced = asyncio.Event()
    task = asyncio.ensure_future(collector.run(synced))
    try:
        async with asyncio.timeout(5):
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
