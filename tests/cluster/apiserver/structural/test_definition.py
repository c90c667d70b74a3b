"""https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema"""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.cluster.apiserver.structural.definition import check_schema, unknown_keywords
from tests.support.definitions import spec_schema

NUMBER: dict[str, Any] = {"type": "integer"}
TEXT: dict[str, Any] = {"type": "string"}
ITEMS = {"type": "array", "items": {"type": "object", "properties": {"name": TEXT}}}
X = "s.properties[spec].properties[x]"


def rule(**found: Any) -> dict[str, Any]:
    return {**NUMBER, "x-kubernetes-validations": [found]}


@pytest.mark.parametrize(
    ("schema", "field", "word"),
    [
        ({}, "type", "must not be empty for specified object fields"),
        ({"type": "text"}, "type", "supported values"),
        ({"type": "array"}, "items", "must be specified"),
        ({"type": "array", "items": {}}, "items.type", "array items"),
        ({"type": "array", "items": [TEXT]}, "items", "must be a schema object"),
        (
            {"type": "object", "properties": {"a": TEXT}, "additionalProperties": TEXT},
            "additionalProperties",
            "mutual exclusive",
        ),
        ({"type": "object", "additionalProperties": False}, "additionalProperties", "cannot be set to false"),
        ({"type": "object", "anyOf": [{"properties": {"a": {}}}]}, "properties[a]", "because it is defined"),
        ({**NUMBER, "anyOf": [{"type": "integer"}]}, "anyOf[0].type", "must be empty to be structural"),
        ({**TEXT, "pattern": "(?=a)"}, "pattern", "valid regular expression"),
        ({**TEXT, "maxLength": "5"}, "maxLength", "must be of type integer"),
        ({**ITEMS, "uniqueItems": True}, "uniqueItems", "x-kubernetes-list-type: set"),
        ({"$ref": "#/a", "type": "string"}, "$ref", "not supported"),
        ({**ITEMS, "x-kubernetes-list-type": "map"}, "x-kubernetes-list-map-keys", "must not be empty"),
        (
            {**ITEMS, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            "items.properties[name].default",
            "default or be required",
        ),
        ({**ITEMS, "x-kubernetes-list-type": "set"}, "items.x-kubernetes-map-type", "must be atomic"),
        ({"type": "object", "x-kubernetes-embedded-resource": True}, "properties", "embedded"),
        ({**NUMBER, "default": "x"}, "default", "must be of type integer"),
        ({**NUMBER, "default": 5, "maximum": 3}, "default", "less than or equal to 3"),
        ({"type": "object", "properties": {"a": TEXT}, "default": {"b": 1}}, "default.b", "unknown fields"),
        (rule(rule="self.foo()"), "x-kubernetes-validations[0].rule", "undeclared reference to 'foo'"),
        (rule(rule="self +"), "x-kubernetes-validations[0].rule", "Syntax error"),
        (rule(rule="self + 1"), "x-kubernetes-validations[0].rule", "must evaluate to bool, not int"),
        (rule(rule="size('a')"), "x-kubernetes-validations[0].rule", "must evaluate to bool"),
        (rule(rule=""), "x-kubernetes-validations[0].rule", "not specified"),
        (rule(rule="true", reason="Bad"), "x-kubernetes-validations[0].reason", "supported values"),
        (rule(rule="true", fieldPath=".a"), "x-kubernetes-validations[0].fieldPath", "valid path"),
        (rule(rule="true", fieldPath="a b"), "x-kubernetes-validations[0].fieldPath", "must be a JSON path"),
        (rule(rule="true", messageExpression="1"), "x-kubernetes-validations[0].messageExpression", "string"),
        (rule(rule="true", optionalOldSelf=True), "x-kubernetes-validations[0].optionalOldSelf", "oldSelf is not used"),
        (
            {"type": "array", "items": rule(rule="self == oldSelf")},
            "items.x-kubernetes-validations[0].rule",
            "uncorrelatable",
        ),
    ],
)
def test_definition_is_refused_with_the_path(schema: dict[str, Any], field: str, word: str) -> None:
    found = check_schema(spec_schema({"x": schema}), "s")
    assert f"{X}.{field}" in [c.field for c in found], found
    assert any(word in c.message for c in found if c.field == f"{X}.{field}"), found


@pytest.mark.parametrize(
    "schema",
    [
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^[0-9]+%?$",
        },
        {"x-kubernetes-preserve-unknown-fields": True},
        {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "x-kubernetes-embedded-resource": True},
        {
            "type": "object",
            "properties": {"a": TEXT},
            "anyOf": [{"required": ["a"]}, {"properties": {"a": {"minLength": 1}}}],
        },
        {
            "type": "object",
            "properties": {"a": TEXT, "l": ITEMS, "m": {"type": "object", "additionalProperties": NUMBER}},
            "x-kubernetes-validations": [
                {"rule": "has(self.a) && self.l.all(x, x.name != self.a) && self.m.all(k, self.m[k] > 0)"},
                {"rule": "self.?a.orValue('') != 'x' && self.l.filter(x, has(x.name))[0].name == 'a'"},
                {"rule": "!has(oldSelf.a) || self.a == oldSelf.a"},
            ],
        },
    ],
)
def test_structural_schema_is_accepted(schema: dict[str, Any]) -> None:
    assert check_schema(spec_schema({"x": schema}), "s") == []


