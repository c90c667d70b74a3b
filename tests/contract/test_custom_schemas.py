"""Schemas of custom resources.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.contract import JSON_PATCH, Api
from tests.support.customkinds import DEFINITIONS, causes, definition_in, group_of, widgets
from tests.support.definitions import spec_schema

NUMBER: dict[str, Any] = {"type": "integer"}
TEXT: dict[str, Any] = {"type": "string"}
PORT = {"type": "object", "required": ["port"], "properties": {"port": NUMBER, "name": TEXT}}
PORTS = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"], "items": PORT}
SCHEMA = spec_schema(
    {
        "replicas": {**NUMBER, "minimum": 0, "maximum": 10, "default": 1},
        "size": {**TEXT, "enum": ["small", "large"]},
        "note": {**TEXT, "nullable": True},
        "limits": {"type": "object", "properties": {"cpu": {"x-kubernetes-int-or-string": True, "default": "1"}}},
        "ports": PORTS,
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
        "template": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"known": NUMBER}},
        "model": {**TEXT, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "model is immutable"}]},
    },
    **{
        "x-kubernetes-validations": [{"rule": "self.replicas < 10 || self.size == 'large'", "message": "10 need large"}]
    },
)


# #defaulting, #defaulting-and-nullable


async def test_defaults_fill_what_is_absent(api: Api) -> None:
    async with widgets(api, SCHEMA) as kind:
        made = await kind.create({"limits": {}, "note": None, "size": None})
        assert made.body["spec"] == {"replicas": 1, "limits": {"cpu": "1"}, "note": None}
        patched = await kind.patch({"spec": {"replicas": None}})
        assert patched.body["spec"]["replicas"] == 1


async def test_object_stored_before_a_default_came_has_it_when_it_is_read(api: Api) -> None:
    async with widgets(api, spec_schema({"old": TEXT})) as kind:
        made = await kind.create({"old": "x"})
        crd = (await api.get(f"{DEFINITIONS}/widgets.{kind.group}")).body
        properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        properties["new"] = {**TEXT, "default": "y"}
        assert (await api.put(f"{DEFINITIONS}/widgets.{kind.group}", crd)).code == 200
        # A cluster takes a moment to serve a definition that changed.
        async with asyncio.timeout(60):
            read = await _until_default(api, kind.path("w"))
        assert read["spec"] == {"old": "x", "new": "y"}
        assert read["metadata"]["resourceVersion"] == made.body["metadata"]["resourceVersion"]
        listed = (await api.get(kind.path())).body["items"][0]
        assert listed["spec"] == {"old": "x", "new": "y"}


async def _until_default(api: Api, path: str) -> Any:
    while True:
        read = (await api.get(path)).body
        if "new" in read["spec"]:
            return read


async def test_versions_have_schemas_of_their_own(api: Api) -> None:
    # /docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
    group = group_of(api)
    crd = definition_in(group, spec_schema({"a": TEXT}))
    other = spec_schema({"a": TEXT, "b": {**TEXT, "default": "y"}})
    crd["spec"]["versions"].append(
        {**crd["spec"]["versions"][0], "name": "v2", "storage": False, "schema": {"openAPIV3Schema": other}}
    )
    assert (await api.create(DEFINITIONS, crd)).code == 201
    try:
        one, two = (api.at("widgets", group=group, version=version) for version in ("v1", "v2"))
        async with asyncio.timeout(60):
            while (await api.get(two)).code != 200:  # noqa: ASYNC110 - HTTP has no event
                await asyncio.sleep(0.05)
        body = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"a": "x", "b": "z"}}
        assert (await api.create(one, body)).body["spec"] == {"a": "x"}
        for read in ((await api.get(f"{two}/w")).body, (await api.get(two)).body["items"][0]):
            assert (read["apiVersion"], read["spec"]) == (f"{group}/v2", {"a": "x", "b": "y"})
    finally:
        await api.delete(f"{DEFINITIONS}/widgets.{group}")


# #validation-ratcheting


async def test_what_a_stricter_definition_would_refuse_may_stay_until_it_changes(api: Api) -> None:
    async with widgets(api, spec_schema({"n": NUMBER, "note": TEXT})) as kind:
        await kind.create({"n": 50})
        crd = (await api.get(f"{DEFINITIONS}/widgets.{kind.group}")).body
        properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        properties["n"]["maximum"] = 10
        assert (await api.put(f"{DEFINITIONS}/widgets.{kind.group}", crd)).code == 200
        async with asyncio.timeout(60):
            while (await kind.create({"n": 50}, name="new", dryRun="All")).code != 422:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await kind.patch({"status": {"phase": "x"}}, subresource="status")).code == 200
        assert (await kind.patch({"spec": {"note": "x"}})).code == 200
        assert (await kind.patch({"spec": {"n": 51}})).code == 422
        assert (await kind.patch({"spec": {"n": 5}})).code == 200


# #field-pruning


async def test_unknown_fields_are_dropped_or_refused_as_the_client_asks(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#setting-the-field-validation-level
    async with widgets(api, SCHEMA) as kind:
        spec = {"replcas": 3, "ports": [{"port": 1, "prot": "TCP"}], "template": {"any": {"thing": [1]}, "known": 1}}
        strict = await kind.create(spec, fieldValidation="Strict")
        assert strict.code == 400
        assert 'unknown field "spec.replcas"' in strict.body["message"]
        assert 'unknown field "spec.ports[0].prot"' in strict.body["message"]
        warned = await kind.create(spec, fieldValidation="Warn")
        assert warned.code == 201
        assert 'unknown field \\"spec.replcas\\"' in ", ".join(warned.headers.getall("Warning"))  # type: ignore[attr-defined]
        want = {"replicas": 1, "ports": [{"port": 1}], "template": {"any": {"thing": [1]}, "known": 1}}
        assert warned.body["spec"] == want
        ignored = await kind.create(spec, name="quiet", fieldValidation="Ignore")
        assert (ignored.code, ignored.headers.get("Warning")) == (201, None)


@pytest.mark.parametrize("kind_of_body", ["json", "yaml"])
async def test_field_that_comes_twice_is_refused_or_warned_about(api: Api, kind_of_body: str) -> None:
    async with widgets(api, SCHEMA) as kind:
        head = f'"apiVersion": "{kind.group}/v1", "kind": "Widget", "metadata": {{"name": "w"}}'
        media = f"application/{kind_of_body}"
        text = f'{{{head}, "spec": {{"replicas": 1, "replicas": 2}}}}'
        word = 'duplicate field "spec.replicas"'
        if kind_of_body == "yaml":
            spec = "spec:\n  replicas: 1\n  replicas: 2\n"
            text = f"apiVersion: {kind.group}/v1\nkind: Widget\nmetadata: {{name: w}}\n{spec}"
            word = 'key "replicas" already set in map'
        query = {"fieldValidation": "Strict"}
        refused = await api.request("POST", kind.path(), text.encode(), query=query, media=media)
        assert refused.code == 400
        assert word in refused.body["message"]
        made = await api.request("POST", kind.path(), text.encode(), media=media)
        assert (made.code, made.body["spec"]["replicas"]) == (201, 2)
        assert word.replace('"', '\\"') in made.headers["Warning"]


async def test_embedded_objects_keep_kind_and_metadata(api: Api) -> None:
    # #rawextension
    pod = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}}
    async with widgets(api, spec_schema({"pod": pod})) as kind:
        embedded = {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "b"}}, "spec": {}}
        made = await kind.create({"pod": {**embedded, "other": 1}})
        assert made.body["spec"]["pod"] == embedded
        refused = await kind.create({"pod": {"spec": {}}}, name="v")
        assert [field for field, _ in causes(refused)] == ["spec.pod.apiVersion", "spec.pod.kind"]


# #validation


@pytest.mark.parametrize("number", ["1.0", "1e0", "10e-1"])
async def test_numbers_without_a_fraction_are_integers(api: Api, number: str) -> None:
    async with widgets(api, SCHEMA) as kind:
        spec = {"replicas": float(number), "limits": {"cpu": 2.0}, "template": {"known": 3.0, "other": [4.0, 0.5]}}
        made = await kind.create(spec)
        assert made.code == 201, made.body
        read = (await api.get(kind.path("w"))).body["spec"]
        assert json.dumps(read["replicas"]) == "1"
        assert json.dumps([read["limits"]["cpu"], read["template"]["known"], read["template"]["other"]]) == (
            "[2, 3, [4, 0.5]]"
        )
        patched = await kind.patch({"spec": {"replicas": 7.0}})
        assert json.dumps(patched.body["spec"]["replicas"]) == "7"
        assert (await kind.patch({"spec": {"replicas": 1.5}})).code == 422


async def test_a_number_that_becomes_a_boolean_has_changed(api: Api) -> None:
    """Values are compared as JSON: https://datatracker.ietf.org/doc/html/rfc6902#section-4.6."""
    async with widgets(api, SCHEMA) as kind:
        made = await kind.create({"ports": [{"port": 1}], "template": {"on": 1}})
        refused = await kind.patch({"spec": {"ports": [{"port": True}]}})
        assert refused.code == 422
        patched = await kind.patch({"spec": {"template": {"on": True}}})
        assert patched.body["spec"]["template"] == {"on": True}
        assert patched.body["metadata"]["generation"] == made.body["metadata"]["generation"] + 1


