"""Say which value is wrong, and what would be right. Pure."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

_SCALARS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
_MAX_SHOWN_CHARS = 60


def describe_mistake(value: Any, cls: Any, path: str = "") -> str:
    """Return key, value and what is allowed, of the first value that its type refuses; "" when none is refused.

    Args:
        value: a document, or the part of one at `path`.
        cls: its type.
    """
    try:
        msgspec.convert(value, cls)
    except msgspec.ValidationError as err:
        for key, inner, inner_cls in _children(value, cls):
            if found := describe_mistake(inner, inner_cls, f"{path}{key}".removeprefix(".")):
                return found
        return f"{path or 'the document'}: {_words(value, cls, err)}"
    return ""


def _children(value: Any, cls: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (step of the path, value, type) of what is in a collection of the right kind."""
    bare, _ = _unwrap(cls)
    origin = get_origin(bare)
    if isinstance(value, Mapping) and isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        hints = get_type_hints(bare, include_extras=True)
        for field in msgspec.structs.fields(bare):
            if field.encode_name in value:
                yield f".{field.encode_name}", value[field.encode_name], hints[field.name]
    elif isinstance(value, Mapping) and origin is dict:
        for key, inner in value.items():
            yield f".{key}", inner, get_args(bare)[1]
    elif isinstance(value, list) and origin is list:
        for index, inner in enumerate(value):
            yield f"[{index}]", inner, get_args(bare)[0]


def _words(value: Any, cls: Any, err: msgspec.ValidationError) -> str:
    bare, _ = _unwrap(cls)
    if get_origin(bare) is Literal:
        allowed = [str(each) for each in get_args(bare)]
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{shown(value)} is none of {', '.join(each or repr('') for each in allowed)}{hint}"
    what = str(err).partition(" - at ")[0]
    if what.startswith("Expected") and (allowed_text := _allowed(cls)):
        return f"{shown(value)} is not {allowed_text}"
    return f"{what[0].lower()}{what[1:]}"


def _allowed(cls: Any) -> str:
    """Return what a type allows, in words."""
    bare, limits = _unwrap(cls)
    origin = get_origin(bare)
    if origin in (Union, types.UnionType):
        return " or ".join(_allowed(each) for each in get_args(bare))
    if origin is Literal:
        return f"one of {', '.join(str(each) or repr('') for each in get_args(bare))}"
    if origin is list:
        return f"a list{_sizes(limits, 'items')}"
    if origin is dict or (isinstance(bare, type) and issubclass(bare, msgspec.Struct)):
        return "a mapping"
    text = _SCALARS.get(bare, "")
    if bare is str:
        patterns = [limit.pattern for limit in limits if limit.pattern is not None]
        return f"{text}{_sizes(limits, 'characters')}{''.join(f' that matches {pattern}' for pattern in patterns)}"
    return f"{text}{_bounds(limits)}" if text else ""


def _bounds(limits: list[msgspec.Meta]) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    found = {name: getattr(each, name) for each in limits for name in words if getattr(each, name) is not None}
    if found.keys() == {"ge", "le"}:
        return f" from {found['ge']} to {found['le']}"
    parts = [f"{words[name]} {bound}" for name, bound in found.items()]
    return f" of {' and '.join(parts)}" if parts else ""


def _sizes(limits: list[msgspec.Meta], unit: str) -> str:
    least = next((each.min_length for each in limits if each.min_length is not None), None)
    most = next((each.max_length for each in limits if each.max_length is not None), None)
    parts = [f"at least {least}"] if least is not None else []
    parts += [f"at most {most}"] if most is not None else []
    return f" of {' and '.join(parts)} {unit}" if parts else ""


def _unwrap(cls: Any) -> tuple[Any, list[msgspec.Meta]]:
    """Return a type without its annotations, and the limits among these."""
    if get_origin(cls) is not Annotated:
        return cls, []
    bare, *annotations = get_args(cls)
    inner, limits = _unwrap(bare)
    return inner, [*limits, *(each for each in annotations if isinstance(each, msgspec.Meta))]


def shown(value: Any) -> str:
    """Return a value as an error shows it, shortened."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[: _MAX_SHOWN_CHARS - 3]}..."
