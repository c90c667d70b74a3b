"""https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules"""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.cluster.apiserver.structural.cel import CelError, compile_expression
from pybrix.cluster.apiserver.structural.custom import CustomSchema
from tests.support.definitions import spec_schema, widget

NUMBER = {"type": "integer"}
TEXT = {"type": "string"}
ITEM = {"type": "object", "required": ["name"], "properties": {"name": TEXT, "size": NUMBER}}


def rules(*found: dict[str, Any]) -> dict[str, Any]:
    return {"x-kubernetes-validations": list(found)}


def causes(schema: dict[str, Any], spec: Any, old: Any = None) -> list[tuple[str, str, str]]:
    found = CustomSchema(schema).check(widget(spec=spec), None if old is None else widget(spec=old))
    return [(c.field, c.reason.removeprefix("FieldValue"), c.message) for c in found]


def test_broken_rule_says_its_message_where_it_stands() -> None:
    schema = spec_schema(
        {"min": NUMBER, "max": NUMBER}, **rules({"rule": "self.min <= self.max", "message": "min > max"})
    )
    assert causes(schema, {"min": 1, "max": 2}) == []
    assert causes(schema, {"min": 3, "max": 2}) == [("spec", "Invalid", 'Invalid value: "object": min > max')]


def test_message_expression_reason_and_field_path() -> None:
    rule = {
        "rule": "self.min <= self.max",
        "messageExpression": "'min ' + string(self.min) + ' is more than ' + string(self.max)",
        "reason": "FieldValueForbidden",
        "fieldPath": ".min",
    }
    schema = spec_schema({"min": NUMBER, "max": NUMBER}, **rules(rule))
    assert causes(schema, {"min": 3, "max": 2}) == [("spec.min", "Forbidden", "Forbidden: min 3 is more than 2")]


def test_message_expression_that_fails_leaves_the_message() -> None:
    rule = {"rule": "false", "messageExpression": "string(self.max)", "message": "never"}
    assert causes(spec_schema({"max": NUMBER}, **rules(rule)), {}) == [
        ("spec", "Invalid", 'Invalid value: "object": never')
    ]


def test_evaluation_that_fails_is_an_error() -> None:
    [(field, _, message)] = causes(spec_schema({"max": NUMBER}, **rules({"rule": "self.max > 1"})), {})
    assert field == "spec"
    assert message == 'Invalid value: "object": no such key: max evaluating rule: self.max > 1'


def test_transition_rules_see_what_was_there() -> None:
    schema = spec_schema({"model": {**TEXT, **rules({"rule": "self == oldSelf", "message": "model is immutable"})}})
    assert causes(schema, {"model": "a"}) == []
    assert causes(schema, {"model": "a"}, {}) == []
    assert causes(schema, {"model": "a"}, {"model": "a"}) == []
    assert causes(schema, {"model": "b"}, {"model": "a"}) == [
        ("spec.model", "Invalid", 'Invalid value: "b": model is immutable')
    ]


def test_optional_old_self_is_empty_on_create() -> None:
    rule = {"rule": "oldSelf.hasValue() || self == 'new'", "optionalOldSelf": True, "message": "starts as new"}
    schema = spec_schema({"phase": {**TEXT, **rules(rule)}})
    assert causes(schema, {"phase": "new"}) == []
    assert causes(schema, {"phase": "old"})[0][2] == 'Invalid value: "old": starts as new'
    assert causes(schema, {"phase": "old"}, {"phase": "new"}) == []


def test_items_of_a_keyed_list_are_found_again() -> None:
    items = {**ITEM, **rules({"rule": "self.size >= oldSelf.size", "message": "may not shrink"})}
    keyed = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": items}
    old = {"l": [{"name": "a", "size": 1}, {"name": "b", "size": 5}]}
    assert causes(spec_schema({"l": keyed}), {"l": [{"name": "b", "size": 6}, {"name": "c", "size": 0}]}, old) == []
    assert causes(spec_schema({"l": keyed}), {"l": [{"name": "b", "size": 2}]}, old)[0][0] == "spec.l[0]"


def test_rules_of_the_whole_object_see_its_name_and_escaped_properties() -> None:
    schema = spec_schema({"a-b": NUMBER, "namespace": TEXT, "x__y": NUMBER, "at": {"type": "string", "format": "byte"}})
    schema |= rules(
        {
            "rule": "self.metadata.name == 'w' && self.kind == 'Widget' && self.spec.a__dash__b == 1 && "
            "self.spec.__namespace__ == 'n' && self.spec.x__underscores__y == 2 && size(self.spec.at) == 3"
        }
    )
    assert causes(schema, {"a-b": 1, "namespace": "n", "x__y": 2, "at": "YWJj"}) == []


def test_rules_wait_until_the_value_has_its_form() -> None:
    schema = spec_schema({"n": NUMBER}, **rules({"rule": "self.n > 1"}))
    assert [c[1] for c in causes(schema, {"n": "x"})] == ["TypeInvalid"]


def test_rules_on_very_many_items_run_out_of_budget() -> None:
    schema = spec_schema({"l": {"type": "array", "items": {**NUMBER, **rules({"rule": "self >= 0"})}}})
    found = causes(schema, {"l": list(range(100_000))})
    assert len(found) == 1
    assert "budget" in found[0][2]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("quantity('1500m').isGreaterThan(quantity('1'))", True),
        ("quantity('1k') == quantity('1000')", True),
        ("quantity('1Gi').add(quantity('1')).sub(1).asInteger()", 2**30),
        ("isQuantity('5 apples')", False),
        ("[1, 2, 2].isSorted() && [2, 1].min() == 1 && [2, 1].max() == 2 && [2, 1].sum() == 3", True),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])", True),
        ("url('https://a.b:8080/c?d=1&d=2').getQuery()['d'][1]", "2"),
        ("url('https://[::1]:8080/c').getHostname() + url('https://a:1/c').getPort()", "::11"),
        ("isURL('../a')", False),
        ("cidr('10.0.0.0/8').containsIP(ip('10.1.2.3')) && !cidr('10.0.0.0/8').containsIP('11.0.0.1')", True),
        ("ip('::1').family()", 6),
        ("'a1b22'.findAll('[0-9]+')", ["1", "22"]),
        ("'a1b22'.find('[0-9]+$')", "22"),
        ("'a,b'.split(',').join('-').upperAscii()", "A-B"),
        ("optional.of(1).orValue(2)", 1),
        ("dyn(1) < 1.5", True),
    ],
)
def test_functions_of_kubernetes(text: str, want: Any) -> None:
    assert compile_expression(text, ()).evaluate({}) == want


@pytest.mark.parametrize(
    "text", ["quantity('x')", "url('a b')", "ip('1.2.3')", "[].min()", "['a'].sum()", "1 / 0 == 1"]
)
def test_functions_that_fail_say_so(text: str) -> None:
    with pytest.raises(CelError):
        compile_expression(text, ()).evaluate({})


@pytest.mark.parametrize("text", ["", "1 +", "foo(1)", "nobody.x", "'a'.isSorted()", "1 == 'a'", "(" * 400 + ")" * 400])
def test_expressions_that_do_not_compile_say_so(text: str) -> None:
    with pytest.raises(CelError):
        compile_expression(text, ("self",))
