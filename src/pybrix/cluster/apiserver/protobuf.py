"""Decode the protobuf bodies that some `kubectl create` commands send. Pure.

The envelope is `k8s\\0` and a `runtime.Unknown`; field numbers come with the type descriptions (`schema.shape`), which
have them for the kinds that these commands create. A field that is not described is refused rather than lost.
https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding-idl
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pybrix.base.clock import format_rfc3339
from pybrix.cluster.apiserver.failures import bad_request, failure
from pybrix.cluster.apiserver.resources import TYPES
from pybrix.cluster.apiserver.schema.shape import Form, Shape
from pybrix.kube.errors import StatusError

PROTOBUF = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_MAX_DEPTH = 40
DECODED_KINDS = (
    "Namespace", "ConfigMap", "Secret", "ServiceAccount", "Service", "Deployment", "Pod", "Binding", "Scale",
)  # fmt: skip


class _Malformed(ValueError):
    pass


def decode_protobuf(body: bytes) -> dict[str, Any]:
    """Return the JSON-like form of an enveloped object.

    Raises:
        BadRequest: the body is malformed.
        StatusError (415): a kind or a field that is not understood in this encoding.
    """
    try:
        return _decode(body)
    except _Malformed as err:
        raise bad_request(f"the body is not valid protobuf: {err}") from err


def _unsupported(what: str) -> StatusError:
    message = (
        f"{what} is not understood in the protobuf encoding: send it as JSON "
        "(kubectl create ... --dry-run=client -o yaml | kubectl apply -f -)"
    )
    return failure(415, "UnsupportedMediaType", message)


def _decode(body: bytes) -> dict[str, Any]:
    if not body.startswith(_MAGIC):
        raise _Malformed("it does not start with the magic number k8s")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(body[len(_MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            for inner, text in _fields(value):
                if inner == 1:
                    api_version = _text(text)
                elif inner == 2:
                    kind = _text(text)
        elif number == 2 and isinstance(value, bytes):
            raw = value
    if kind not in DECODED_KINDS:
        raise _unsupported(f"{api_version} {kind}".strip() or "an object without a kind")
    return {"apiVersion": api_version, "kind": kind, **_message(raw, TYPES[kind], kind, 0)}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, varint or bytes)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire in (1, 2, 5):
            if wire == 2:
                size, at = _varint(data, at)
            else:
                size = 8 if wire == 1 else 4
            if at + size > len(data):
                raise _Malformed("a field is cut short")
            yield number, data[at : at + size]
            at += size
        else:
            raise _Malformed(f"unknown wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _Malformed("a number is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _text(value: int | bytes) -> str:
    if not isinstance(value, bytes):
        raise _Malformed("a text field holds a number")
    try:
        return value.decode()
    except UnicodeDecodeError as err:
        raise _Malformed(str(err)) from err


def _message(data: bytes, shape: Shape, path: str, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise _Malformed("nested too deeply")
    by_number = {f.number: f for f in shape.fields.values() if f.number}
    built: dict[str, Any] = {}
    for number, value in _fields(data):
        described = by_number.get(number)
        if described is None:
            if value in (b"", 0):
                continue  # An empty field means nothing, whatever it is.
            raise _unsupported(f"field {number} of {path}")
        name, at = described.name, f"{path}.{described.name}"
        part = described.shape
        if part.form is Form.LIST:
            assert part.item is not None
            if part.item.form is Form.SCALAR and part.item.name in ("int", "int64") and isinstance(value, bytes):
                raise _unsupported(f"a packed list at {at}")
            built.setdefault(name, []).append(_value(value, part.item, at, depth))
        elif part.form is Form.MAP:
            assert part.item is not None
            if not isinstance(value, bytes):
                raise _Malformed(f"{at} is no map")
            key, item = "", _zero(part.item)
            for inner, content in _fields(value):
                if inner == 1:
                    key = _text(content)
                elif inner == 2:
                    item = _value(content, part.item, at, depth)
            built.setdefault(name, {})[key] = item
        else:
            decoded = _value(value, part, at, depth)
            # Go writes every field of a struct that is no pointer: zero values mean "not set".
            if (
                decoded is not False
                and decoded not in ("", None)
                and not (decoded == 0 and part.name in ("int", "int64") and name != "replicas")
            ):
                built[name] = decoded
    return {k: v for k, v in built.items() if v != {} or k in ("emptyDir", "selector")}


def _zero(shape: Shape) -> Any:
    return "" if shape.form is Form.SCALAR else {}


def _value(value: int | bytes, shape: Shape, path: str, depth: int) -> Any:
    if shape.form is Form.STRUCT:
        if not isinstance(value, bytes):
            raise _Malformed(f"{path} is no message")
        return _message(value, shape, path, depth + 1)
    if shape.form is not Form.SCALAR:
        raise _unsupported(path)
    match shape.name:
        case "string":
            return _text(value)
        case "bytes":
            if not isinstance(value, bytes):
                raise _Malformed(f"{path} holds a number")
            return base64.b64encode(value).decode()
        case "bool":
            return bool(value) if isinstance(value, int) else _fail(path)
        case "int" | "int64":
            if isinstance(value, bytes):
                return _fail(path)
            return value - (1 << 64) if value >= 1 << 63 else value
        case "quantity":
            texts = {n: _text(v) for n, v in _fields(_bytes(value, path))}
            return texts.get(1, "")
        case "intstr":
            parts = dict(_fields(_bytes(value, path)))
            if parts.get(1, 0) == 1:
                return _text(parts.get(3, b""))
            number = parts.get(2, 0)
            return number if isinstance(number, int) else _fail(path)
        case "time" | "microtime":
            parts = dict(_fields(_bytes(value, path)))
            seconds = parts.get(1, 0)
            # An unset time is an empty message.
            if not isinstance(seconds, int) or not 0 < seconds < 253_402_300_800:
                return None
            return format_rfc3339(datetime.fromtimestamp(seconds, UTC))
    raise _unsupported(path)


def _bytes(value: int | bytes, path: str) -> bytes:
    if not isinstance(value, bytes):
        raise _Malformed(f"{path} holds a number")
    return value


def _fail(path: str) -> Any:
    raise _Malformed(f"{path} has another type")