@pytest.mark.parametrize(
    ("expression", "word"),
    [
        ("self.spec.replcas > 1", "undefined field 'replcas': fields here are at, l, replicas"),
        ("has(self.spec.nope)", "undefined field 'nope'"),
        ("self.spec.l.all(x, x.nme == '')", "undefined field 'nme'"),
        ("self.spec.l[0].nme == ''", "undefined field 'nme'"),
        ("self.spec.?nope.hasValue()", "undefined field 'nope'"),
        ("self.spec.replicas.x == 1", "type 'integer' does not support field selection"),
        ("self.metadata.labels.a == ''", "undefined field 'labels'"),
        ("self.spec.at > timestamp('2024-01-01T00:00:00Z')", "must be converted: timestamp(...)"),
    ],
)
def test_misspelt_field_of_a_rule_is_found_before_an_object_is(expression: str, word: str) -> None:
    schema = spec_schema({"replicas": NUMBER, "l": ITEMS, "at": {"type": "string", "format": "date-time"}})
    schema["x-kubernetes-validations"] = [{"rule": expression}]
    [cause] = check_schema(schema, "s")
    assert cause.field == "s.x-kubernetes-validations[0].rule"
    assert word in cause.message


def test_time_may_be_converted() -> None:
    schema = spec_schema({"at": {"type": "string", "format": "date-time"}})
    schema["x-kubernetes-validations"] = [{"rule": "timestamp(self.spec.at) > timestamp('2024-01-01T00:00:00Z')"}]
    assert check_schema(schema, "s") == []


def test_metadata_can_be_restricted_by_name_only() -> None:
    schema = spec_schema({})
    schema["properties"]["metadata"] = {"type": "object", "properties": {"name": {**TEXT, "maxLength": 50}}}
    assert check_schema(schema, "s") == []
    schema["properties"]["metadata"]["description"] = "not even a text"
    assert check_schema(schema, "s")[0].field == "s.properties[metadata].description"
    del schema["properties"]["metadata"]["description"]
    schema["properties"]["metadata"]["properties"]["labels"] = {"type": "object"}
    assert check_schema(schema, "s")[0].field == "s.properties[metadata].properties[labels]"


def test_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        schema = {"type": "object", "properties": {"a": schema}}
    [cause] = check_schema(schema, "s")
    assert "must not be nested deeper" in cause.message


def test_unknown_keyword_is_named() -> None:
    schema = spec_schema({"x": {**TEXT, "maxlength": 5, "x-kubernetes-validations": [{"rule": "true", "msg": ""}]}})
    assert unknown_keywords(schema, "s") == [f"{X}.maxlength", f"{X}.x-kubernetes-validations[0].msg"]
