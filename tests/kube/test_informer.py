"""The informer: its contents follow the server, whatever happens to the connection or to the server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
from pybrix.kube.errors import Forbidden, Gone, TooManyRequests, Unreachable
from pybrix.kube.informer import LAST_RETRY_S, Informer
from pybrix.kube.interface import EventType
from tests.support.bare_pods import key, make_pod
from tests.support.memoryapi import MemoryApi

pytestmark = pytest.mark.looptime

Seen = list[tuple[str, str | None, str | None]]


@asynccontextmanager
async def following(api: MemoryApi, **selection: str) -> AsyncIterator[tuple[Informer[Pod], Seen]]:
    """Run an informer; give it, and what its handler hears as (event, old UID, new UID)."""
    pods = Informer(api, Pod, chance=random.Random(1), **selection)
    seen: Seen = []
    pods.add_handler(
        lambda event, old, new: seen.append((event.value, old.uid if old else None, new.uid if new else None))
    )
    task = asyncio.create_task(pods.run())
    try:
        await pods.wait_synced()
        await settle()
        yield pods, seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    """Let everything happen that is due, in virtual time: longer than the longest pause between retries."""
    await asyncio.sleep(3 * LAST_RETRY_S)


async def test_what_is_there_and_what_changes() -> None:
    api = MemoryApi()
    a = api.put(make_pod("a", app="web"))
    async with following(api) as (pods, seen):
        b = api.put(make_pod("b"))
        api.change(a, {"metadata": {"labels": {"app": "shop"}}})
        api.remove(b)
        await settle()
        got = pods.get(key("a"))
        assert got is not None
        assert got.metadata.labels == {"app": "shop"}
        assert pods.by_uid(a.uid) is got
        assert pods.get(key("b")) is None
        assert pods.by_uid(b.uid) is None
        assert seen == [
            ("ADDED", None, a.uid),
            ("ADDED", None, b.uid),
            ("MODIFIED", a.uid, a.uid),
            ("DELETED", b.uid, None),
        ]
        assert api.calls.count("list") == 1


async def test_one_name_in_two_namespaces_is_two_pods() -> None:
    api = MemoryApi()
    blue, green = api.put(make_pod("a", "blue")), api.put(make_pod("a", "green"))
    async with following(api) as (pods, _):
        pods.add_index("name", lambda pod: [pod.metadata.name])
        assert {p.uid for p in pods.by_index("name", "a")} == {blue.uid, green.uid}
        api.remove(blue)
        await settle()
        assert pods.get(ObjectKey("blue", "a")) is None
        assert pods.list("blue") == []
        assert [p.uid for p in pods.list()] == [green.uid]
        assert [p.uid for p in pods.by_index("name", "a")] == [green.uid]


async def test_recreated_under_its_name_while_watching() -> None:
    api = MemoryApi()
    old = api.put(make_pod("a"))
    async with following(api) as (pods, seen):
        api.remove(old)
        new = api.put(make_pod("a"))
        await settle()
        assert seen[1:] == [("DELETED", old.uid, None), ("ADDED", None, new.uid)]
        assert pods.by_uid(old.uid) is None


async def test_recreated_under_its_name_while_nobody_watched() -> None:
    api = MemoryApi()
    old, other = api.put(make_pod("a")), api.put(make_pod("b"))
    async with following(api) as (pods, seen):
        api.go_down()
        api.remove(old)
        api.remove(other)
        new = api.put(make_pod("a"))
        await settle()
        assert pods.by_uid(old.uid) is not None, "while the server is away the last contents stay"
        api.compact()
        api.is_down = False
        await settle()
        assert sorted(seen[2:4]) == sorted([("DELETED", old.uid, None), ("DELETED", other.uid, None)])
        assert seen[4:] == [("ADDED", None, new.uid)]
        assert [p.uid for p in pods.list()] == [new.uid]


async def test_a_server_restored_to_an_older_state() -> None:
    api = MemoryApi()
    lost = api.put(make_pod("lost"))
    kept = api.put(make_pod("kept"))
    older = Pod.from_dict(kept.to_dict() | {"status": {"phase": "Pending"}})
    older.metadata.resource_version = "3"
    async with following(api) as (pods, seen):
        api.go_down()
        api.restore(5, older)
        await settle()
        api.is_down = False
        await settle()
        assert seen[2:] == [("DELETED", lost.uid, None), ("MODIFIED", kept.uid, kept.uid)]
        api.put(make_pod("next"))
        await settle()
        assert pods.get(key("next")) is not None


async def test_an_expired_watch_lists_again_and_repeats_nothing() -> None:
    api = MemoryApi()
    api.put(make_pod("a"))
    async with following(api) as (_, seen):
        api.compact()
        api.end_watches(Gone(410, "Expired", "too old"))
        await settle()
        assert api.calls.count("list") == 2
        assert len(seen) == 1
        assert api.watch_count == 1


async def test_a_watch_that_ends_by_itself_goes_on_where_it_was() -> None:
    api = MemoryApi()
    api.put(make_pod("a"))
    async with following(api) as (pods, seen):
        for number in range(5):
            api.put(make_pod(f"n{number}"))
            await settle()
            api.end_watches()
        await settle()
        assert len(pods.list()) == 6
        assert len(seen) == 6
        assert api.calls.count("list") == 1


async def test_a_server_that_ends_every_watch_at_once_is_not_hammered() -> None:
    api = MemoryApi()
    async with following(api):
        before = len(api.calls)
        for _ in range(600):
            api.end_watches()
            await asyncio.sleep(0.1)
        assert len(api.calls) - before < 30


async def test_a_server_that_is_away_is_asked_ever_less_often_and_ages() -> None:
    api = MemoryApi()
    async with following(api) as (pods, _):
        last = pods.last_contact_s
        api.go_down()
        before = len(api.calls)
        await asyncio.sleep(600)
        assert 50 < len(api.calls) - before < 200
        assert pods.last_contact_s == last
        assert pods.has_synced
        api.is_down = False
        await settle()
        assert pods.last_contact_s is not None
        assert last is not None
        assert pods.last_contact_s > last + 600


async def test_bookmarks_keep_the_cache_young_and_move_the_version_on() -> None:
    api = MemoryApi()
    api.put(make_pod("a"))
    async with following(api) as (pods, seen):
        # Changes of other kinds move the server's revision, and its history of old ones goes.
        api.revision += 1000
        api.bookmark(Pod)
        await asyncio.sleep(0.1)
        assert pods.last_contact_s == pytest.approx(asyncio.get_running_loop().time(), abs=0.2)
        api.compact()
        await settle()
        api.end_watches()
        await settle()
        assert api.calls.count("list") == 1
        assert len(seen) == 1


async def test_a_missing_kind_parks_until_it_appears() -> None:
    api = MemoryApi()
    api.missing.add("Pod")
    pods = Informer(api, Pod, chance=random.Random(1))
    task = asyncio.create_task(pods.run())
    await settle()
    assert pods.is_parked
    assert not pods.has_synced
    api.put(make_pod("a"))
    api.missing.clear()
    await pods.wait_synced()
    assert not pods.is_parked
    assert len(pods.list()) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_throttling_server_gets_the_time_it_asks_for() -> None:
    api = MemoryApi()
    api.fail_next("list", TooManyRequests(429, "TooManyRequests", "later", {"retryAfterSeconds": 40}))
    began_s = asyncio.get_running_loop().time()
    async with following(api):
        assert asyncio.get_running_loop().time() - began_s >= 40


async def test_selectors_reach_the_server() -> None:
    api = MemoryApi()
    api.put(make_pod("a", app="web"))
    api.put(make_pod("b", app="shop"))
    api.put(make_pod("c", "other", app="web"))
    async with following(api, namespace="default", label_selector="app=web") as (pods, _):
        assert [p.metadata.name for p in pods.list()] == ["a"]


async def test_an_index_follows_changes_and_covers_what_is_there() -> None:
    api = MemoryApi()
    a = api.put(make_pod("a", app="web"))
    async with following(api) as (pods, _):
        pods.add_index("app", _app)
        pods.add_index("app", _app)  # Another user of the same informer.
        assert [p.uid for p in pods.by_index("app", "web")] == [a.uid]
        api.change(a, {"metadata": {"labels": {"app": "shop"}}})
        await settle()
        assert pods.by_index("app", "web") == []
        assert [p.uid for p in pods.by_index("app", "shop")] == [a.uid]
        with pytest.raises(ValueError, match="another index 'app'"):
            pods.add_index("app", lambda _: [])


async def test_a_failing_handler_keeps_nobody_else_from_the_news() -> None:
    api = MemoryApi()
    pods = Informer(api, Pod, chance=random.Random(1))
    heard: list[EventType] = []

    def fail(event: EventType, old: Pod | None, new: Pod | None) -> None:
        raise RuntimeError("a fault")

    pods.add_handler(fail)
    pods.add_handler(lambda event, old, new: heard.append(event))
    task = asyncio.create_task(pods.run())
    await pods.wait_synced()
    api.put(make_pod("a"))
    await settle()
    assert heard == [EventType.ADDED]
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_late_handler_hears_of_what_is_there() -> None:
    api = MemoryApi()
    a = api.put(make_pod("a"))
    async with following(api) as (pods, _):
        heard: list[str] = []
        pods.add_handler(lambda event, old, new: heard.append(new.uid if new else ""))
        assert heard == [a.uid]


async def test_other_failures_of_a_watch_lead_to_a_list() -> None:
    api = MemoryApi()
    api.put(make_pod("a"))
    async with following(api) as (_, seen):
        api.end_watches(Unreachable("reset"))
        await settle()
        assert api.calls.count("list") == 2
        assert len(seen) == 1


def _app(pod: Pod) -> list[str]:
    return [pod.metadata.labels.get("app", "")]


@pytest.mark.parametrize("refused", ["it is unknown", "it is forbidden"])
async def test_a_reader_that_can_do_without_a_kind_waits_no_longer_than_the_servers_no(refused: str) -> None:
    api = MemoryApi()
    if refused == "it is unknown":
        api.missing.add("Pod")
    else:
        api.fail_next("list", Forbidden(403, "Forbidden", "no right to list pods"))
    pods = Informer(api, Pod, chance=random.Random(1))
    task = asyncio.create_task(pods.run())
    await pods.wait_settled()
    assert (pods.has_synced, pods.is_parked, pods.is_forbidden) == (
        False,
        refused == "it is unknown",
        refused == "it is forbidden",
    )
    api.missing.clear()
    await pods.wait_synced()
    assert (pods.is_parked, pods.is_forbidden) == (False, False)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
