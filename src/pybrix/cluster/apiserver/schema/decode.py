"""Decode what a client sent against a shape: wrong types are refused, unknown fields dropped and named. Pure.

As the Go decoder does: a null counts as absent, an object's unknown fields are reported by `fieldValidation`.
"""

from __future__ import annotations

import base64
import binascii
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


def decode_struct(data: Any, shape: Shape) -> Decoded:
    """Return a copy of `data` as the shape has it.

    Raises:
        WrongType: a value does not fit.
    """
    if not isinstance(data, dict):
        raise WrongType(f"cannot decode {_kind(data)} into {shape.name or 'an object'}")
    decoded = Decoded({})
    decoded.value = _decode(data, shape, "", decoded.unknown, 0)
    return decoded


def _decode(value: Any, shape: Shape, path: str, unknown: list[str], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WrongType(f"{path}: nested deeper than {MAX_DEPTH} levels")
    match shape.form:
        case Form.ANY:
            return value
        case Form.SCALAR:
            return _scalar(value, shape.name, path)
        case Form.LIST:
            if not isinstance(value, list):
                raise WrongType(f"{path}: cannot decode {_kind(value)} into a list")
            assert shape.item is not None
            return [_decode(v, shape.item, f"{path}[{i}]", unknown, depth + 1) for i, v in enumerate(value)]
        case Form.MAP:
            if not isinstance(value, dict):
                raise WrongType(f"{path}: cannot decode {_kind(value)} into a map")
            assert shape.item is not None
            item = shape.item
            return {
                k: _decode(v, item, f"{path}.{k}", unknown, depth + 1)
                for k, v in value.items()
                if v is not None or item.name == "string" or item.form is Form.ANY
            }
        case Form.STRUCT:
            return _struct(value, shape, path, unknown, depth)


def _struct(value: Any, shape: Shape, path: str, unknown: list[str], depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongType(f"{path}: cannot decode {_kind(value)} into {shape.name or 'an object'}")
    built: dict[str, Any] = {}
    for name, part in value.items():
        described = shape.fields.get(name)
        at = f"{path}.{name}" if path else name
        if described is None:
            if shape.is_open:
                built[name] = part
            else:
                unknown.append(at)
        elif part is not None:
            built[name] = _decode(part, described.shape, at, unknown, depth + 1)
    return built


def _scalar(value: Any, name: str, path: str) -> Any:
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
                    raise WrongType(f"{path}: quantities must match the regular expression: {err}") from err
                return str(value)
        case "bytes":
            if isinstance(value, str):
                try:
                    base64.b64decode(value, validate=True)
                except (binascii.Error, ValueError) as err:
                    raise WrongType(f"{path}: illegal base64 data") from err
                return value
        case "time" | "microtime":
            if isinstance(value, str):
                try:
                    parse_rfc3339(value)
                except ValueError as err:
                    raise WrongType(f"{path}: {value!r} is not an RFC 3339 time") from err
                return value
    raise WrongType(f"{path}: cannot decode {_kind(value)} into a value of type {name}")


def _kind(value: Any) -> str:
    """Name a JSON value's type as the Go decoder's messages do."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return f"number {value}" if abs(value) < 1e300 else "number"
    return {str: "string", list: "array", dict: "object", type(None): "null"}.get(type(value), "value")
