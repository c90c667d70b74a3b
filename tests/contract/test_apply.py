"""Server-side apply: https://kubernetes.io/docs/reference/using-api/server-side-apply/."""

from __future__ import annotations

from typing import Any

from tests.support.contract import APPLY, MERGE, Answer, Api, config_map, deployment


async def apply(api: Api, body: dict[str, Any], manager: str, *, force: bool = False, group: str = "") -> Answer:
    plural = {"ConfigMap": "configmaps", "Deployment": "deployments"}[body["kind"]]
    query = {"fieldManager": manager, **({"force": "true"} if force else {})}
    return await api.patch(api.at(plural, body["metadata"]["name"], group=group), body, APPLY, **query)


def owners(body: dict[str, Any]) -> dict[str, Any]:
    return {e["manager"]: e["fieldsV1"] for e in body["metadata"]["managedFields"] if e["operation"] == "Apply"}


async def test_apply_creates_and_remembers_who_owns_what(api: Api) -> None:
    made = await apply(api, config_map("a", x="1"), "one")
    assert made.code == 201
    assert owners(made.body) == {"one": {"f:data": {"f:x": {}}}}
    again = await apply(api, config_map("a", x="1"), "one")
    assert again.code == 200
    assert again.body["metadata"]["resourceVersion"] == made.body["metadata"]["resourceVersion"]


async def test_manager_must_be_named(api: Api) -> None:
    refused = await api.patch(api.at("configmaps", "a"), config_map("a"), APPLY)
    assert refused.code == 400


async def test_field_of_another_manager_is_a_conflict_unless_forced(api: Api) -> None:
    await apply(api, config_map("a", x="1"), "one")
    refused = await apply(api, config_map("a", x="2"), "two")
    assert (refused.code, refused.reason) == (409, "Conflict")
    cause = refused.body["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.x")
    assert 'conflict with "one"' in cause["message"]
    forced = await apply(api, config_map("a", x="2"), "two", force=True)
    assert (forced.code, forced.body["data"]) == (200, {"x": "2"})
    assert owners(forced.body) == {"two": {"f:data": {"f:x": {}}}}


async def test_same_value_is_shared_and_stays_until_the_last_owner_lets_go(api: Api) -> None:
    await apply(api, config_map("a", x="1", y="1"), "one")
    shared = await apply(api, config_map("a", x="1"), "two")
    assert shared.code == 200
    left = await apply(api, config_map("a", y="1"), "one")
    assert left.body["data"] == {"x": "1", "y": "1"}
    gone = await apply(api, config_map("a", z="1"), "two")
    assert gone.body["data"] == {"y": "1", "z": "1"}


async def test_field_no_longer_mentioned_is_removed(api: Api) -> None:
    await apply(api, config_map("a", x="1", y="2"), "one")
    assert (await apply(api, config_map("a", x="1"), "one")).body["data"] == {"x": "1"}


async def test_update_takes_fields_over(api: Api) -> None:
    await apply(api, config_map("a", x="1"), "one")
    await api.patch(api.at("configmaps", "a"), {"data": {"x": "2"}}, fieldManager="editor")
    refused = await apply(api, config_map("a", x="1"), "one")
    assert refused.code == 409
    assert 'conflict with "editor"' in refused.body["details"]["causes"][0]["message"]


async def test_items_of_keyed_lists_belong_to_who_applied_them(api: Api) -> None:
    base = deployment("web", replicas=None)
    assert (await apply(api, base, "one", group="apps")).code == 201
    side = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox:1"}]}}},
    }
    both = await apply(api, side, "two", group="apps")
    assert both.code == 200
    assert [c["name"] for c in both.body["spec"]["template"]["spec"]["containers"]] == ["main", "side"]
    await api.patch(api.at("deployments", "web", "scale", group="apps"), {"spec": {"replicas": 0}})
    # Replicas were never applied: scaling is nobody's conflict.
    again = await apply(api, base, "one", group="apps")
    assert (again.code, again.body["spec"]["replicas"]) == (200, 0)
    without = {**side, "spec": {}}
    gone = await apply(api, without, "two", group="apps")
    assert [c["name"] for c in gone.body["spec"]["template"]["spec"]["containers"]] == ["main"]


async def test_applied_configuration_may_be_yaml(api: Api) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  day: 2026-11-22\n"
    text = text.replace(b"2026-11-22", b'"2026-11-22"')
    made = await api.patch(api.at("configmaps", "a"), text, APPLY, fieldManager="one")
    assert (made.code, made.body["data"]) == (201, {"day": "2026-11-22"})


async def test_applying_again_beside_other_managers_changes_nothing(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}
    path = api.at("configmaps", "c")
    assert (await api.patch(path, body, APPLY, fieldManager="zoe")).code == 201
    assert (await api.patch(path, {"data": {"b": "2"}}, MERGE, fieldManager="ada")).code == 200
    mine = {**body, "data": {"c": "3"}}
    before = (await api.patch(path, mine, APPLY, fieldManager="bob")).body
    assert [(e["manager"], e["operation"]) for e in before["metadata"]["managedFields"]][-1] == ("ada", "Update")
    for sent, manager in ((body, "zoe"), (mine, "bob")):
        again = await api.patch(path, sent, APPLY, fieldManager=manager)
        assert again.body == before
