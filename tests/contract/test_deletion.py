"""Deletion: finalizers, propagation, and the collection of what nobody owns any more.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/ and
https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.contract import Answer, Api, config_map, deployment
from tests.support.protobuf import PROTOBUF, enveloped, message
from tests.support.waiting import until

WAIT_S = 30.0


def owner_reference(owner: Answer, *, blocks: bool = False) -> dict[str, Any]:
    body = owner.body
    built = {"apiVersion": body["apiVersion"], "kind": body["kind"]}
    built |= {"name": body["metadata"]["name"], "uid": body["metadata"]["uid"]}
    return {**built, "blockOwnerDeletion": True} if blocks else built


async def own(api: Api, name: str, *owners: Answer, blocks: bool = False) -> Answer:
    body = config_map(name)
    body["metadata"]["ownerReferences"] = [owner_reference(o, blocks=blocks) for o in owners]
    made = await api.create(api.at("configmaps"), body)
    assert made.code == 201, made.body
    return made


async def exists(api: Api, name: str) -> bool:
    return (await api.get(api.at("configmaps", name))).code == 200


async def until_gone(api: Api, name: str) -> None:
    async def is_gone() -> bool:
        return not await exists(api, name)

    await until(is_gone, WAIT_S)


async def until_collected(api: Api, uid: str) -> None:
    """Wait until the collector has seen that an owner is gone: a dependent of it made now goes."""
    owner = Answer(200, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "gone", "uid": uid}})
    await own(api, "sentinel", owner)
    await until_gone(api, "sentinel")


# #cascading-deletion


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_dependents_go_with_their_owner(api: Api, policy: str) -> None:
    owner = await api.create(api.at("configmaps"), config_map("owner"))
    first = await own(api, "first", owner, blocks=True)
    await own(api, "second", first, blocks=True)
    await api.delete(api.at("configmaps", "owner"), propagationPolicy=policy)
    for name in ("owner", "first", "second"):
        await until_gone(api, name)


async def test_background_is_the_default(api: Api) -> None:
    owner = await api.create(api.at("configmaps"), config_map("owner"))
    await own(api, "first", owner)
    await api.delete(api.at("configmaps", "owner"))
    assert not await exists(api, "owner")
    await until_gone(api, "first")


async def test_orphans_stay_and_forget_their_owner(api: Api) -> None:
    owner = await api.create(api.at("configmaps"), config_map("owner"))
    await own(api, "first", owner)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
    await api.delete(api.at("configmaps", "owner"), options)
    await until_gone(api, "owner")
    assert "ownerReferences" not in (await api.get(api.at("configmaps", "first"))).body["metadata"]


async def test_foreground_waits_for_dependents_that_block(api: Api) -> None:
    owner = await api.create(api.at("configmaps"), config_map("owner"))
    body = config_map("first")
    body["metadata"] |= {"ownerReferences": [owner_reference(owner, blocks=True)], "finalizers": ["pybrix.dev/wait"]}
    await api.create(api.at("configmaps"), body)
    marked = await api.delete(api.at("configmaps", "owner"), propagationPolicy="Foreground")
    assert "foregroundDeletion" in marked.body["metadata"]["finalizers"]

    async def is_marked() -> bool:
        return "deletionTimestamp" in (await api.get(api.at("configmaps", "first"))).body["metadata"]

    await until(is_marked, WAIT_S)
    assert await exists(api, "owner")
    await api.patch(api.at("configmaps", "first"), {"metadata": {"finalizers": None}})
    await until_gone(api, "owner")


async def test_unknown_policy_is_refused(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("a"))
    assert (await api.delete(api.at("configmaps", "a"), propagationPolicy="Sideways")).code == 422
    assert await exists(api, "a")


# #owners-dependents


async def test_object_of_two_owners_stays_until_the_last_goes(api: Api) -> None:
    one = await api.create(api.at("configmaps"), config_map("one"))
    two = await api.create(api.at("configmaps"), config_map("two"))
    await own(api, "both", one, two)
    await api.delete(api.at("configmaps", "one"))
    await until_collected(api, one.body["metadata"]["uid"])
    assert await exists(api, "both")
    await api.delete(api.at("configmaps", "two"))
    await until_gone(api, "both")


async def test_owner_of_another_uid_is_no_owner(api: Api) -> None:
    # A deleted and recreated owner is another object.
    old = await api.create(api.at("configmaps"), config_map("owner"))
    await api.delete(api.at("configmaps", "owner"))
    await api.create(api.at("configmaps"), config_map("owner"))
    await own(api, "stale", old)
    await until_gone(api, "stale")
    assert await exists(api, "owner")


async def test_malformed_owner_reference_is_invalid(api: Api) -> None:
    body = config_map("a")
    body["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": ""}]
    assert (await api.create(api.at("configmaps"), body)).code == 422


async def test_only_one_owner_is_the_controller(api: Api) -> None:
    one = await api.create(api.at("configmaps"), config_map("one"))
    two = await api.create(api.at("configmaps"), config_map("two"))
    body = config_map("both")
    body["metadata"]["ownerReferences"] = [{**owner_reference(o), "controller": True} for o in (one, two)]
    refused = await api.create(api.at("configmaps"), body)
    assert (refused.code, refused.reason) == (422, "Invalid")


async def test_workload_goes_with_all_that_it_made(api: Api) -> None:
    # /docs/concepts/workloads/controllers/deployment/ and its ReplicaSet
    await api.ready()
    await api.create(api.at("deployments", group="apps"), deployment("web"))

    async def sets() -> list[Any]:
        return list((await api.get(api.at("replicasets", group="apps"))).body["items"])

    async def is_made() -> bool:
        return len(await sets()) == 1

    async def is_gone() -> bool:
        return not await sets()

    await until(is_made, WAIT_S)
    await api.delete(api.at("deployments", "web", group="apps"))
    await until(is_gone, WAIT_S)


# Finalizers


async def test_marked_object_takes_no_new_finalizer(api: Api) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["pybrix.dev/one"]
    await api.create(api.at("configmaps"), body)
    await api.delete(api.at("configmaps", "a"))
    patch = {"metadata": {"finalizers": ["pybrix.dev/one", "pybrix.dev/two"]}}
    assert (await api.patch(api.at("configmaps", "a"), patch)).code in (403, 422)
    assert (await api.patch(api.at("configmaps", "a"), {"data": {"x": "1"}})).code == 200
    await api.patch(api.at("configmaps", "a"), {"metadata": {"finalizers": []}})
    assert not await exists(api, "a")


async def test_finalizer_has_a_qualified_name(api: Api) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["not qualified!"]
    assert (await api.create(api.at("configmaps"), body)).code == 422


async def test_deletion_time_cannot_be_set_or_taken_back(api: Api) -> None:
    body = config_map("a")
    body["metadata"] |= {"finalizers": ["pybrix.dev/one"], "deletionTimestamp": "2020-01-01T00:00:00Z"}
    made = await api.create(api.at("configmaps"), body)
    assert "deletionTimestamp" not in made.body["metadata"]
    marked = await api.delete(api.at("configmaps", "a"))
    kept = await api.patch(api.at("configmaps", "a"), {"metadata": {"deletionTimestamp": None}})
    assert kept.body["metadata"]["deletionTimestamp"] == marked.body["metadata"]["deletionTimestamp"]
    await api.patch(api.at("configmaps", "a"), {"metadata": {"finalizers": None}})


# Preconditions: API conventions, "Verbs on resources"


async def test_deletion_of_another_version_is_a_conflict(api: Api) -> None:
    made = (await api.create(api.at("configmaps"), config_map("a"))).body["metadata"]
    await api.patch(api.at("configmaps", "a"), {"data": {"x": "1"}})
    conditions = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    refused = await api.delete(api.at("configmaps", "a"), {"preconditions": conditions})
    assert (refused.code, refused.reason) == (409, "Conflict")
    del conditions["resourceVersion"]
    assert (await api.delete(api.at("configmaps", "a"), {"preconditions": conditions})).code == 200


async def test_options_may_come_as_protobuf(api: Api) -> None:
    """What clients in Go send when they delete: API concepts, "Alternate representations of resources"."""
    made = (await api.create(api.at("configmaps"), config_map("a"))).body["metadata"]
    for uid, code in (("another", 409), (made["uid"], 200)):
        options = enveloped("DeleteOptions", message((1, 0), (2, message((1, uid.encode()))), (4, b"Background")))
        gone = await api.request("DELETE", api.at("configmaps", "a"), options, media=PROTOBUF)
        assert gone.code == code, gone.body


async def test_deleted_object_is_not_found_and_its_name_is_free(api: Api) -> None:
    made = (await api.create(api.at("configmaps"), config_map("a"))).body["metadata"]
    gone = await api.delete(api.at("configmaps", "a"))
    assert (gone.body["status"], gone.body["details"]["uid"]) == ("Success", made["uid"])
    assert (await api.delete(api.at("configmaps", "a"))).code == 404
    again = await api.create(api.at("configmaps"), config_map("a"))
    assert again.body["metadata"]["uid"] != made["uid"]


# Restarts: what a crash interrupts is done afterwards.


async def test_dependents_go_also_when_the_control_plane_crashes_between(api: Api, restart: Callable[[], None]) -> None:
    owner = await api.create(api.at("configmaps"), config_map("owner"))
    for number in range(20):
        await own(api, f"c{number}", owner)
    await api.delete(api.at("configmaps", "owner"))
    restart()
    for number in range(20):
        await until_gone(api, f"c{number}")
    assert (await api.get(api.at("configmaps", "owner"))).code == 404
