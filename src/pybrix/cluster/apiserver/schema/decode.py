"""Decode what a client sent against a shape: wrong types are refused, unknown fields dropped and named. Pure.

As the Go decoder does: a null counts as absent, an object's unknown fields are reported by `fieldValidation`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pybrix.base.clock import parse_rfc3339
from pybrix.base.quantity import parse_quantity
from pybrix.cluster.apiserver.schema.shape import Form, Shape

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
MAX_DEPTH = 100


class WrongType(ValueError):
    """A field has a value that its type cannot hold; the message names the path."""


@dataclass(slots=True)
class Decoded:
    """The value in its type's form and the paths of the fields that were dropped."""

    value: dict[str, Any]
    unknown: list[str] = field(default_factory=list)


def decode_struct(data: Any, shape: Shape, *, trusted: Mapping[str, Any] | None = None) -> Decoded:
    """Return a copy of `data` as the shape has it.

    Args:
        trusted: a decoded object of the shape; its own parts in `data` are taken over as they are, not copied.

    Raises:
        WrongType: a value does not fit.
    """
    if not isinstance(data, dict):
        raise WrongType(f"cannot decode {_kind(data)} into {shape.name or 'an object'}")
    known = {}
    if trusted is not None:
        known = {k: v for k, v in data.items() if k != "metadata" and v is trusted.get(k) and v is not None}
        data = {k: v for k, v in data.items() if k not in known}
    decoded = Decoded({})
    decoded.value = {**known, **_struct(data, shape, decoded.unknown, 0)}
    return decoded


# Paths are put together on the way out of what is wrong, so that what is right does not pay for them.


def _decode(value: Any, shape: Shape, unknown: list[str], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _Misfit(f"nested deeper than {MAX_DEPTH} levels")
    form = shape.form
    if form is Form.SCALAR:
        return _scalar(value, shape.name)
    if form is Form.STRUCT:
        return _struct(value, shape, unknown, depth)
    if form is Form.LIST:
        if not isinstance(value, list):
            raise _Misfit(f"cannot decode {_kind(value)} into a list")
        assert shape.item is not None
        return [_part(v, shape.item, f"[{i}]", unknown, depth) for i, v in enumerate(value)]
    if form is Form.MAP:
        return _map(value, shape, unknown, depth)
    return value


def _part(value: Any, shape: Shape, name: str, unknown: list[str], depth: int) -> Any:
    num_known = len(unknown)
    try:
        decoded = _decode(value, shape, unknown, depth + 1)
    except WrongType as err:
        raise _below(name, err) from err
    for index in range(num_known, len(unknown)):
        unknown[index] = _join(name, unknown[index])
    return decoded


def _map(value: Any, shape: Shape, unknown: list[str], depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Misfit(f"cannot decode {_kind(value)} into a map")
    item = shape.item
    assert item is not None
    if item.name == "string":
        if all(type(v) is str for v in value.values()):
            return dict(value)
        return {k: _part(v, item, k, unknown, depth) for k, v in value.items()}
    return {k: _part(v, item, k, unknown, depth) for k, v in value.items() if v is not None or item.form is Form.ANY}


def _struct(value: Any, shape: Shape, unknown: list[str], depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Misfit(f"cannot decode {_kind(value)} into {shape.name or 'an object'}")
    built: dict[str, Any] = {}
    fields = shape.fields
    for name, part in value.items():
        described = fields.get(name)
        if described is None:
            if shape.is_open:
                built[name] = part
            else:
                unknown.append(name)
        elif part is not None:
            below = described.shape
            if below.form is not Form.SCALAR:
                built[name] = _part(part, below, name, unknown, depth)
            elif below.name == "string" and type(part) is str:
                built[name] = part
            else:
                try:
                    built[name] = _scalar(part, below.name)
                except WrongType as err:
                    raise _below(name, err) from err
    return built


_WORDS = {"int": "integer", "int64": "integer", "float": "number", "bool": "boolean", "intstr": "integer or string"}
"""What types are called in manifests."""


class _Misfit(WrongType):
    """A wrong type whose message does not begin with a path yet."""


def _below(name: str, err: WrongType) -> WrongType:
    return WrongType(f"{name}: {err}" if isinstance(err, _Misfit) else _join(name, str(err)))


def _join(name: str, path: str) -> str:
    return f"{name}{path}" if path.startswith("[") else f"{name}.{path}"


def _scalar(value: Any, name: str) -> Any:
    match name:
        case "string":
            if value is None:
                return ""
            if isinstance(value, str):
                return value
        case "bool":
            if isinstance(value, bool):
                return value
        case "int" | "int64":
            limit = INT32_MAX if name == "int" else INT64_MAX
            if isinstance(value, int) and not isinstance(value, bool) and -limit - 1 <= value <= limit:
                return value
        case "float":
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value
        case "intstr":
            if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
                return value
        case "quantity":
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                try:
                    parse_quantity(value)
                except ValueError as err:
                    raise _Misfit(f"quantities must match the regular expression: {err}") from err
                return str(value)
        case "bytes":
            if isinstance(value, str):
                try:
                    base64.b64decode(value, validate=True)
                except (binascii.Error, ValueError) as err:
                    raise _Misfit("illegal base64 data") from err
                return value
        case "time" | "microtime":
            if isinstance(value, str):
                try:
                    parse_rfc3339(value)
                except ValueError as err:
                    raise _Misfit(f'"{value}" is not an RFC 3339 time') from err
                return value
    raise _Misfit(f"cannot decode {_kind(value)} into a value of type {_WORDS.get(name, name)}")


def _kind(value: Any) -> str:
    """Name a JSON value's type as the Go decoder's messages do."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return f"number {value}" if abs(value) < 1e300 else "number"
    return {str: "string", list: "array", dict: "object", type(None): "null"}.get(type(value), "value")
