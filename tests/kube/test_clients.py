"""What every implementation of `kube.interface.Client` does: the one in memory, and HTTP against the embedded server.

Fakes that pass here can be trusted by the tests that use them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.core import ConfigMap
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import ObjectMeta
from pybrix.kube.errors import AlreadyExists, Conflict, NotFound, StatusError
from pybrix.kube.interface import Client, EventType
from tests.support.embedded import embedded
from tests.support.memoryapi import MemoryApi


@pytest.fixture(params=["memory", "embedded"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    if request.param == "memory":
        yield MemoryApi()
        return
    async with embedded(tmp_path) as server, server.client() as http:
        yield http


def make(name: str = "a", namespace: str = "default", data: str = "1", **labels: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels), data={"key": data})


async def names(client: Client, namespace: str | None = "default", **selectors: str) -> list[str]:
    # A cluster has objects of its own; the ones of these tests carry labels or have short names.
    found = await client.list(ConfigMap, namespace, **selectors)
    return sorted(o.metadata.name for o in found.items if len(o.metadata.name) < 3)


async def test_what_is_created_can_be_read(client: Client) -> None:
    created = await client.create(make(app="web"))
    assert created.uid
    assert created.metadata.resource_version
    assert created.metadata.creation_timestamp
    got = await client.get(ConfigMap, created.key)
    assert got == created
    assert (got.data, got.metadata.labels) == ({"key": "1"}, {"app": "web"})


async def test_a_name_is_taken_once_per_namespace(client: Client) -> None:
    await client.create(make("a", "default"))
    await client.create(make("a", "kube-system"))
    with pytest.raises(AlreadyExists):
        await client.create(make("a", "default"))


async def test_generated_names_differ(client: Client) -> None:
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap"}
    body["metadata"] = {"generateName": "x-", "namespace": "default"}
    made = [(await client.create_raw(body))["metadata"]["name"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(name.startswith("x-") and len(name) > 2 for name in made)


async def test_raw_objects_keep_their_fields_and_get_an_identity(client: Client) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "default"},
        "data": {"k": "v"},
    }
    created = await client.create_raw(body)
    assert created["data"] == {"k": "v"}
    assert (await client.get(ConfigMap, ObjectKey("default", "a"))).uid == created["metadata"]["uid"]


async def test_selectors_and_namespaces_narrow_a_list(client: Client) -> None:
    await client.create(make("a", app="web"))
    await client.create(make("b", app="shop"))
    await client.create(make("c", "kube-system", app="web"))
    assert await names(client) == ["a", "b"]
    assert await names(client, None, label_selector="app=web") == ["a", "c"]
    assert await names(client, None, label_selector="app in (web,shop),app!=web") == ["b"]
    assert await names(client, None, field_selector="metadata.name=c") == ["c"]


async def test_a_patch_of_the_observed_version_changes_it(client: Client) -> None:
    seen = await client.create(make(app="web"))
    version = seen.metadata.resource_version
    patch = {"data": {"key": None, "other": "2"}, "metadata": {"labels": {"app": "shop"}}}
    changed = await client.patch(ConfigMap, seen.key, patch, resource_version=version)
    assert (changed.data, changed.metadata.labels) == ({"other": "2"}, {"app": "shop"})
    assert changed.uid == seen.uid
    assert changed.metadata.resource_version != version
    with pytest.raises(Conflict) as refusal:
        await client.patch(ConfigMap, seen.key, {"data": {"other": "3"}}, resource_version=version)
    assert not isinstance(refusal.value, AlreadyExists)
    assert (await client.get(ConfigMap, seen.key)).data == {"other": "2"}


async def test_a_patch_that_changes_nothing_keeps_the_version(client: Client) -> None:
    seen = await client.create(make())
    again = await client.patch(ConfigMap, seen.key, {"data": {"key": "1"}})
    assert again.metadata.resource_version == seen.metadata.resource_version


async def test_what_is_not_there_is_not_found(client: Client) -> None:
    key = ObjectKey("default", "gone")
    with pytest.raises(NotFound):
        await client.get(ConfigMap, key)
    with pytest.raises(NotFound):
        await client.patch(ConfigMap, key, {"data": {"a": "b"}})
    with pytest.raises(NotFound):
        await client.delete(ConfigMap, key)


async def test_deleting_another_life_of_a_name_is_a_conflict(client: Client) -> None:
    old = await client.create(make())
    await client.delete(ConfigMap, old.key, uid=old.uid)
    new = await client.create(make())
    assert new.uid != old.uid
    with pytest.raises(Conflict):
        await client.delete(ConfigMap, new.key, uid=Uid(old.uid))
    assert (await client.get(ConfigMap, new.key)).uid == new.uid


async def test_a_watch_goes_on_from_a_list_and_misses_nothing(client: Client) -> None:
    a = await client.create(make("a", app="web"))
    listed = await client.list(ConfigMap, "default", label_selector="app=web")
    await client.patch(ConfigMap, a.key, {"data": {"key": "2"}})
    b = await client.create(make("b", app="web"))
    await client.create(make("c", app="shop"))
    await client.create(make("d", "kube-system", app="web"))
    await client.delete(ConfigMap, a.key)
    seen: list[tuple[str, str, str]] = []
    version = listed.resource_version
    watch = client.watch(ConfigMap, "default", resource_version=version, label_selector="app=web")
    async with asyncio.timeout(60), aclosing(watch) as events:  # type: ignore[type-var]
        async for event in events:
            if event.type is not EventType.BOOKMARK:
                seen.append((event.type.value, event.object.uid, event.object.data["key"]))
                assert int(event.object.metadata.resource_version) > int(version)
            if len(seen) == 3:
                break
    assert seen == [("MODIFIED", a.uid, "2"), ("ADDED", b.uid, "1"), ("DELETED", a.uid, "2")]


async def test_a_version_of_the_future_is_refused(client: Client) -> None:
    listed = await client.list(ConfigMap)
    watch = client.watch(ConfigMap, resource_version=str(int(listed.resource_version) + 10_000))
    async with asyncio.timeout(60), aclosing(watch) as events:  # type: ignore[type-var]
        with pytest.raises(StatusError, match=r"(?i)too large resource version"):
            await anext(events)