async def test_every_error_is_a_cause_with_its_path(api: Api) -> None:
    async with widgets(api, SCHEMA) as kind:
        spec = {"replicas": 11, "size": "huge", "ports": [{"port": "x"}, {}], "tags": ["a", "a"], "limits": {"cpu": []}}
        refused = await kind.create(spec)
        assert (refused.code, refused.reason) == (422, "Invalid")
        assert {field for field, _ in causes(refused)} >= {
            "spec.replicas", "spec.size", "spec.ports[0].port", "spec.ports[1].port", "spec.limits.cpu",
        }  # fmt: skip
        assert (await api.get(kind.path("w"))).code == 404
        twice = await kind.create({"tags": ["a", "a"], "ports": [{"port": 1}, {"port": 1}]})
        assert {field for field, _ in causes(twice)} == {"spec.tags[1]", "spec.ports[1]"}


@pytest.mark.parametrize(
    "body", [[], "x", 5, {"spec": []}, {"spec": "x"}, {"metadata": []}, {"metadata": {"labels": 5}}]
)
async def test_wrong_types_are_refused(api: Api, body: Any) -> None:
    async with widgets(api, SCHEMA) as kind:
        sent = {**kind.widget(), **body} if isinstance(body, dict) else body
        assert (await api.create(kind.path(), sent)).code in (400, 422)


