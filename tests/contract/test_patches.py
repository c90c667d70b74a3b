"""The four kinds of patches.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ and
https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.contract import APPLY, JSON_PATCH, MERGE, STRATEGIC, Answer, Api, config_map, deployment
from tests.support.customkinds import widgets
from tests.support.definitions import spec_schema

DATA = {"a": "1", "b": "2"}


async def on_config_map(api: Api, patch: Any, media: str) -> Answer:
    await api.create(api.at("configmaps"), config_map("c", None, **DATA))
    return await api.patch(api.at("configmaps", "c"), patch, media)


async def on_containers(api: Api, patch: Any) -> list[dict[str, Any]]:
    """Patch the pod template of a deployment strategically; return its containers."""
    path = api.at("deployments", "web", group="apps")
    body = deployment("web")
    body["spec"]["template"]["spec"]["containers"][0] |= {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"containerPort": 80}, {"containerPort": 81}],
        "args": ["x", "y"],
    }
    await api.create(api.at("deployments", group="apps"), body)
    patched = await api.patch(path, {"spec": {"template": {"spec": patch}}}, STRATEGIC)
    assert patched.code == 200, patched.body
    containers: list[dict[str, Any]] = patched.body["spec"]["template"]["spec"]["containers"]
    return containers


# JSON patch: RFC 6902


@pytest.mark.parametrize(
    ("operations", "want"),
    [
        ([{"op": "add", "path": "/data/c", "value": "3"}], {**DATA, "c": "3"}),
        ([{"op": "remove", "path": "/data/a"}], {"b": "2"}),
        ([{"op": "replace", "path": "/data/a", "value": "9"}], {"a": "9", "b": "2"}),
        ([{"op": "move", "from": "/data/a", "path": "/data/z"}], {"b": "2", "z": "1"}),
        ([{"op": "copy", "from": "/data/a", "path": "/data/z"}], {**DATA, "z": "1"}),
        ([{"op": "test", "path": "/data/a", "value": "1"}, {"op": "remove", "path": "/data/b"}], {"a": "1"}),
        ([{"op": "add", "path": "/data/x~1y", "value": "3"}], {**DATA, "x/y": "3"}),
    ],
    ids=["add", "remove", "replace", "move", "copy", "test", "escaped"],
)
async def test_json_patch(api: Api, operations: Any, want: dict[str, str]) -> None:
    patched = await on_config_map(api, operations, JSON_PATCH)
    if "x/y" in want:  # The operation is done; such a key is not one of a ConfigMap.
        assert (patched.code, patched.reason) == (422, "Invalid")
    else:
        assert (patched.code, patched.body["data"]) == (200, want)


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ([{"op": "remove", "path": "/data/nope"}], 422),
        ([{"op": "test", "path": "/data/a", "value": "2"}], 422),
        ([{"op": "replace", "path": "/nope/a", "value": "2"}], 422),
        ({"op": "add"}, 400),
        ("text", 400),
    ],
)
async def test_json_patch_that_does_not_fit(api: Api, operations: Any, code: int) -> None:
    patched = await on_config_map(api, operations, JSON_PATCH)
    assert patched.code == code
    assert (await api.get(api.at("configmaps", "c"))).body["data"] == DATA


async def test_json_patch_inserts_into_lists(api: Api) -> None:
    await api.create(api.at("deployments", group="apps"), deployment("web"))
    side = {"name": "side", "image": "busybox:1"}
    operations = [{"op": "add", "path": "/spec/template/spec/containers/0", "value": side}]
    operations += [{"op": "add", "path": "/spec/template/spec/containers/-", "value": {**side, "name": "last"}}]
    patched = await api.patch(api.at("deployments", "web", group="apps"), operations, JSON_PATCH)
    names = [c["name"] for c in patched.body["spec"]["template"]["spec"]["containers"]]
    assert names == ["side", "main", "last"]


# Merge patch: RFC 7386


async def test_merge_patch_replaces_lists_whole(api: Api) -> None:
    await api.create(api.at("deployments", group="apps"), deployment("web"))
    containers = [{"name": "other", "image": "busybox:1"}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    patched = await api.patch(api.at("deployments", "web", group="apps"), patch, MERGE)
    assert [c["name"] for c in patched.body["spec"]["template"]["spec"]["containers"]] == ["other"]


async def test_merge_patch_that_is_no_object_is_refused(api: Api) -> None:
    assert (await on_config_map(api, ["data"], MERGE)).code == 400


async def test_name_cannot_be_patched(api: Api) -> None:
    patched = await on_config_map(api, {"metadata": {"name": "other"}}, MERGE)
    assert patched.code in (400, 422)


async def test_patch_of_what_is_not_there_is_not_found(api: Api) -> None:
    for media in (MERGE, STRATEGIC):
        assert (await api.patch(api.at("configmaps", "none"), {}, media)).code == 404
    assert (await api.patch(api.at("configmaps", "none"), [], JSON_PATCH)).code == 404


# Strategic merge patch


async def test_items_are_found_by_their_merge_key(api: Api) -> None:
    patch = {"containers": [{"name": "main", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]}
    (main,) = await on_containers(api, patch)
    assert {e["name"]: e["value"] for e in main["env"]} == {"A": "1", "B": "3", "C": "4"}
    assert main["args"] == ["x", "y"]


async def test_ports_of_containers_are_found_by_number(api: Api) -> None:
    (main,) = await on_containers(
        api, {"containers": [{"name": "main", "ports": [{"containerPort": 81, "name": "m"}]}]}
    )
    assert {p["containerPort"]: p.get("name", "") for p in main["ports"]} == {80: "", 81: "m"}


async def test_list_without_merge_key_is_replaced(api: Api) -> None:
    (main,) = await on_containers(api, {"containers": [{"name": "main", "args": ["z"]}]})
    assert main["args"] == ["z"]


async def test_directive_deletes_an_item(api: Api) -> None:
    env = [{"name": "A", "$patch": "delete"}]
    (main,) = await on_containers(api, {"containers": [{"name": "main", "env": env}]})
    assert [e["name"] for e in main["env"]] == ["B"]


async def test_directive_replaces_a_list(api: Api) -> None:
    containers = [{"name": "only", "image": "busybox:1"}, {"$patch": "replace"}]
    assert [c["name"] for c in await on_containers(api, {"containers": containers})] == ["only"]


async def test_order_of_items_can_be_set(api: Api) -> None:
    added = {"containers": [{"name": "side", "image": "busybox:1"}]}
    order = [{"name": "side"}, {"name": "main"}]
    containers = await on_containers(api, {**added, "$setElementOrder/containers": order})
    assert [c["name"] for c in containers] == ["side", "main"]


async def test_retained_keys_clear_the_others(api: Api) -> None:
    # The union `strategy`: what does not belong to the new type goes.
    path = api.at("deployments", "web", group="apps")
    await api.create(api.at("deployments", group="apps"), deployment("web"))
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    patched = await api.patch(path, patch, STRATEGIC)
    assert patched.body["spec"]["strategy"] == {"type": "Recreate"}


async def test_items_of_a_list_of_texts_can_be_deleted(api: Api) -> None:
    body = config_map("c")
    body["metadata"]["finalizers"] = ["pybrix.dev/a", "pybrix.dev/b"]
    await api.create(api.at("configmaps"), body)
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["pybrix.dev/a"], "finalizers": ["pybrix.dev/c"]}}
    patched = await api.patch(api.at("configmaps", "c"), patch, STRATEGIC)
    assert sorted(patched.body["metadata"]["finalizers"]) == ["pybrix.dev/b", "pybrix.dev/c"]
    await api.patch(api.at("configmaps", "c"), {"metadata": {"finalizers": None}})


async def test_ports_of_services_are_found_by_number(api: Api) -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}}
    await api.create(api.at("services"), body)
    patch = {"spec": {"ports": [{"port": 81, "targetPort": 9000}, {"port": 82, "name": "c"}]}}
    patched = await api.patch(api.at("services", "s"), patch, STRATEGIC)
    assert {p["port"]: p["targetPort"] for p in patched.body["spec"]["ports"]} == {80: 80, 81: 9000, 82: 82}


@pytest.mark.parametrize(
    "patch", [{"spec": {"$patch": "explode"}}, {"spec": {"template": {"spec": {"containers": [{}]}}}}]
)
async def test_malformed_strategic_patch_is_refused(api: Api, patch: Any) -> None:
    await api.create(api.at("deployments", group="apps"), deployment("web"))
    refused = await api.patch(api.at("deployments", "web", group="apps"), patch, STRATEGIC)
    assert refused.code in (400, 422)


async def test_custom_kinds_have_no_strategic_patch(api: Api) -> None:
    # /docs/concepts/extend-kubernetes/api-extension/custom-resources/#advanced-features-and-flexibility
    async with widgets(api, spec_schema({"a": {"type": "string"}})) as kind:
        await kind.create({"a": "1"})
        refused = await api.patch(kind.path("w"), {"spec": {"a": "2"}}, STRATEGIC)
        assert (refused.code, refused.reason) == (415, "UnsupportedMediaType")
        assert MERGE in refused.body["message"]


async def test_force_is_for_apply_alone(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("c"))
    assert (await api.patch(api.at("configmaps", "c"), {}, MERGE, force="true")).code in (400, 422)
    body = {**config_map("c"), "apiVersion": "v1"}
    forced = await api.patch(api.at("configmaps", "c"), body, APPLY, force="true", fieldManager="m")
    assert forced.code == 200
