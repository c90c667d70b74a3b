"""The executor: the world after a plan, and what it does about conflicts, absences and failures."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from pybrix.api.apps import ReplicaSet
from pybrix.api.core import Event, Pod
from pybrix.api.identity import Uid
from pybrix.api.meta import ObjectMeta
from pybrix.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound
from pybrix.kube.informer import Informer
from pybrix.runtime.actions import Create, Delete, Emit, Patch, PatchStatus
from pybrix.runtime.apply import Applier
from pybrix.runtime.events import EventRecorder
from pybrix.runtime.expectations import Expectations
from tests.support.bare_pods import key, make_pod
from tests.support.clocks import FakeClock
from tests.support.memoryapi import MemoryApi


def start() -> tuple[MemoryApi, Applier, ReplicaSet]:
    api = MemoryApi()
    owner = api.put(ReplicaSet(metadata=ObjectMeta(name="web", namespace="default")))
    return api, Applier(api, EventRecorder(api, FakeClock(), component="test")), owner


def manifest(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"unknownToUs": {"kept": True}}}


async def test_a_created_child_has_its_owner_and_its_namespace() -> None:
    api, applier, owner = start()
    await applier.apply([Create(manifest(name="a"), why="0/1 pods exist", owner=owner)])
    (pod,) = api.all(Pod)
    assert pod.key == key("a")
    assert pod.metadata.controller == owner.owner_reference()


async def test_an_existing_child_of_the_same_owner_is_what_was_wanted() -> None:
    api, applier, owner = start()
    first = api.put(make_pod("a", owner=owner))
    await applier.apply([Create(manifest(name="a"), why="stale cache", owner=owner)])
    assert [p.uid for p in api.all(Pod)] == [first.uid]


async def test_a_child_of_an_owner_recreated_under_its_name_is_a_conflict() -> None:
    api, applier, owner = start()
    api.put(make_pod("a", owner=owner))
    api.remove(owner)
    again = api.put(ReplicaSet(metadata=ObjectMeta(name="web", namespace="default")))
    with pytest.raises(AlreadyExists):
        await applier.apply([Create(manifest(name="a"), why="0/1 pods exist", owner=again)])


async def test_a_terminating_child_of_that_name_is_a_conflict() -> None:
    api, applier, owner = start()
    pod = api.put(make_pod("a", owner=owner))
    api.change(pod, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    with pytest.raises(AlreadyExists):
        await applier.apply([Create(manifest(name="a"), why="0/1 pods exist", owner=owner)])


async def test_without_an_owner_an_existing_object_is_a_conflict() -> None:
    api, applier, _ = start()
    api.put(make_pod("a"))
    with pytest.raises(Conflict):
        await applier.apply([Create(manifest(name="a", namespace="default"), why="wanted")])


async def test_a_refused_child_is_told_on_its_owner() -> None:
    api, applier, owner = start()
    api.fail_next("create", Forbidden(403, "Forbidden", "exceeded quota"))
    with pytest.raises(Forbidden):
        await applier.apply([Create(manifest(name="a"), why="0/1 pods exist", owner=owner)])
    (event,) = api.all(Event)
    assert (event.type, event.reason) == ("Warning", "FailedCreate")
    assert event.involved_object.uid == owner.uid
    assert "exceeded quota" in event.message


async def test_a_patch_of_a_newer_object_is_a_conflict_and_changes_nothing() -> None:
    api, applier, _ = start()
    pod = api.put(make_pod("a"))
    api.change(pod, {"metadata": {"labels": {"by": "another"}}})
    with pytest.raises(Conflict):
        await applier.apply(
            [Patch(Pod, pod.key, {"metadata": {"labels": None}}, "tidy", pod.metadata.resource_version)]
        )
    assert api.all(Pod)[0].metadata.labels == {"by": "another"}


async def test_one_plan_may_write_an_object_twice() -> None:
    api, applier, _ = start()
    pod = api.put(make_pod("a"))
    version = pod.metadata.resource_version
    await applier.apply(
        [
            Patch(Pod, pod.key, {"metadata": {"labels": {"a": "1"}}}, "label it", version),
            PatchStatus(Pod, pod.key, {"phase": "Running"}, "it runs", version),
        ]
    )
    (got,) = api.all(Pod)
    assert (got.metadata.labels, got.status.phase) == ({"a": "1"}, "Running")


async def test_empty_differences_are_not_sent() -> None:
    api, applier, _ = start()
    pod = api.put(make_pod("a"))
    await applier.apply([Patch(Pod, pod.key, {}, "nothing"), PatchStatus(Pod, pod.key, {}, "nothing")])
    assert api.calls == []


async def test_deleting_spares_another_object_of_the_name() -> None:
    api, applier, _ = start()
    old = api.put(make_pod("a"))
    api.remove(old)
    new = api.put(make_pod("a"))
    await applier.apply([Delete(Pod, old.key, old.uid, "too many"), Delete(Pod, key("gone"), Uid("x"), "too many")])
    assert [p.uid for p in api.all(Pod)] == [new.uid]


async def test_after_a_failure_only_the_status_is_written() -> None:
    api, applier, owner = start()
    api.fail_next("create", Forbidden(403, "Forbidden", "no"))
    with pytest.raises(Forbidden):
        await applier.apply(
            [
                Create(manifest(name="a"), why="0/2 pods exist", owner=owner),
                Create(manifest(name="b"), why="1/2 pods exist", owner=owner),
                PatchStatus(ReplicaSet, owner.key, {"replicas": 0}, "as observed"),
                Emit(owner, "Scaled", "to 2"),
            ]
        )
    assert api.all(Pod) == []
    assert api.all(ReplicaSet)[0].status.replicas == 0
    assert [e.reason for e in api.all(Event)] == ["FailedCreate"]


async def test_patching_what_is_gone_fails() -> None:
    _, applier, _ = start()
    with pytest.raises(NotFound):
        await applier.apply([Patch(Pod, key("gone"), {"metadata": {"labels": {"a": "1"}}}, "label it")])


@pytest.mark.looptime
async def test_what_is_done_for_an_owner_is_expected_in_the_cache() -> None:
    api, applier, owner = start()
    pods = Informer(api, Pod, chance=random.Random(1))
    expectations = Expectations(pods, FakeClock())
    applier.note_writes(expectations)
    task = asyncio.create_task(pods.run())
    await pods.wait_synced()
    await applier.apply([Create(manifest(generateName="web-"), why="0/1 pods exist", owner=owner)])
    (pod,) = api.all(Pod)
    expectations.created(owner.uid, Uid("and one more"))
    assert not expectations.is_settled(owner.uid)
    expectations.forget(owner.uid)
    await asyncio.sleep(1)
    await applier.apply([Delete(Pod, pod.key, pod.uid, "too many", owner=owner)])
    await asyncio.sleep(1)
    assert expectations.is_settled(owner.uid)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
