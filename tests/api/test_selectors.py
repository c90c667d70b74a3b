from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.meta import LabelSelector, LabelSelectorRequirement
from pybrix.api.selectors import (
    Requirement,
    Selector,
    compile_label_selector,
    parse_field_selector,
    parse_label_selector,
)

LABELS = {"app": "web", "tier": "front", "example.com/zone": "a"}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("", True, id="nothing selects everything"),
        pytest.param("app=web", True, id="equal"),
        pytest.param("app==web", True, id="equal, spelt twice"),
        pytest.param("app!=web", False, id="not equal"),
        pytest.param("missing!=web", True, id="not equal holds for an absent key"),
        pytest.param("app in (web, api)", True, id="in"),
        pytest.param("app notin (web)", False, id="not in"),
        pytest.param("missing notin (web)", True, id="not in holds for an absent key"),
        pytest.param("tier", True, id="exists"),
        pytest.param("!tier", False, id="does not exist"),
        pytest.param("example.com/zone=a,app=web", True, id="prefix, and two terms"),
        pytest.param("app=web,tier=back", False, id="all terms must hold"),
        pytest.param("tier=", False, id="the empty value is a value"),
    ],
)
def test_label_selector(text: str, want: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is want


@pytest.mark.parametrize("text", ["=a", "a in b", "a in (b", "a b", "a=b=c", "/a=b", ",,"])
def test_bad_label_selector_quotes_the_term(text: str) -> None:
    with pytest.raises(ValueError, match="unable to parse the label selector term"):
        parse_label_selector(text)


_keys = st.sampled_from(["a", "b.c/d", "x-y"])
_values = st.frozensets(st.sampled_from(["1", "v", "w.x"]), min_size=1)
_requirements = st.one_of(
    st.builds(Requirement, _keys, st.sampled_from(["In", "NotIn"]), _values),
    st.builds(Requirement, _keys, st.sampled_from(["Exists", "DoesNotExist"])),
)


@given(st.builds(Selector, st.lists(_requirements, max_size=4).map(tuple)))
def test_a_selector_parses_from_what_it_prints(selector: Selector) -> None:
    assert parse_label_selector(str(selector)) == selector


def test_compiles_both_parts_of_a_selector() -> None:
    selector = compile_label_selector(
        LabelSelector(
            match_labels={"app": "web"},
            match_expressions=[LabelSelectorRequirement(key="tier", operator="NotIn", values=["back"])],
        )
    )
    assert selector is not None
    assert selector.matches(LABELS)
    assert not selector.matches({"app": "web", "tier": "back"})


def test_no_selector_is_not_the_empty_selector() -> None:
    assert compile_label_selector(None) is None
    empty = compile_label_selector(LabelSelector())
    assert empty is not None
    assert empty.matches({})


@pytest.mark.parametrize(("operator", "values"), [("In", []), ("Exists", ["a"]), ("Near", ["a"])])
def test_bad_expressions_are_refused(operator: str, values: list[str]) -> None:
    expression = LabelSelectorRequirement(key="a", operator=operator, values=values)
    with pytest.raises(ValueError, match="matchExpressions"):
        compile_label_selector(LabelSelector(match_expressions=[expression]))


POD: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"nodeName": "n", "hostNetwork": True}, "status": {}}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("metadata.name=a", True),
        ("metadata.name!=a", False),
        ("spec.nodeName==n,status.phase=", True),
        ("status.phase!=Running", True),
        ("spec.hostNetwork=true", True),
    ],
)
def test_field_selector(text: str, want: bool) -> None:
    assert parse_field_selector(text).matches(POD) is want


def test_bad_field_selector_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid field selector term"):
        parse_field_selector("metadata.name")
