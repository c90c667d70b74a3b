"""Decode the protobuf bodies that clients in Go send: kubectl now and then, Helm, controllers. Pure.

The envelope is `k8s\\0` and a `runtime.Unknown`; field numbers come with the type descriptions (`schema.shape`). A
field that is not described is refused rather than lost.
https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding-idl
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec

from pybrix.base.clock import format_rfc3339, format_rfc3339_micro
from pybrix.base.protobufwire import Malformed, read_fields
from pybrix.cluster.apiserver.failures import bad_request, failure
from pybrix.cluster.apiserver.resources import TYPES
from pybrix.cluster.apiserver.schema.shape import Field, Form, Shape
from pybrix.kube.errors import StatusError

PROTOBUF = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_MAX_DEPTH = 40
DECODED_KINDS = (
    "DeleteOptions",
    *(
        name
        for name, shape in TYPES.items()
        if "kind" in shape.fields and "metadata" in shape.fields and shape.fields["metadata"].number
    ),
)
_OTHER_NAMES = {
    ("events.k8s.io/v1", "Event"): "EventsEvent",
    # Its fields have other numbers than those of v2, which are described.
    ("autoscaling/v1", "HorizontalPodAutoscaler"): "",
}
"""Kinds that are not described by their own name."""
_Numbers = dict[int, "Field | _Numbers"]
"""What each number of a message is: a field, or a message whose fields JSON has inline."""


def decode_protobuf(body: bytes) -> dict[str, Any]:
    """Return the JSON-like form of an enveloped object.

    Raises:
        BadRequest: the body is malformed.
        StatusError (415): a kind or a field that is not understood in this encoding.
    """
    try:
        return _decode(body)
    except Malformed as err:
        raise bad_request(f"the body is not valid protobuf: {err}") from err


def _unsupported(what: str) -> StatusError:
    message = (
        f"{what} is not understood in the protobuf encoding: send it as JSON "
        "(kubectl create ... --dry-run=client -o yaml | kubectl apply -f -)"
    )
    return failure(415, "UnsupportedMediaType", message)


def _decode(body: bytes) -> dict[str, Any]:
    if not body.startswith(_MAGIC):
        raise Malformed("it does not start with the magic number k8s")
    api_version = kind = ""
    raw = b""
    for number, value in read_fields(body[len(_MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            for inner, text in read_fields(value):
                if inner == 1:
                    api_version = _text(text)
                elif inner == 2:
                    kind = _text(text)
        elif number == 2 and isinstance(value, bytes):
            raw = value
    described = _OTHER_NAMES.get((api_version, kind), kind)
    if described not in DECODED_KINDS:
        raise _unsupported(f"{api_version} {kind}".strip() or "an object without a kind")
    return {"apiVersion": api_version, "kind": kind, **_message(raw, TYPES[described], kind, 0)}


def _text(value: int | bytes) -> str:
    if not isinstance(value, bytes):
        raise Malformed("a text field holds a number")
    try:
        return value.decode()
    except UnicodeDecodeError as err:
        raise Malformed(str(err)) from err


@cache
def _numbers(shape: Shape) -> _Numbers:
    built: _Numbers = {}
    for field in shape.fields.values():
        if field.number:
            at = built
            for number in field.number[:-1]:
                inner = at.setdefault(number, {})
                assert isinstance(inner, dict)
                at = inner
            at[field.number[-1]] = field
    return built


def _message(data: bytes, shape: Shape, path: str, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise Malformed("nested too deeply")
    built: dict[str, Any] = {}
    _fill(built, data, _numbers(shape), path, depth)
    return built


def _fill(built: dict[str, Any], data: bytes, numbers: _Numbers, path: str, depth: int) -> None:
    for number, value in read_fields(data):
        described = numbers.get(number)
        if described is None:
            if value in (b"", 0):
                continue  # An empty field means nothing, whatever it is.
            raise _unsupported(f"field {number} of {path}")
        if isinstance(described, dict):
            _fill(built, _bytes(value, path), described, path, depth)
            continue
        name, at = described.name, f"{path}.{described.name}"
        part = described.shape
        if part.form is Form.LIST:
            assert part.item is not None
            if part.item.form is Form.SCALAR and part.item.name in ("int", "int64") and isinstance(value, bytes):
                raise _unsupported(f"a packed list at {at}")
            built.setdefault(name, []).append(_value(value, part.item, at, depth))
        elif part.form is Form.MAP:
            assert part.item is not None
            key, item = "", _zero(part.item)
            for inner, content in read_fields(_bytes(value, at)):
                if inner == 1:
                    key = _text(content)
                elif inner == 2:
                    item = _value(content, part.item, at, depth)
            built.setdefault(name, {})[key] = item
        else:
            decoded = _value(value, part, at, depth)
            # Go writes every field of a struct that is no pointer: zero values mean "not set".
            is_zero = decoded in ("", 0, False, {})
            if decoded is not None and not (is_zero and not described.has_presence and not described.is_required):
                built[name] = decoded


def _zero(shape: Shape) -> Any:
    return "" if shape.form is Form.SCALAR else {}


def _value(value: int | bytes, shape: Shape, path: str, depth: int) -> Any:
    if shape.form is Form.STRUCT:
        if not isinstance(value, bytes):
            raise Malformed(f"{path} is no message")
        return _message(value, shape, path, depth + 1)
    if shape.form is Form.ANY:
        return _json(_bytes(value, path), path)
    if shape.form is not Form.SCALAR:
        raise _unsupported(path)
    match shape.name:
        case "string":
            return _text(value)
        case "bytes":
            if not isinstance(value, bytes):
                raise Malformed(f"{path} holds a number")
            return base64.b64encode(value).decode()
        case "bool":
            return bool(value) if isinstance(value, int) else _fail(path)
        case "int" | "int64":
            if isinstance(value, bytes):
                return _fail(path)
            return value - (1 << 64) if value >= 1 << 63 else value
        case "quantity":
            texts = {n: _text(v) for n, v in read_fields(_bytes(value, path))}
            return texts.get(1, "")
        case "intstr":
            parts = dict(read_fields(_bytes(value, path)))
            if parts.get(1, 0) == 1:
                return _text(parts.get(3, b""))
            number = parts.get(2, 0)
            return number if isinstance(number, int) else _fail(path)
        case "time" | "microtime":
            parts = dict(read_fields(_bytes(value, path)))
            seconds, nanoseconds = parts.get(1, 0), parts.get(2, 0)
            # An unset time is an empty message.
            if not isinstance(seconds, int) or not 0 < seconds < 253_402_300_800:
                return None
            moment = datetime.fromtimestamp(seconds, UTC)
            if shape.name == "time":
                return format_rfc3339(moment)
            if not isinstance(nanoseconds, int) or nanoseconds >= 10**9:
                return _fail(path)
            return format_rfc3339_micro(moment.replace(microsecond=nanoseconds // 1000))
    raise _unsupported(path)


def _json(message: bytes, path: str) -> Any:
    """Return what is JSON in the protobuf form, too: `FieldsV1`, `RawExtension`."""
    for number, value in read_fields(message):
        if number == 1:
            try:
                return msgspec.json.decode(_bytes(value, path))
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as err:
                raise Malformed(f"{path} is no JSON: {err}") from err
    return None


def _bytes(value: int | bytes, path: str) -> bytes:
    if not isinstance(value, bytes):
        raise Malformed(f"{path} holds a number")
    return value


def _fail(path: str) -> Any:
    raise Malformed(f"{path} has another type")
