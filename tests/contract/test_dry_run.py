"""Dry runs: every answer, no effect.

https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run
"""

from __future__ import annotations

from tests.support.contract import APPLY, JSON_PATCH, MERGE, STRATEGIC, Api, config_map, deployment

ALL = {"dryRun": "All"}


async def test_creation_is_answered_as_if_it_was_done(api: Api) -> None:
    made = await api.create(api.at("deployments", group="apps"), deployment("web"), **ALL)
    assert (made.code, made.body["spec"]["progressDeadlineSeconds"]) == (201, 600)
    assert made.body["metadata"]["uid"]
    assert (await api.get(api.at("deployments", "web", group="apps"))).code == 404


async def test_name_is_generated_and_free(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-"}}
    made = await api.create(api.at("configmaps"), body, **ALL)
    assert made.body["metadata"]["name"].startswith("g-")
    assert (await api.get(api.at("configmaps", made.body["metadata"]["name"]))).code == 404


async def test_mistakes_are_found(api: Api) -> None:
    assert (await api.create(api.at("configmaps"), config_map("Bad_Name"), **ALL)).code == 422
    await api.create(api.at("configmaps"), config_map("a"))
    assert (await api.create(api.at("configmaps"), config_map("a"), **ALL)).reason == "AlreadyExists"


async def test_update_and_patches_change_nothing(api: Api) -> None:
    first = (await api.create(api.at("configmaps"), config_map("a", x="1"))).body
    path = api.at("configmaps", "a")
    put = await api.put(path, {**first, "data": {"x": "2"}}, **ALL)
    assert put.body["data"] == {"x": "2"}
    for media, patch in (
        (MERGE, {"data": {"x": "2"}}),
        (STRATEGIC, {"data": {"x": "2"}}),
        (JSON_PATCH, [{"op": "replace", "path": "/data/x", "value": "2"}]),
        (APPLY, config_map("a", x="2")),
    ):
        manager = {"fieldManager": "m", "force": "true"} if media == APPLY else {}
        patched = await api.patch(path, patch, media, **ALL, **manager)
        assert (patched.code, patched.body["data"]) == (200, {"x": "2"}), media
    assert (await api.get(path)).body == first


async def test_stale_update_is_a_conflict(api: Api) -> None:
    first = (await api.create(api.at("configmaps"), config_map("a", x="1"))).body
    await api.patch(api.at("configmaps", "a"), {"data": {"x": "2"}})
    assert (await api.put(api.at("configmaps", "a"), {**first, "data": {"x": "3"}}, **ALL)).reason == "Conflict"


async def test_deletion_leaves_the_object(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("a"))
    assert (await api.delete(api.at("configmaps", "a"), **ALL)).code == 200
    assert (await api.delete(api.at("configmaps", "a"), {"dryRun": ["All"]})).code == 200
    assert (await api.get(api.at("configmaps", "a"))).code == 200


async def test_collection_stays(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("a", {"mine": "1"}))
    assert (await api.delete(api.at("configmaps"), labelSelector="mine", **ALL)).code == 200
    assert (await api.get(api.at("configmaps", "a"))).code == 200


async def test_unknown_value_is_refused(api: Api) -> None:
    assert (await api.create(api.at("configmaps"), config_map("a"), dryRun="Some")).code in (400, 422)
