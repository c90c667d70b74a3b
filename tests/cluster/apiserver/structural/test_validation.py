"""https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation"""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.cluster.apiserver.structural.custom import CustomSchema
from tests.support.definitions import spec_schema, widget

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
PORT = {"type": "object", "required": ["port"], "properties": {"port": NUMBER, "name": TEXT}}
PORTS = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"], "items": PORT}


def causes(properties: dict[str, Any], spec: Any, old: Any = None, **more: Any) -> list[tuple[str, str, str]]:
    schema = CustomSchema(spec_schema(properties, **more))
    found = schema.check(widget(spec=spec), None if old is None else widget(spec=old))
    return [(c.field, c.reason.removeprefix("FieldValue"), c.message) for c in found]


@pytest.mark.parametrize(
    ("schema", "value", "want"),
    [
        (NUMBER, "3", ("TypeInvalid", 'Invalid value: "string": spec.x in body must be of type integer: "string"')),
        (NUMBER, True, ("TypeInvalid", 'Invalid value: "boolean": spec.x in body must be of type integer: "boolean"')),
        (NUMBER, 2**70, ("TypeInvalid", f"Invalid value: {2**70}: spec.x in body must fit in 64 bits")),
        (TEXT, None, ("TypeInvalid", 'Invalid value: "null": spec.x in body must be of type string: "null"')),
        (
            {**NUMBER, "maximum": 5},
            6,
            ("Invalid", "Invalid value: 6: spec.x in body should be less than or equal to 5"),
        ),
        (
            {**NUMBER, "minimum": 5, "exclusiveMinimum": True},
            5,
            ("Invalid", "Invalid value: 5: spec.x in body should be greater than 5"),
        ),
        (
            {"type": "number", "multipleOf": 0.1},
            0.25,
            ("Invalid", "Invalid value: 0.25: spec.x in body should be a multiple of 0.1"),
        ),
        ({**TEXT, "maxLength": 2}, "abc", ("TooLong", "Too long: may not be more than 2 bytes")),
        (
            {**TEXT, "minLength": 1},
            "",
            ("Invalid", 'Invalid value: "": spec.x in body should be at least 1 chars long'),
        ),
        ({**TEXT, "pattern": "^a+$"}, "ab", ("Invalid", "Invalid value: \"ab\": spec.x in body should match '^a+$'")),
        (
            {**TEXT, "enum": ["a", "b"]},
            "c",
            ("NotSupported", 'Unsupported value: "c": supported values: "a", "b"'),
        ),
        (
            {**TEXT, "format": "date-time"},
            "today",
            ("Invalid", 'Invalid value: "today": spec.x in body must be of type date-time: "today"'),
        ),
        (
            {**NUMBER, "format": "int32"},
            2**40,
            ("Invalid", f"Invalid value: {2**40}: spec.x in body must be of type integer with format int32"),
        ),
        ({"x-kubernetes-int-or-string": True}, 1.5, ("TypeInvalid", None)),
        (
            {"type": "array", "items": TEXT, "maxItems": 1},
            ["a", "b"],
            ("TooMany", "Too many: 2: must have at most 1 items"),
        ),
        ({"type": "array", "items": TEXT, "minItems": 1}, [], ("Invalid", None)),
        ({"type": "object", "additionalProperties": TEXT, "maxProperties": 1}, {"a": "", "b": ""}, ("TooMany", None)),
        (
            {**NUMBER, "oneOf": [{"minimum": 1}, {"maximum": 5}]},
            3,
            (
                "Invalid",
                'Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found 2 valid alternatives',
            ),
        ),
        (
            {**NUMBER, "anyOf": [{"minimum": 10}, {"maximum": 1}]},
            3,
            ("Invalid", 'Invalid value: "": "spec.x" must validate at least one schema (anyOf)'),
        ),
        ({**NUMBER, "not": {"enum": [3]}}, 3, ("Invalid", None)),
        ({**NUMBER, "enum": [1]}, 2, ("NotSupported", 'Unsupported value: 2: supported values: "1"')),
    ],
)
def test_one_error_is_one_cause_with_its_path(schema: Any, value: Any, want: tuple[str, str | None]) -> None:
    [(field, reason, message)] = causes({"x": schema}, {"x": value})
    assert field == "spec.x"
    assert reason == want[0]
    if want[1] is not None:
        assert message == want[1]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (NUMBER, 3.0),
        ({**TEXT, "nullable": True}, None),
        ({"x-kubernetes-int-or-string": True}, "50%"),
        ({"x-kubernetes-int-or-string": True}, 5),
        ({"x-kubernetes-preserve-unknown-fields": True}, [1, {"a": None}]),
        ({"type": "number"}, 3),
        ({**TEXT, "format": "unheard-of"}, "x"),
        ({**TEXT, "maxLength": 3}, "äöü"),
    ],
)
def test_what_fits_is_accepted(schema: Any, value: Any) -> None:
    assert causes({"x": schema}, {"x": value}) == []


def test_every_error_is_named() -> None:
    properties = {
        "a": NUMBER,
        "ports": {**PORTS, "maxItems": 10},
        "tags": {"type": "object", "additionalProperties": TEXT},
    }
    spec = {"a": "x", "ports": [{"name": 5}, {"port": "80"}], "tags": {"example.com/a": 1}}
    found = [field for field, _, _ in causes(properties, spec, required=["model"])]
    assert found == [
        "spec.model", "spec.a", "spec.ports[0].port", "spec.ports[0].name", "spec.ports[1].port",
        "spec.tags[example.com/a]",
    ]  # fmt: skip


def test_lists_with_keys_and_sets_have_no_duplicates() -> None:
    tags = {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT}
    spec = {"ports": [{"port": 80}, {"port": 81}, {"port": 80, "name": "b"}], "tags": ["a", "b", "a"]}
    assert causes({"ports": PORTS, "tags": tags}, spec) == [
        ("spec.ports[2]", "Duplicate", 'Duplicate value: {"port":80}'),
        ("spec.tags[2]", "Duplicate", 'Duplicate value: "a"'),
    ]


def test_what_was_wrong_before_may_stay() -> None:
    properties = {"a": {**NUMBER, "maximum": 1}, "b": {**NUMBER, "maximum": 1}, "ports": PORTS}
    old = {"a": 5, "b": 5, "ports": [{"port": 1, "name": 7}, {"port": 2}]}
    assert causes(properties, {**old, "ports": [{"port": 2}, {"port": 1, "name": 7}]}, old) == []
    assert [c[0] for c in causes(properties, {**old, "b": 6}, old)] == ["spec.b"]


def test_regular_expressions_take_linear_time() -> None:
    assert causes({"x": {**TEXT, "pattern": "^(a+)+$"}}, {"x": "a" * 50_000 + "b"})[0][1] == "Invalid"
