"""Watches: what they tell, when they end, and how they begin.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import time

from tests.support.contract import METADATA, Api, config_map, pod

START = "k8s.io/initial-events-end"
STREAMING = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


async def version_now(api: Api) -> str:
    return str((await api.get(api.at("configmaps"))).body["metadata"]["resourceVersion"])


async def test_deletion_shows_the_last_state_at_a_newer_version(api: Api) -> None:
    version = await version_now(api)
    made = await api.create(api.at("configmaps"), config_map("a", x="1"))
    await api.delete(api.at("configmaps", "a"))
    added, deleted = await api.watch(api.at("configmaps"), until=2, resourceVersion=version)
    assert (added["type"], deleted["type"]) == ("ADDED", "DELETED")
    assert deleted["object"]["data"] == {"x": "1"}
    assert int(deleted["object"]["metadata"]["resourceVersion"]) > int(made.body["metadata"]["resourceVersion"])


async def test_marked_object_is_modified_before_it_is_deleted(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/
    version = await version_now(api)
    body = config_map("a")
    body["metadata"]["finalizers"] = ["pybrix.dev/wait"]
    await api.create(api.at("configmaps"), body)
    await api.delete(api.at("configmaps", "a"))
    await api.patch(api.at("configmaps", "a"), {"metadata": {"finalizers": None}})
    events = await api.watch(api.at("configmaps"), until=3, resourceVersion=version)
    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[1]["object"]["metadata"]["deletionTimestamp"]


async def test_one_object_is_watched_by_its_name(api: Api) -> None:
    version = await version_now(api)
    for name in "ab":
        await api.create(api.at("configmaps"), config_map(name))
    query = {"fieldSelector": "metadata.name=b", "resourceVersion": version}
    events = await api.watch(api.at("configmaps"), until=1, **query)
    assert [e["object"]["metadata"]["name"] for e in events] == ["b"]


async def test_all_namespaces_are_watched_at_once(api: Api) -> None:
    version = await version_now(api)
    await api.create(api.at("configmaps"), config_map("a", {"run": api.namespace}))
    events = await api.watch(
        "/api/v1/configmaps", until=1, labelSelector=f"run={api.namespace}", resourceVersion=version
    )
    assert events[0]["object"]["metadata"]["namespace"] == api.namespace


async def test_watch_ends_in_order_when_its_time_is_over(api: Api) -> None:
    started_s = time.monotonic()
    events = await api.watch(api.at("pods"), until=1, timeoutSeconds="1", resourceVersion=await version_now(api))
    assert events == []
    assert time.monotonic() - started_s > 0.5


async def test_events_carry_kind_and_version(api: Api) -> None:
    # A client decodes each event by itself, so that unlike the items of a list they say what they are.
    await api.create(api.at("pods"), pod("p"))
    (event,) = await api.watch(api.at("pods"), until=1)
    assert (event["object"]["apiVersion"], event["object"]["kind"]) == ("v1", "Pod")


async def test_metadata_alone_can_be_watched(api: Api) -> None:
    # #receiving-resources-as-partialobjectmetadata (metadata.k8s.io clients, garbage collectors)
    await api.create(api.at("configmaps"), config_map("a", {"mine": "1"}, x="1"))
    (event,) = await api.watch(api.at("configmaps"), until=1, accept=METADATA, labelSelector="mine")
    assert (event["object"]["kind"], event["object"]["metadata"]["name"]) == ("PartialObjectMetadata", "a")
    assert "data" not in event["object"]


# #streaming-lists


async def test_streamed_list_of_nothing_says_so_at_once(api: Api) -> None:
    (event,) = await api.watch(api.at("configmaps"), until=1, labelSelector="none=at-all", **STREAMING)
    assert event["type"] == "BOOKMARK"
    assert event["object"]["metadata"]["annotations"] == {START: "true"}
    assert (event["object"]["kind"], event["object"]["apiVersion"]) == ("ConfigMap", "v1")


async def test_streamed_list_ends_at_a_version_from_which_to_go_on(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("a", {"mine": "1"}))
    *_, end = await api.watch(api.at("configmaps"), until=2, labelSelector="mine", **STREAMING)
    await api.create(api.at("configmaps"), config_map("b", {"mine": "1"}))
    version = end["object"]["metadata"]["resourceVersion"]
    events = await api.watch(api.at("configmaps"), until=1, labelSelector="mine", resourceVersion=version)
    assert [e["object"]["metadata"]["name"] for e in events] == ["b"]


async def test_streamed_list_goes_on_as_a_watch(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("a", {"mine": "1"}))
    watching = asyncio.ensure_future(
        api.watch(api.at("configmaps"), until=3, labelSelector="mine", resourceVersion="0", **STREAMING)
    )
    await api.create(api.at("configmaps"), config_map("b", {"mine": "1"}))
    events = await watching
    assert {e["type"] for e in events} == {"ADDED", "BOOKMARK"}
    assert {e["object"]["metadata"].get("name", "") for e in events} == {"a", "b", ""}


async def test_match_without_initial_events_is_refused(api: Api) -> None:
    query = {"watch": "true", "resourceVersionMatch": "NotOlderThan", "resourceVersion": "1"}
    refused = await api.get(api.at("configmaps"), **query)
    assert (refused.code, refused.reason) == (422, "Invalid")


async def test_concurrent_watches_see_the_same_order(api: Api) -> None:
    version = await version_now(api)
    watching = [
        asyncio.ensure_future(api.watch(api.at("configmaps"), until=8, resourceVersion=version)) for _ in range(4)
    ]
    await asyncio.gather(*(api.create(api.at("configmaps"), config_map(f"c{n}")) for n in range(8)))
    seen = [[e["object"]["metadata"]["name"] for e in await w] for w in watching]
    assert all(order == seen[0] for order in seen)
    assert sorted(seen[0]) == [f"c{n}" for n in range(8)]
