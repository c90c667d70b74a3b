"""A KVCache's life on an API in memory."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from pybrix.api.apps import Deployment, StatefulSet
from pybrix.api.core import Pod, Secret, Service
from pybrix.api.meta import ObjectMeta
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.controllers.kvcache.controller import KVCACHE, KVCacheKind
from tests.support.caches import CacheWorld, MemoryStore
from tests.support.permissions import RecordingClient, Use, check_permissions

pytestmark = pytest.mark.looptime

PREFIX = "kvcache.orchestration.aibrix.ai"
EXTERNAL = {"redis": {"externalConnection": {"address": "r:6379", "passwordSecretRef": "held"}}}


def manifest(name: str = "c", backend: str = "infinistore", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "KVCache",
        "metadata": {"name": name, "namespace": "default", "annotations": {f"{PREFIX}/backend": backend}},
        "spec": {"cache": {"image": "img", "replicas": 2}, **spec},
    }


def held(password: str) -> Secret:
    data = {"password": base64.b64encode(password.encode()).decode()}
    return Secret(metadata=ObjectMeta(name="held", namespace="default"), data=data)


@pytest.fixture
def world() -> CacheWorld:
    return CacheWorld()


async def test_it_publishes_itself_without_a_watcher(world: CacheWorld) -> None:
    cache = world.add(manifest(metadata={"redis": {"runtime": {}}}, watcher={"image": "w"}))
    owner = {"apiVersion": "orchestration.aibrix.ai/v1alpha1", "kind": "KVCache", "name": "c", "controller": True}
    labels = {f"{PREFIX}/name": "c", f"{PREFIX}/role": "kvwatcher"}
    reference = {**owner, "uid": cache.uid}
    world.api.put(
        Pod.from_dict(
            {"metadata": {"name": "w", "namespace": "default", "labels": labels, "ownerReferences": [reference]}}
        )
    )
    async with world.controlling(KVCACHE, KVCacheKind):
        await asyncio.sleep(10)
        assert world.names(Pod) == {"c-0", "c-1", "c-redis-0"}
        assert {n.name: n.port for n in world.record("kvcache_nodes").nodes} == {"c-0": 12345, "c-1": 12345}
        assert world.get(KVCache, "c").status.current == 2
        assert world.reasons(cache) == {
            "Ready": "True Available",
            "Progressing": "False Settled",
            "MetadataReachable": "True Answering",
            "MembershipPublished": "True Published",
            "UnsupportedField": "True FieldHasNoEffect",
        }
        world.delete(world.get(KVCache, "c"))
        await asyncio.sleep(5)
        assert world.names(KVCache) == world.names(StatefulSet) == set()


async def test_a_second_cache_with_the_same_redis_is_told_so(world: CacheWorld) -> None:
    world.api.put(held("p"))
    world.add(manifest("one", metadata=EXTERNAL))
    async with world.controlling(KVCACHE, KVCacheKind):
        await asyncio.sleep(3)
        two = world.add(manifest("two", metadata=EXTERNAL))
        await asyncio.sleep(3)
        assert world.reasons(two)["MembershipPublished"] == "False KeyTaken"
        assert "KVCache default/one" in world.message(two, "MembershipPublished")
        assert world.record("kvcache_nodes").owner == "KVCache default/one"
        world.delete(world.get(KVCache, "one"))
        await asyncio.sleep(30)
        assert world.record("kvcache_nodes").owner == "KVCache default/two"


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"metadata": {"redis": {"externalConnection": {"address": "other:6379"}}}}},
        {"spec": {"watcher": {"image": "w", "env": [{"name": "REDIS_DATABASE", "value": "3"}]}}},
        {"metadata": {"annotations": {f"{PREFIX}/backend": "hpkv"}}},
        {"spec": {"metadata": None}},
        {"spec": {"metadata": {"redis": {"externalConnection": None, "runtime": {}}}}},
    ],
    ids=["address", "database", "backend", "nowhere", "managed"],
)
async def test_what_was_published_elsewhere_goes_though_the_controller_died_at_the_switch(
    world: CacheWorld, change: dict[str, Any]
) -> None:
    old = world.others["r:6379"] = MemoryStore()
    world.api.put(held("p"))
    watcher = {"image": "w", "env": [{"name": "REDIS_DATABASE", "value": "0"}]}
    world.add(manifest(metadata=EXTERNAL, watcher=watcher))
    async with world.controlling(KVCACHE, KVCacheKind):
        await asyncio.sleep(3)
    assert "kvcache_nodes" in old.content
    world.others["r:6379/3"] = world.store
    world.api.change(world.get(KVCache, "c"), change)
    async with world.controlling(KVCACHE, KVCacheKind):
        await asyncio.sleep(10)
        at_hpkv = {"hpkv_cluster_metadata"} if "metadata" in change else set()
        assert {key for key in old.content if "members" not in key} == at_hpkv
        is_nowhere = change == {"spec": {"metadata": None}}
        assert ("kvcache_nodes" in world.store.content) is not (is_nowhere or bool(at_hpkv))


async def test_without_metadata_it_is_ready_when_its_servers_are(world: CacheWorld) -> None:
    cache = world.add(manifest(backend="vineyard"))
    async with world.controlling(KVCACHE, KVCacheKind):
        await asyncio.sleep(3)
        assert world.names(Deployment) == {"c"}
        assert world.reasons(cache)["Ready"] == "True Available"
        assert world.store.calls == 0


async def test_a_backend_that_there_is_not_changes_nothing(world: CacheWorld) -> None:
    cache = world.add(manifest())
    async with world.controlling(KVCACHE, KVCacheKind):
        await asyncio.sleep(3)
        world.api.change(world.get(KVCache, "c"), {"metadata": {"annotations": {f"{PREFIX}/backend": "memcached"}}})
        await asyncio.sleep(3)
        assert world.reasons(cache)["Ready"] == "False Invalid"
        assert world.names(StatefulSet) == {"c"}


async def test_rights_are_enough_and_the_least(world: CacheWorld) -> None:
    client = RecordingClient(world.api)
    world.api.put(held("p"))
    world.add(manifest("one", metadata=EXTERNAL))
    world.add(manifest("two", backend="vineyard"))
    async with world.controlling(KVCACHE, KVCacheKind, client):
        await asyncio.sleep(5)
        owner = world.get(KVCache, "one").owner_reference()
        labels = {f"{PREFIX}/name": "one", f"{PREFIX}/role": "kvwatcher"}
        meta = ObjectMeta(name="w", namespace="default", labels=labels, owner_references=[owner])
        world.api.put(Pod(metadata=meta))
        for workload in (world.get(StatefulSet, "one"), world.get(Deployment, "two")):
            world.api.change(workload, {"spec": {"replicas": 5}})
        world.api.change(world.get(Service, "two-rpc"), {"spec": {"selector": {"app": "other"}}})
        service = {"type": "NodePort", "ports": [{"name": "s", "port": 1}]}
        world.api.change(world.get(KVCache, "one"), {"spec": {"service": service}})
        await asyncio.sleep(3)
        world.api.change(world.get(KVCache, "one"), {"spec": {"service": None, "cache": {"replicas": 1}}})
        await asyncio.sleep(3)
        for name in ("one", "two"):
            world.delete(world.get(KVCache, name))
        await asyncio.sleep(5)
        assert world.names(KVCache) == set()
    check_permissions(
        client.used,
        KVCACHE.permissions,
        unused=[
            # Asked for by the server where owner references that block deletion are restricted.
            Use("update", "orchestration.aibrix.ai", "kvcaches/finalizers"),
            # Only for a child that exists and that the cache does not show yet.
            Use("get", "apps", "statefulsets"),
            Use("get", "apps", "deployments"),
            Use("get", "", "services"),
            Use("get", "", "configmaps"),
        ],
    )