# #validation-rules, #transition-rules


async def test_rules_hold_on_every_way_in(api: Api) -> None:
    async with widgets(api, SCHEMA) as kind:
        refused = await kind.create({"replicas": 10, "size": "small"})
        assert causes(refused) == [("spec", 'Invalid value: "object": 10 need large')] or refused.code == 422
        assert (await kind.create({"replicas": 9, "size": "small", "model": "a"})).code == 201
        assert (await kind.patch({"spec": {"replicas": 10}})).code == 422
        patch = [{"op": "replace", "path": "/spec/replicas", "value": 10}]
        assert (await api.patch(kind.path("w"), patch, JSON_PATCH)).code == 422
        assert (await kind.apply({"replicas": 10}, "someone")).code in (409, 422)
        changed = await kind.patch({"spec": {"model": "b"}})
        assert [field for field, _ in causes(changed)] == ["spec.model"]
        assert "model is immutable" in causes(changed)[0][1]
        assert (await kind.patch({"spec": {"replicas": 10, "size": "large"}})).code == 200


async def test_rule_that_cannot_be_evaluated_refuses(api: Api) -> None:
    async with widgets(api, SCHEMA) as kind:
        refused = await kind.create({"replicas": 10})
        assert refused.code == 422
        assert "no such key: size" in refused.body["message"]


# #structural schemas


