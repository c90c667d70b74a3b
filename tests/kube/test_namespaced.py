"""A client that sees some namespaces only: an informer over it is as good as one over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pybrix.api.core import Node, Pod
from pybrix.api.identity import ObjectKey
from pybrix.kube.errors import Gone
from pybrix.kube.informer import Informer
from pybrix.kube.interface import Client
from pybrix.kube.namespaced import NamespacedClient
from tests.support.bare_pods import make_pod
from tests.support.memoryapi import MemoryApi

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def following(client: Client) -> AsyncIterator[Informer[Pod]]:
    informer = Informer(client, Pod)
    task = asyncio.create_task(informer.run())
    try:
        await informer.wait_synced()
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def names(informer: Informer[Pod]) -> list[str]:
    return sorted(str(pod.key) for pod in informer.list())


@pytest.mark.parametrize("namespaces", [["a"], ["a", "b"], ["a", "b", "a", "empty"]])
async def test_an_informer_sees_these_namespaces_and_follows_them(namespaces: list[str]) -> None:
    api = MemoryApi()
    for namespace in ("a", "b", "c"):
        api.put(make_pod("old", namespace=namespace))
    async with following(NamespacedClient(api, namespaces)) as informer:
        shown = sorted(set(namespaces) & {"a", "b"})
        assert names(informer) == [f"{namespace}/old" for namespace in shown]
        for namespace in ("c", "b", "a"):
            api.put(make_pod("new", namespace=namespace))
        api.remove(next(pod for pod in api.all(Pod) if pod.key == ObjectKey("a", "old")))
        await asyncio.sleep(1)
        want = ["a/new", *(["b/new", "b/old"] if "b" in namespaces else [])]
        assert names(informer) == want


async def test_watches_that_end_or_fail_lose_nothing() -> None:
    api = MemoryApi()
    async with following(NamespacedClient(api, ["a", "b"])) as informer:
        api.put(make_pod("one", namespace="b"))
        await asyncio.sleep(1)
        api.end_watches()
        api.put(make_pod("two", namespace="a"))
        await asyncio.sleep(5)
        assert names(informer) == ["a/two", "b/one"]
        api.compact()
        api.end_watches(Gone(410, "Expired", "too old"))
        api.put(make_pod("three", namespace="b"))
        await asyncio.sleep(5)
        assert names(informer) == ["a/two", "b/one", "b/three"]
        assert api.watch_count == 2
    await asyncio.sleep(0)
    assert api.watch_count == 0


async def test_a_version_of_one_namespace_is_no_version_of_several() -> None:
    stream = NamespacedClient(MemoryApi(), ["a", "b"]).watch(Pod, resource_version="7")
    with pytest.raises(Gone):
        await anext(aiter(stream))


async def test_kinds_without_namespace_and_named_namespaces_pass_through() -> None:
    api = MemoryApi()
    api.put(Node.from_dict({"metadata": {"name": "n"}}))
    api.put(make_pod("web", namespace="elsewhere"))
    client = NamespacedClient(api, ["a", "b"])
    assert len((await client.list(Node)).items) == 1
    assert len((await client.list(Pod)).items) == 0
    assert len((await client.list(Pod, "elsewhere")).items) == 1
