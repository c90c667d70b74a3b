"""Sameness of JSON values: as JSON has it, not as Python does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.cluster.apiserver.equality import is_same_json

values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.text(max_size=2),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=1), parts, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("left", "right"),
    [(True, 1), (0, False), ([0], [False]), ({"a": 1}, {"a": True}), ({"a": [{"b": 0}]}, {"a": [{"b": False}]})],
)
def test_a_boolean_is_no_number(left: Any, right: Any) -> None:
    assert left == right, "what this is about"
    assert not is_same_json(left, right)
    assert not is_same_json(right, left)


@given(left=values, right=values)
def test_it_agrees_with_the_text(left: Any, right: Any) -> None:
    assert is_same_json(left, right) == (_text(left) == _text(right))
    assert is_same_json(left, left)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{name!r}:{_text(value[name])}" for name in sorted(value)) + "}"
    return "[" + ",".join(map(_text, value)) + "]" if isinstance(value, list) else repr(value)
