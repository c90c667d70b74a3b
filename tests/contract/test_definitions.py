"""The life of a custom resource definition: established, updated, deleted.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/ and
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support.contract import AGGREGATED, TABLE, Api
from tests.support.customkinds import DEFINITIONS, Widgets, definition_in, group_of, widgets
from tests.support.definitions import spec_schema

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


async def definition_of(kind: Widgets) -> dict[str, Any]:
    found: dict[str, Any] = (await kind.api.get(f"{DEFINITIONS}/widgets.{kind.group}")).body
    return found


async def change(kind: Widgets, **version: Any) -> None:
    """Change the first version of the definition."""
    crd = await definition_of(kind)
    crd["spec"]["versions"][0] |= version
    changed = await kind.api.put(f"{DEFINITIONS}/widgets.{kind.group}", crd)
    assert changed.code == 200, changed.body


async def test_definition_says_when_it_is_served(api: Api) -> None:
    async with widgets(api, spec_schema({"a": TEXT})) as kind:
        status = (await definition_of(kind))["status"]
        states = {c["type"]: c["status"] for c in status["conditions"]}
        assert (states["Established"], states["NamesAccepted"]) == ("True", "True")
        assert status["acceptedNames"]["kind"] == "Widget"
        assert status["storedVersions"] == ["v1"]


async def test_names_have_defaults(api: Api) -> None:
    crd = definition_in(group_of(api), spec_schema({}))
    del crd["spec"]["names"]["singular"]
    made = await api.create(DEFINITIONS, crd, dryRun="All")
    assert made.body["spec"]["names"] | {"plural": ""} == {
        "plural": "",
        "singular": "widget",
        "kind": "Widget",
        "listKind": "WidgetList",
    }
    assert made.body["spec"]["conversion"] == {"strategy": "None"}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("metadata", "name"), "gadgets.GROUP", "metadata.name"),
        (("spec", "scope"), "Sometimes", "spec.scope"),
        (("spec", "names", "kind"), "", "spec.names.kind"),
        (("spec", "versions"), [], "spec.versions"),
        (("spec", "group"), "", "spec.group"),
    ],
)
async def test_malformed_definition_is_invalid(api: Api, path: tuple[str, ...], value: Any, field: str) -> None:
    group = group_of(api)
    crd = copy.deepcopy(definition_in(group, spec_schema({"a": TEXT})))
    part: Any = crd
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value.replace("GROUP", group) if isinstance(value, str) else value
    refused = await api.create(DEFINITIONS, crd)
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert any(c["field"].startswith(field) for c in refused.body["details"]["causes"]), refused.body


async def test_two_storage_versions_are_one_too_many(api: Api) -> None:
    crd = definition_in(group_of(api), spec_schema({"a": TEXT}))
    crd["spec"]["versions"].append({**crd["spec"]["versions"][0], "name": "v2"})
    assert (await api.create(DEFINITIONS, crd)).code == 422


async def test_kind_is_discovered_with_its_names_and_gone_with_its_definition(api: Api) -> None:
    group = group_of(api)
    async with widgets(api, spec_schema({"a": TEXT})):
        plain = (await api.get(f"/apis/{group}/v1")).body["resources"]
        assert {"widgets", "widgets/status"} == {r["name"] for r in plain}
        whole = (await api.get("/apis", AGGREGATED)).body["items"]
        assert group in {g["metadata"]["name"] for g in whole}
        assert f"apis/{group}/v1" in (await api.get("/openapi/v3")).body["paths"]

    async def is_gone() -> bool:
        return (await api.get(f"/apis/{group}/v1")).code == 404

    await api.until(is_gone)


async def test_objects_go_with_their_definition(api: Api) -> None:
    schema = spec_schema({"a": TEXT})
    async with widgets(api, schema) as kind:
        await kind.create({"a": "1"})
    async with widgets(api, schema) as kind:
        assert (await api.get(kind.path())).body["items"] == []


async def test_all_versions_show_the_same_object(api: Api) -> None:
    group = group_of(api)
    async with widgets(api, spec_schema({"a": TEXT})) as kind:
        crd = await definition_of(kind)
        crd["spec"]["versions"].append({**crd["spec"]["versions"][0], "name": "v2", "storage": False})
        assert (await api.put(f"{DEFINITIONS}/widgets.{group}", crd)).code == 200
        await kind.create({"a": "1"})
        path = api.at("widgets", "w", group=group, version="v2")

        async def is_served() -> bool:
            return (await api.get(path)).code == 200

        await api.until(is_served)
        seen = (await api.get(path)).body
        assert (seen["apiVersion"], seen["spec"]) == (f"{group}/v2", {"a": "1"})
        patched = await api.patch(path, {"spec": {"a": "2"}})
        assert patched.code == 200
        assert (await api.get(kind.path("w"))).body["spec"] == {"a": "2"}


async def test_version_that_is_no_longer_served_is_not_found(api: Api) -> None:
    async with widgets(api, spec_schema({"a": TEXT})) as kind:
        crd = await definition_of(kind)
        crd["spec"]["versions"].append({**crd["spec"]["versions"][0], "name": "v2", "storage": False})
        await api.put(f"{DEFINITIONS}/widgets.{kind.group}", crd)
        crd = await definition_of(kind)
        crd["spec"]["versions"][0]["served"] = False
        await api.put(f"{DEFINITIONS}/widgets.{kind.group}", crd)

        async def is_gone() -> bool:
            return (await api.get(kind.path())).code == 404

        await api.until(is_gone)


async def test_deprecated_version_warns(api: Api) -> None:
    # #version-deprecation
    more = {"deprecated": True, "deprecationWarning": "widgets are old"}
    async with widgets(api, spec_schema({"a": TEXT}), **more) as kind:
        assert "widgets are old" in (await kind.create({"a": "1"})).headers["Warning"]


async def test_columns_are_those_of_the_definition(api: Api) -> None:
    # #additional-printer-columns
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
        {"name": "Detail", "type": "string", "jsonPath": ".spec.note", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    schema = spec_schema({"size": NUMBER, "note": TEXT})
    async with widgets(api, schema, additionalPrinterColumns=columns) as kind:
        await kind.create({"size": 3, "note": "x"})
        table = (await api.get(kind.path(), TABLE)).body
        shown = [(c["name"], c["priority"]) for c in table["columnDefinitions"]]
        assert shown == [("Name", 0), ("Size", 0), ("Phase", 0), ("Detail", 1), ("Age", 0)]
        assert table["rows"][0]["cells"][:4] == ["w", 3, None, "x"]


async def test_kind_without_status_subresource_has_no_such_door(api: Api) -> None:
    # #status-subresource
    async with widgets(api, spec_schema({"a": TEXT}), subresources={}) as kind:
        made = await kind.create({"a": "1"}, more={"status": {"phase": "x"}})
        assert made.body["status"] == {"phase": "x"}
        assert (await api.get(kind.path("w", "status"))).code == 404
        changed = await kind.patch({"status": {"phase": "y"}})
        assert changed.body["status"] == {"phase": "y"}


async def test_rule_that_is_added_holds_for_the_next_write(api: Api) -> None:
    # #validation-rules
    async with widgets(api, spec_schema({"size": NUMBER})) as kind:
        await kind.create({"size": 9})
        rules = [{"rule": "self.size < 5", "message": "too large"}]
        stricter = spec_schema({"size": NUMBER}, **{"x-kubernetes-validations": rules})
        await change(kind, schema={"openAPIV3Schema": stricter})

        async def is_refused() -> bool:
            return (await kind.create({"size": 8}, name="late", dryRun="All")).code == 422

        await api.until(is_refused)
        assert (await api.get(kind.path("w"))).body["spec"] == {"size": 9}


async def test_transition_rule_compares_with_what_was(api: Api) -> None:
    # #transition-rules
    size = {**NUMBER, "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "only grows"}]}
    async with widgets(api, spec_schema({"size": size})) as kind:
        assert (await kind.create({"size": 5})).code == 201
        assert (await kind.patch({"spec": {"size": 6}})).code == 200
        refused = await kind.patch({"spec": {"size": 4}})
        assert (refused.code, "only grows" in refused.body["message"]) == (422, True)
        assert (await kind.patch({"spec": {"size": None}})).code == 200
        assert (await kind.patch({"spec": {"size": 1}})).code == 200


async def test_scale_has_the_paths_of_the_definition(api: Api) -> None:
    # #scale-subresource
    paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.replicas"}
    more = {"subresources": {"status": {}, "scale": paths}}
    async with widgets(api, spec_schema({"size": NUMBER}), **more) as kind:
        await kind.create({"size": 2})
        scale = (await api.get(kind.path("w", "scale"))).body
        assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 2)
        scale["spec"]["replicas"] = 5
        assert (await api.put(kind.path("w", "scale"), scale)).code == 200
        assert (await api.get(kind.path("w"))).body["spec"]["size"] == 5
        stale = await api.put(kind.path("w", "scale"), scale)
        assert (stale.code, stale.reason) == (409, "Conflict")
