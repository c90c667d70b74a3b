"""Who owns which field, beyond the first apply.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from typing import Any

from tests.support.contract import APPLY, Answer, Api, config_map, deployment
from tests.support.customkinds import widgets
from tests.support.definitions import spec_schema


async def apply(api: Api, manager: str, body: Any, *, force: bool = False, subresource: str = "") -> Answer:
    plural, group = {"ConfigMap": ("configmaps", ""), "Deployment": ("deployments", "apps")}[body["kind"]]
    path = api.at(plural, body["metadata"]["name"], subresource, group=group)
    more = {"force": "true"} if force else {}
    return await api.patch(path, body, APPLY, fieldManager=manager, **more)


def owners(answer: Answer) -> dict[tuple[str, str, str], Any]:
    """Return the field sets by (manager, operation, subresource)."""
    return {
        (e["manager"], e["operation"], e.get("subresource", "")): e["fieldsV1"]
        for e in answer.body["metadata"]["managedFields"]
    }


async def test_conflict_names_manager_and_field(api: Api) -> None:
    # #conflicts
    await apply(api, "one", config_map("c", x="1"))
    refused = await apply(api, "two", config_map("c", x="2"))
    assert (refused.code, refused.reason) == (409, "Conflict")
    (cause,) = refused.body["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.x")
    assert 'conflict with "one"' in cause["message"]


async def test_forced_field_changes_hands(api: Api) -> None:
    await apply(api, "one", config_map("c", x="1", y="1"))
    forced = await apply(api, "two", config_map("c", x="2"), force=True)
    assert forced.body["data"] == {"x": "2", "y": "1"}
    assert "f:x" not in owners(forced)["one", "Apply", ""]["f:data"]
    again = await apply(api, "one", config_map("c", x="1", y="1"))
    assert again.code == 409


async def test_update_owns_what_it_changed(api: Api) -> None:
    # #manage-fields: operation Update, named by the client
    await apply(api, "one", config_map("c", x="1", y="1"))
    patched = await api.patch(api.at("configmaps", "c"), {"data": {"x": "2"}}, fieldManager="editor")
    seen = owners(patched)
    assert seen["editor", "Update", ""] == {"f:data": {"f:x": {}}}
    assert "f:x" not in seen["one", "Apply", ""]["f:data"]


async def test_status_has_owners_of_its_own(api: Api) -> None:
    # #subresource: entries carry it
    await api.create(api.at("deployments", group="apps"), deployment("web"))
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    applied = await apply(api, "watcher", {**body, "status": {"collisionCount": 4}}, subresource="status")
    assert applied.code == 200, applied.body
    assert applied.body["status"]["collisionCount"] == 4
    assert owners(applied)["watcher", "Apply", "status"] == {"f:status": {"f:collisionCount": {}}}


async def test_ownership_can_be_cleared(api: Api) -> None:
    # #clearing-managedfields
    await apply(api, "one", config_map("c", x="1"))
    cleared = await api.patch(api.at("configmaps", "c"), {"metadata": {"managedFields": [{}]}})
    assert not cleared.body["metadata"].get("managedFields")
    assert (await apply(api, "two", config_map("c", x="2"))).code in (200, 409)


async def test_applied_version_must_be_the_one_that_is_there(api: Api) -> None:
    first = await apply(api, "one", config_map("c", x="1"))
    await api.patch(api.at("configmaps", "c"), {"data": {"y": "1"}})
    body = config_map("c", x="2")
    body["metadata"]["resourceVersion"] = first.body["metadata"]["resourceVersion"]
    assert (await apply(api, "one", body)).code == 409


async def test_applied_managed_fields_are_refused(api: Api) -> None:
    body = config_map("c", x="1")
    body["metadata"]["managedFields"] = [{"manager": "me"}]
    assert (await apply(api, "one", body)).code == 400


async def test_name_of_the_body_is_that_of_the_path(api: Api) -> None:
    refused = await api.patch(api.at("configmaps", "c"), config_map("d"), APPLY, fieldManager="one")
    assert refused.code == 400


async def test_replicas_can_be_left_to_an_autoscaler(api: Api) -> None:
    # #transferring-ownership: the next apply without the field lets go, and the value stays
    await apply(api, "user", deployment("web", replicas=0))
    scale = {"spec": {"replicas": 0}}
    await api.patch(api.at("deployments", "web", "scale", group="apps"), {**scale}, fieldManager="autoscaler")
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 0}}
    assert (await apply(api, "autoscaler", body)).code == 200
    applied = await apply(api, "user", deployment("web", replicas=None))
    assert (applied.code, applied.body["spec"]["replicas"]) == (200, 0)
    assert "f:replicas" not in owners(applied)["user", "Apply", ""]["f:spec"]


async def test_lists_of_custom_kinds_merge_as_their_schema_says(api: Api) -> None:
    # #merge-strategy: set, map and atomic
    text = {"type": "string"}
    item = {"type": "object", "properties": {"k": text, "v": text}}
    schema = spec_schema(
        {
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
            "parts": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": {**item, "required": ["k"]},
            },
            "steps": {"type": "array", "x-kubernetes-list-type": "atomic", "items": text},
        }
    )
    async with widgets(api, schema) as kind:
        await kind.apply({"tags": ["a"], "parts": [{"k": "one", "v": "1"}], "steps": ["x"]}, "one")
        both = await kind.apply({"tags": ["b"], "parts": [{"k": "two", "v": "2"}]}, "two")
        assert sorted(both.body["spec"]["tags"]) == ["a", "b"]
        assert [p["k"] for p in both.body["spec"]["parts"]] == ["one", "two"]
        refused = await kind.apply({"steps": ["x", "y"]}, "two")
        assert refused.body["details"]["causes"][0]["field"] == ".spec.steps"
        left = await kind.apply({"tags": ["a"]}, "one")
        assert [p["k"] for p in left.body["spec"]["parts"]] == ["two"]