async def test_definition_whose_schema_is_not_structural_is_refused(api: Api) -> None:
    group = group_of(api)
    refused = await api.create(DEFINITIONS, definition_in(group, spec_schema({"x": {}})))
    assert (refused.code, refused.reason) == (422, "Invalid")
    [(field, message)] = causes(refused)
    assert field.endswith("openAPIV3Schema.properties[spec].properties[x].type")
    assert "must not be empty for specified object fields" in message


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("self.spec.x.nofun()", "undeclared reference to 'nofun'"),
        ("self.spec.y > 1", "undefined field 'y'"),
        ("self.spec.x +", "Syntax error"),
    ],
)
async def test_definition_whose_rule_does_not_compile_is_refused(api: Api, rule: str, word: str) -> None:
    schema = spec_schema({"x": NUMBER}) | {"x-kubernetes-validations": [{"rule": rule}]}
    refused = await api.create(DEFINITIONS, definition_in(group_of(api), schema))
    assert refused.code == 422
    [(field, message)] = causes(refused)
    assert field == "spec.versions[0].schema.openAPIV3Schema.x-kubernetes-validations[0].rule"
    assert word in message


async def test_invalid_default_is_refused(api: Api) -> None:
    schema = spec_schema({"x": {**NUMBER, "default": "one"}})
    refused = await api.create(DEFINITIONS, definition_in(group_of(api), schema))
    assert causes(refused)[0][0].endswith("properties[spec].properties[x].default")


# #subresources


async def test_status_and_spec_change_through_their_own_doors(api: Api) -> None:
    async with widgets(api, SCHEMA) as kind:
        made = await kind.create({"replicas": 2}, more={"status": {"phase": "x"}})
        assert "status" not in made.body
        assert made.body["metadata"]["generation"] == 1
        written = await kind.patch({"spec": {"replicas": 5}, "status": {"phase": "Ready"}}, subresource="status")
        assert (written.body["spec"]["replicas"], written.body["status"]) == (2, {"phase": "Ready"})
        assert written.body["metadata"]["generation"] == 1
        assert (await kind.patch({"status": {"replicas": "two"}}, subresource="status")).code == 422
        changed = await kind.patch({"spec": {"replicas": 5}, "status": {"phase": "x"}})
        assert (changed.body["status"], changed.body["metadata"]["generation"]) == ({"phase": "Ready"}, 2)


async def test_scale_is_checked_by_the_schema(api: Api) -> None:
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    async with widgets(api, SCHEMA, subresources={"status": {}, "scale": scale}) as kind:
        await kind.create({"replicas": 2})
        assert (await kind.patch({"spec": {"replicas": 4}}, subresource="scale")).body["spec"]["replicas"] == 4
        refused = await kind.patch({"spec": {"replicas": 11}}, subresource="scale")
        assert (refused.code, causes(refused)[0][0]) == (422, "spec.replicas")


# https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy


async def test_apply_merges_lists_as_the_schema_says(api: Api) -> None:
    async with widgets(api, SCHEMA) as kind:
        await kind.apply({"ports": [{"port": 1, "name": "a"}], "tags": ["x"]}, "one")
        both = await kind.apply({"ports": [{"port": 2}], "tags": ["y"]}, "two")
        assert both.body["spec"]["ports"] == [{"port": 1, "name": "a"}, {"port": 2}]
        assert both.body["spec"]["tags"] == ["x", "y"]
        # A default belongs to nobody.
        owned = [e["fieldsV1"].get("f:spec", {}) for e in both.body["metadata"]["managedFields"]]
        assert not any("f:replicas" in fields for fields in owned), owned
        less = await kind.apply({"tags": ["x"]}, "one")
        assert less.body["spec"]["ports"] == [{"port": 2}]


async def test_apply_of_wrong_types_is_refused(api: Api) -> None:
    async with widgets(api, SCHEMA) as kind:
        await kind.create({"ports": [{"port": 1}]})
        wrong: tuple[Any, ...] = (
            {"ports": {"port": 1}},
            {"ports": [5]},
            {"ports": [[]]},
            {"tags": [{}]},
            {"limits": []},
            [],
        )
        for spec in wrong:
            refused = await kind.apply(spec, "one")
            assert 400 <= refused.code < 500, spec


async def test_apply_finds_items_by_the_defaults_of_their_keys(api: Api) -> None:
    item = {"type": "object", "properties": {"zone": {**TEXT, "default": "a"}, "n": NUMBER}}
    zones = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["zone"], "items": item}
    async with widgets(api, spec_schema({"zones": zones})) as kind:
        await kind.apply({"zones": [{"n": 1}]}, "one")
        again = await kind.apply({"zones": [{"n": 2}]}, "one")
        assert again.body["spec"]["zones"] == [{"zone": "a", "n": 2}]
