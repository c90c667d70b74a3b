"""A pool's life on an API in memory: what is made, what is published, what it says of itself."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from pybrix.api.apps import StatefulSet
from pybrix.api.core import ConfigMap, Pod, Secret, Service
from pybrix.api.kvcache.v1alpha1.kvcachepool import KVCachePool
from pybrix.api.meta import ObjectMeta
from pybrix.controllers.kvcachepool.controller import KVCACHEPOOL, PoolKind
from pybrix.controllers.membership.errors import (
    AuthenticationFailed,
    NoQuorum,
    NoSpace,
    NotSupported,
    PermissionDenied,
    ReadOnly,
    StoreError,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from pybrix.controllers.membership.ring import moved
from tests.support.caches import CacheWorld, MemoryStore
from tests.support.permissions import RecordingClient, Use, check_permissions

pytestmark = pytest.mark.looptime

BROUGHT = {"redis": {"address": "redis.storage:6379"}}
KEY = "pybrix:{default/shared}:membership"


def manifest(name: str = "shared", **spec: Any) -> dict[str, Any]:
    body = {"replicas": 2, "cache": {"image": "example.com/kv-server:1"}, "metadata": BROUGHT} | spec
    return {
        "apiVersion": "kvcache.aibrix.ai/v1alpha1",
        "kind": "KVCachePool",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {k: v for k, v in body.items() if v is not None},
    }


def secret(name: str, **values: str) -> Secret:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return Secret(metadata=ObjectMeta(name=name, namespace="default"), data=data)


@pytest.fixture
def world() -> CacheWorld:
    return CacheWorld()


async def test_a_pool_is_made_published_and_ready(world: CacheWorld) -> None:
    pool = world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        status = world.get(KVCachePool, "shared").status
        assert (status.phase, status.replicas, status.ready_replicas, status.membership_version) == ("Running", 2, 2, 2)
        assert world.reasons(pool) == {
            "Ready": "True Available",
            "Progressing": "False Settled",
            "MetadataReachable": "True Answering",
            "MembershipPublished": "True Published",
        }
        assert status.endpoints == [f"{p.status.pod_ip}:9600" for p in world.api.all(Pod)]
        assert [(m.name, m.slots) for m in status.members] == [("shared-0", 2048), ("shared-1", 2048)]
        assert status.metadata is not None
        assert (status.metadata.kind, status.metadata.reachable) == ("redis", True)
        assert world.record(KEY) == world.copy(pool)
        # A rollout waits until those that are new have their slots.
        assert world.get(StatefulSet, "shared").spec.min_ready_seconds == 2
        assert world.names(Service) == {"shared", "shared-headless-service"}
        assert world.names(Secret) == set()


async def test_scaling_moves_the_least_and_settles(world: CacheWorld) -> None:
    pool = world.add(manifest(replicas=1))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        one = world.record(KEY)
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"replicas": 4}})
        await asyncio.sleep(3)
        four = world.record(KEY)
        assert moved(one.owners, four.owners) == 3072
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"replicas": 2}})
        await asyncio.sleep(3)
        two = world.record(KEY)
        assert moved(four.owners, two.owners) == 2048
        assert one.version < four.version < two.version == world.get(KVCachePool, "shared").status.membership_version
        assert set(world.store.kept["pybrix:{default/shared}:members:"]) == {
            "pybrix:{default/shared}:members:shared-0",
            "pybrix:{default/shared}:members:shared-1",
        }
        assert world.reasons(pool)["Ready"] == "True Available"
        # Nothing is written any more but leases.
        revision = world.api.revision
        await asyncio.sleep(300)
        assert world.api.revision == revision


async def test_a_member_is_published_when_it_is_ready_and_as_long(world: CacheWorld) -> None:
    world.is_pod_ready = False
    pool = world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        assert world.record(KEY).nodes == ()
        assert world.reasons(pool)["Ready"] == "False MembersNotReady"
        world.set_ready("shared-1", True)
        await asyncio.sleep(1)
        assert [node.name for node in world.record(KEY).nodes] == ["shared-1"]
        world.set_ready("shared-0", True)
        world.set_ready("shared-1", False)
        await asyncio.sleep(3)
        assert [node.name for node in world.record(KEY).nodes] == ["shared-0"]


async def test_a_member_that_crashes_again_and_again_moves_no_slot(world: CacheWorld) -> None:
    pool = world.add(manifest(replicas=1))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(5)
        before = world.record(KEY)
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"replicas": 2}})
        await asyncio.sleep(1)
        assert world.reasons(pool)["Ready"] == "False MembersNotReady"
        assert world.reasons(pool)["Progressing"] == "True Starting"
        assert "shared-1" in world.message(pool, "Ready")
        for _ in range(5):
            world.set_ready("shared-1", False)
            await asyncio.sleep(5)
            world.set_ready("shared-1", True)
            await asyncio.sleep(1)
        assert world.record(KEY) == before
        await asyncio.sleep(2)
        after = world.record(KEY)
        assert moved(before.owners, after.owners) == 2048
        assert world.reasons(pool)["Ready"] == "True Available"
        # From now on it keeps them while it is away for a moment.
        world.set_ready("shared-1", False)
        await asyncio.sleep(1)
        world.set_ready("shared-1", True)
        await asyncio.sleep(5)
        assert world.record(KEY) == after


async def test_a_new_address_is_published_without_moving_a_slot(world: CacheWorld) -> None:
    world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        before = world.record(KEY)
        world.api.change(world.get(Pod, "shared-0"), {"status": {"podIP": "10.9.9.9"}})
        await asyncio.sleep(1)
        after = world.record(KEY)
        assert (after.owners, after.version) == (before.owners, before.version + 1)
        assert after.nodes[0].addr == "10.9.9.9"


@pytest.mark.parametrize(
    ("error", "reachable", "published"),
    [
        (Unreachable("refused"), "False Unreachable", "False Unreachable"),
        (TimedOut("slow"), "False TimedOut", "False TimedOut"),
        (TlsFailed("plain"), "False TLSFailed", "False TLSFailed"),
        (AuthenticationFailed("wrong"), "False AuthenticationFailed", "False AuthenticationFailed"),
        (NoQuorum("alone"), "False NoQuorum", "False NoQuorum"),
        (NotSupported("no gateway"), "False NotSupported", "False NotSupported"),
        (PermissionDenied("not yours"), "True Answering", "False PermissionDenied"),
        (ReadOnly("replica"), "True Answering", "False ReadOnly"),
        (NoSpace("full"), "True Answering", "False NoSpace"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
)
async def test_a_server_that_fails_is_named_and_recovers_by_itself(
    world: CacheWorld, error: Any, reachable: str, published: str
) -> None:
    pool = world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        world.store.failure = error
        world.store.calls = 0
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"replicas": 3}})
        await asyncio.sleep(200)
        found = world.reasons(pool)
        assert (found["MetadataReachable"], found["MembershipPublished"]) == (reachable, published)
        assert found["Ready"] == published
        assert str(error) in world.message(pool, "MembershipPublished")
        status = world.get(KVCachePool, "shared").status
        assert status.phase == "Degraded"
        # What was published stays, and people are told of it. It is tried again less and less often.
        assert status.membership_version == 2
        assert world.store.calls < 40
        world.store.failure = None
        await asyncio.sleep(20)
        assert world.reasons(pool)["Ready"] == "True Available"
        told = world.get(KVCachePool, "shared").status.metadata
        assert told is not None
        assert (told.reachable, told.message) == (True, "")
        assert len(world.record(KEY).nodes) == 3
        assert {"Answering", error.reason} & set(world.events())


async def test_a_server_that_lost_its_keys_gets_the_same_slots_from_whoever_leads(world: CacheWorld) -> None:
    world.add(manifest(replicas=3))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
    before = world.record(KEY)
    world.store.content.clear()
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
    assert world.record(KEY).nodes == before.nodes
    assert world.record(KEY).version == before.version + 1


async def test_every_change_of_the_spec_takes_effect(world: CacheWorld) -> None:
    world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        for change in (
            {"cache": {"env": [{"name": "LOG", "value": "debug"}]}},
            {"cache": {"image": "example.com/kv-server:2", "resources": {"limits": {"memory": "1Gi"}}}},
            {"service": {"port": 9700, "type": "NodePort"}},
            {"scheduler": {"gpuType": "NVIDIA-A10"}},
            {"cache": {"template": {"metadata": {"annotations": {"a": "b"}}, "spec": {"containers": []}}}},
            {"cache": {"template": None, "env": None}},
        ):
            before = world.get(StatefulSet, "shared").metadata.generation
            world.api.change(world.get(KVCachePool, "shared"), {"spec": change})
            await asyncio.sleep(2)
            assert world.get(StatefulSet, "shared").metadata.generation == before + 1, change
        template = world.get(StatefulSet, "shared").spec.template
        assert "annotations" not in template["metadata"]
        (container,) = template["spec"]["containers"]
        assert container["image"] == "example.com/kv-server:2"
        assert "LOG" not in {variable["name"] for variable in container["env"]}
        assert world.get(Service, "shared").spec.type == "NodePort"
        assert world.record(KEY).nodes[0].port == 9700


async def test_a_member_that_never_became_ready_does_not_hold_up_the_correction(world: CacheWorld) -> None:
    world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        uids = {pod.metadata.name: pod.uid for pod in world.api.all(Pod)}
        world.set_ready("shared-1", False)
        await asyncio.sleep(3)
        # One that is as the spec has it may still become ready.
        assert world.get(Pod, "shared-1").uid == uids["shared-1"]
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"scheduler": {"gpuType": "NVIDIA-A10"}}})
        await asyncio.sleep(3)
        assert world.get(Pod, "shared-1").uid != uids["shared-1"]
        assert world.get(Pod, "shared-0").uid == uids["shared-0"]


async def test_drift_is_corrected(world: CacheWorld) -> None:
    world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        world.api.change(world.get(StatefulSet, "shared"), {"spec": {"replicas": 7}})
        world.api.change(world.get(Service, "shared"), {"spec": {"selector": {"app": "other"}}})
        world.api.remove(world.get(Service, "shared-headless-service"))
        world.api.remove(world.get(ConfigMap, "shared.kvcachepools"))
        await asyncio.sleep(30)
        assert world.get(StatefulSet, "shared").spec.replicas == 2
        assert "app" not in world.get(Service, "shared").spec.selector
        assert "shared-headless-service" in world.names(Service)
        assert "shared.kvcachepools" in world.names(ConfigMap)


async def test_a_name_that_is_taken_is_said_and_left_alone(world: CacheWorld) -> None:
    world.api.put(Service(metadata=ObjectMeta(name="shared", namespace="default")))
    pool = world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        assert world.reasons(pool)["Ready"] == "False NameTaken"
        assert "Service shared" in world.message(pool, "Ready")
        assert world.get(Service, "shared").spec.ports == []


async def test_credentials_come_from_secrets_and_are_rotated(world: CacheWorld) -> None:
    redis = {"redis": {"address": "r:6379", "credentialsSecretRef": {"name": "cache-redis"}}}
    pool = world.add(manifest(metadata=redis))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        assert world.reasons(pool)["MetadataReachable"] == "False CredentialsUnavailable"
        assert "Secret cache-redis of spec.metadata.redis.credentialsSecretRef" in world.message(
            pool, "MetadataReachable"
        )
        held = world.api.put(secret("cache-redis", password="one"))
        await asyncio.sleep(12)
        assert world.store.servers[-1].password == "one"
        assert world.reasons(pool)["Ready"] == "True Available"
        world.api.change(held, {"data": {"password": base64.b64encode(b"two").decode()}})
        await asyncio.sleep(60)
        assert world.store.servers[-1].password == "two"
        assert world.get(KVCachePool, "shared").status.membership_version == 1


@pytest.mark.parametrize("refusal", [AuthenticationFailed("wrong"), TlsFailed("not trusted")], ids=["login", "TLS"])
async def test_a_refused_secret_is_read_again_at_once(world: CacheWorld, refusal: StoreError) -> None:
    held = world.api.put(secret("cache-redis", password="one"))
    redis = {"redis": {"address": "r:6379", "credentialsSecretRef": {"name": "cache-redis"}}}
    pool = world.add(manifest(metadata=redis))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        world.store.failure = refusal
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"replicas": 3}})
        await asyncio.sleep(2)
        assert world.reasons(pool)["MetadataReachable"] == f"False {refusal.reason}"
        world.api.change(held, {"data": {"password": base64.b64encode(b"two").decode()}})
        await asyncio.sleep(6)
        assert world.store.servers[-1].password == "two"


async def test_deletion_takes_the_membership_back_before_the_servers_end(world: CacheWorld) -> None:
    etcd = {"etcd": {"endpoints": ["e:2379"]}}
    pool = world.add(manifest(metadata=etcd))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        world.store.content |= {"/pybrix/default/shared/servers/instances/i0": b"1", "/pybrix/default/sharedmore": b"2"}
        world.delete(world.get(KVCachePool, "shared"))
        await asyncio.sleep(5)
        assert world.names(KVCachePool) == world.names(StatefulSet) == world.names(Pod) == set()
        assert world.store.content == {"/pybrix/default/sharedmore": b"2"}
    assert pool.metadata.name == "shared"


async def test_a_server_that_never_answers_does_not_hold_a_deletion_up_for_ever(world: CacheWorld) -> None:
    world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        world.store.failure = Unreachable("gone for good")
        world.delete(world.get(KVCachePool, "shared"))
        await asyncio.sleep(20)
        assert world.names(KVCachePool) == {"shared"}
        await asyncio.sleep(20)
        assert world.names(KVCachePool) == set()
        assert "MembershipLeftBehind" in world.events()


async def test_a_managed_redis_gets_a_password_and_goes_with_the_pool(world: CacheWorld) -> None:
    pool = world.add(manifest(metadata={"managed": {"kind": "redis"}}))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(10)
        assert world.names(StatefulSet) == {"shared", "shared-redis"}
        made = world.get(Secret, "shared-metadata")
        assert world.store.servers[-1].password == base64.b64decode(made.data["password"]).decode()
        assert world.store.servers[-1].addresses == (f"{world.get(Pod, 'shared-redis-0').status.pod_ip}:6379",)
        assert world.reasons(pool)["Ready"] == "True Available"
        # A server is brought from now on: the managed one goes.
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"metadata": {"managed": None, **BROUGHT}}})
        await asyncio.sleep(5)
        assert world.names(StatefulSet) == {"shared"}
        assert world.names(Service) == {"shared", "shared-headless-service"}
        assert world.names(Secret) == set()


async def test_a_secret_of_the_generated_name_that_is_somebody_elses_stays(world: CacheWorld) -> None:
    world.api.put(secret("shared-metadata", password="mine"))
    world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(5)
        assert world.names(Secret) == {"shared-metadata"}


async def test_a_secret_that_was_left_by_a_controller_that_died_goes(world: CacheWorld) -> None:
    world.add(manifest(metadata={"managed": {"kind": "redis"}}))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(5)
    world.api.change(world.get(KVCachePool, "shared"), {"spec": {"metadata": {"managed": None, **BROUGHT}}})
    world.api.remove(world.get(StatefulSet, "shared-redis"))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(5)
        assert world.names(Secret) == set()


REDIS_B = {"redis": {"address": "b:6379", "credentialsSecretRef": {"name": "b"}}}
TO_BROUGHT = {"spec": {"metadata": {"redis": {**BROUGHT["redis"], "credentialsSecretRef": None}}}}


async def test_a_former_server_keeps_nothing_though_the_controller_died_at_the_switch(world: CacheWorld) -> None:
    old = world.others["b:6379"] = MemoryStore()
    held = world.api.put(secret("b", password="p"))
    world.add(manifest(metadata=REDIS_B))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
    assert KEY in old.content
    world.api.change(world.get(KVCachePool, "shared"), TO_BROUGHT)
    old.failure = Unreachable("away for a moment")
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        before = world.record(KEY)
    old.failure = None
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        assert old.content == {}
        assert old.servers[-1].password == "p"
        assert world.record(KEY) == before
        # Nothing of it is noted any more, so nobody looks there again.
        calls = old.calls
        world.api.remove(held)
        await asyncio.sleep(300)
        assert old.calls == calls
        assert "MembershipLeftBehind" not in world.events()


async def test_a_former_server_is_left_when_no_member_of_the_old_spec_is_there(world: CacheWorld) -> None:
    old = world.others["b:6379"] = MemoryStore()
    world.api.put(secret("b", password="p"))
    world.add(manifest(metadata=REDIS_B))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        world.is_rolling = True
        world.api.change(world.get(KVCachePool, "shared"), TO_BROUGHT)
        await asyncio.sleep(60)
        assert KEY in world.store.content
        assert KEY in old.content
        world.is_rolling = False
        await asyncio.sleep(3)
        assert old.content == {}


async def test_a_former_server_whose_secret_went_with_it_is_left_all_the_same(world: CacheWorld) -> None:
    old = world.others["b:6379"] = MemoryStore()
    held = world.api.put(secret("b", password="p"))
    world.add(manifest(metadata=REDIS_B))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(35)
        world.api.remove(held)
        world.api.change(world.get(KVCachePool, "shared"), TO_BROUGHT)
        await asyncio.sleep(3)
        assert old.content == {}


async def test_a_former_server_that_never_answers_is_given_up_and_named(world: CacheWorld) -> None:
    old = world.others["b:6379"] = MemoryStore()
    world.api.put(secret("b", password="p"))
    world.add(manifest(metadata=REDIS_B))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        old.failure = Unreachable("gone for good")
        world.api.change(world.get(KVCachePool, "shared"), TO_BROUGHT)
        await asyncio.sleep(20)
        assert "MembershipLeftBehind" not in world.events()
        await asyncio.sleep(60)
        assert "MembershipLeftBehind" in world.events()
        calls = old.calls
        await asyncio.sleep(300)
        assert old.calls == calls


@pytest.mark.parametrize("failure", [PermissionDenied("not yours"), Unreachable("never there")], ids=["no", "away"])
async def test_a_pool_that_never_reached_its_new_server_is_taken_back_from_the_old_one_at_once(
    world: CacheWorld, failure: StoreError
) -> None:
    old = world.others["b:6379"] = MemoryStore()
    world.api.put(secret("b", password="p"))
    world.add(manifest(metadata=REDIS_B))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        world.store.failure = failure
        world.api.change(world.get(KVCachePool, "shared"), TO_BROUGHT)
        await asyncio.sleep(30)
        assert KEY in old.content
        world.delete(world.get(KVCachePool, "shared"))
        await asyncio.sleep(5)
        assert old.content == {}
        assert world.names(KVCachePool) == set()
        assert "MembershipLeftBehind" not in world.events()


async def test_a_pool_whose_note_somebody_deleted_is_taken_back_all_the_same(world: CacheWorld) -> None:
    world.add(manifest())
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        world.api.remove(world.get(ConfigMap, "shared.kvcachepools"))
        world.delete(world.get(KVCachePool, "shared"))
        await asyncio.sleep(5)
        assert world.store.content == {}


async def test_a_pool_that_is_deleted_at_the_switch_leaves_nothing_at_either_server(world: CacheWorld) -> None:
    old = world.others["b:6379"] = MemoryStore()
    world.api.put(secret("b", password="p"))
    world.add(manifest(metadata=REDIS_B))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(3)
        old.failure = Unreachable("away for a moment")
        world.api.change(world.get(KVCachePool, "shared"), TO_BROUGHT)
        await asyncio.sleep(3)
        world.delete(world.get(KVCachePool, "shared"))
        await asyncio.sleep(5)
        assert world.store.content == {}
        assert world.names(KVCachePool) == {"shared"}
        old.failure = None
        await asyncio.sleep(5)
        assert old.content == {}
        assert world.names(KVCachePool) == set()


async def test_the_number_of_etcd_members_is_changed_by_making_it_anew(world: CacheWorld) -> None:
    vineyard = {"image": "vineyardcloudnative/vineyardd:v0.24.2"}
    world.add(manifest(cache=vineyard, metadata={"managed": {"replicas": 1}}))
    async with world.controlling(KVCACHEPOOL, PoolKind):
        await asyncio.sleep(5)
        before, members = world.get(StatefulSet, "shared-etcd"), world.get(StatefulSet, "shared")
        (etcd,) = before.spec.template["spec"]["containers"]
        # What vineyardd resolves once: an address that stays when the pod does not.
        assert "--advertise-client-urls=http://shared-etcd.default.svc:2379" in etcd["command"]
        assert world.names(Secret) == set()
        command = world.get(StatefulSet, "shared").spec.template["spec"]["containers"][0]["command"]
        assert command[command.index("--etcd_endpoint") + 1] == "http://shared-etcd.default.svc:2379"
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"metadata": {"managed": {"replicas": 3}}}})
        await asyncio.sleep(5)
        after = world.get(StatefulSet, "shared-etcd")
        assert after.uid != before.uid
        assert after.spec.replicas == 3
        assert {"shared-etcd-0", "shared-etcd-2"} <= world.names(Pod)
        # The members are rolled, so that they join it.
        assert world.get(StatefulSet, "shared").metadata.generation > members.metadata.generation


async def test_rights_are_enough_and_the_least(world: CacheWorld) -> None:
    world.api.put(Service(metadata=ObjectMeta(name="taken", namespace="default")))
    client = RecordingClient(world.api)
    world.add(manifest(metadata={"managed": {"kind": "redis"}}))
    world.add(manifest("taken"))
    async with world.controlling(KVCACHEPOOL, PoolKind, client):
        await asyncio.sleep(10)
        world.api.change(world.get(StatefulSet, "shared"), {"spec": {"replicas": 7}})
        world.api.change(world.get(Service, "shared"), {"spec": {"selector": {"app": "other"}}})
        world.set_ready("shared-0", False)
        await asyncio.sleep(2)
        world.api.change(world.get(KVCachePool, "shared"), {"spec": {"metadata": {"managed": None, **BROUGHT}}})
        await asyncio.sleep(5)
        world.delete(world.get(KVCachePool, "shared"))
        await asyncio.sleep(5)
    check_permissions(
        client.used,
        KVCACHEPOOL.permissions,
        unused=[
            # Asked for by the server where owner references that block deletion are restricted.
            Use("update", "kvcache.aibrix.ai", "kvcachepools/finalizers"),
            # Only for a child that exists and that the cache does not show yet.
            Use("get", "apps", "statefulsets"),
            Use("get", "", "services"),
            Use("get", "", "configmaps"),
        ],
    )
