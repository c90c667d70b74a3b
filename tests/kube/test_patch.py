"""Merge patches: the examples of RFC 7386, and that a difference leads from one document to the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.kube.patch import apply_merge_patch, diff_merge_patch

# Appendix A of RFC 7386.
RFC_EXAMPLES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

scalars = st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2)
lists = st.lists(scalars | st.none() | st.dictionaries(st.sampled_from("xy"), scalars, max_size=2), max_size=3)
values = st.recursive(scalars | lists, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4))
documents = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


@pytest.mark.parametrize(("doc", "patch", "want"), RFC_EXAMPLES)
def test_apply_does_what_the_rfc_says(doc: Any, patch: Any, want: Any) -> None:
    assert apply_merge_patch(doc, patch) == want


@given(documents, documents)
def test_a_difference_leads_from_before_to_after(before: dict[str, Any], after: dict[str, Any]) -> None:
    kept = copy.deepcopy((before, after))
    got = apply_merge_patch(before, diff_merge_patch(before, after))
    # repr also tells True from 1.
    assert _sorted(got) == _sorted(after)
    assert (before, after) == kept


@given(documents)
def test_equal_documents_differ_in_nothing(doc: dict[str, Any]) -> None:
    assert diff_merge_patch(doc, copy.deepcopy(doc)) == {}


@given(documents, documents)
def test_what_is_equal_is_not_in_the_difference(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = diff_merge_patch(before, after)
    assert all(_sorted(before.get(k)) != _sorted(after.get(k)) for k in patch)


def test_a_none_in_the_result_counts_as_absent() -> None:
    assert diff_merge_patch({"a": 1}, {"a": None, "b": None}) == {"a": None}


def test_a_difference_shares_nothing_with_its_arguments() -> None:
    after = {"a": [{"b": 1}]}
    patch = diff_merge_patch({}, after)
    after["a"][0]["b"] = 2
    assert patch == {"a": [{"b": 1}]}


def _sorted(value: Any) -> str:
    if isinstance(value, dict):
        return repr({k: _sorted(value[k]) for k in sorted(value)})
    if isinstance(value, list):
        return repr([_sorted(v) for v in value])
    return repr(value)
