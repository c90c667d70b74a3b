"""Hypothesis strategies for any object that a struct of `pybrix.api` can hold."""

from __future__ import annotations

import functools
import operator
import types
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

_TEXT = st.text(max_size=12)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    int: st.integers(-(2**31), 2**31 - 1),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    type(None): st.none(),
    Any: JSON,
}


def of_type(annotation: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a type."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return of_type(args[0])
    if origin in (Union, types.UnionType):
        return functools.reduce(operator.or_, map(of_type, args))
    if origin is list:
        return st.lists(of_type(args[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(_TEXT, of_type(args[1]), max_size=2)
    if hasattr(annotation, "__supertype__"):
        return of_type(annotation.__supertype__)
    return of_struct(annotation)


@functools.cache
def of_struct(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Return a strategy for instances of a struct; a field is left at its default half of the time."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for entry in msgspec.structs.fields(cls):
        if entry.name not in ("api_version", "kind") or not hasattr(cls, "gvk"):
            (required if entry.required else optional)[entry.name] = of_type(entry.type)
    return st.fixed_dictionaries(required, optional=optional).map(lambda given: cls(**given))
