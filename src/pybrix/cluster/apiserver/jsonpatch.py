"""RFC 6902 (JSON Patch) on JSON-like values. Pure.

Bounded where a small patch could grow an object without end: operations, and the bytes that `copy` duplicates.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import msgspec

from pybrix.cluster.apiserver.equality import is_same_json

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 * 1024 * 1024


class MalformedPatch(ValueError):
    """The patch itself is wrong."""


class PatchDoesNotApply(ValueError):
    """The patch is well-formed, but not for this object: a path is missing, a test fails."""


def apply_json_patch(target: Any, operations: Any) -> Any:
    """Return `target` with an RFC 6902 patch applied; `target` is not changed.

    Raises:
        MalformedPatch, PatchDoesNotApply
    """
    if not isinstance(operations, list) or not all(isinstance(o, dict) for o in operations):
        raise MalformedPatch("a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise MalformedPatch(f"more than {MAX_OPERATIONS} operations")
    document = {"": copy.deepcopy(target)}
    copied_bytes = 0
    for operation in operations:
        if operation.get("op") == "copy":
            copied_bytes += len(msgspec.json.encode(_get(document, _pointer(operation, "from"))))
            if copied_bytes > MAX_COPIED_BYTES:
                raise MalformedPatch(f"copy operations duplicate more than {MAX_COPIED_BYTES} bytes")
        _apply(document, operation)
    return document.get("")


def _apply(document: Any, operation: dict[str, Any]) -> None:
    path = _pointer(operation, "path")
    match operation.get("op"):
        case "add":
            _add(document, path, copy.deepcopy(_value(operation)))
        case "remove":
            _remove(document, path)
        case "replace":
            _get(document, path)
            _remove(document, path)
            _add(document, path, copy.deepcopy(_value(operation)))
        case "move":
            source = _pointer(operation, "from")
            if path[: len(source)] == source and path != source:
                raise PatchDoesNotApply("cannot move a value into itself")
            value = _get(document, source)
            _remove(document, source)
            _add(document, path, value)
        case "copy":
            _add(document, path, copy.deepcopy(_get(document, _pointer(operation, "from"))))
        case "test":
            if not is_same_json(_get(document, path), _value(operation)):
                raise PatchDoesNotApply(f"testing value {operation['path']} failed")
        case other:
            raise MalformedPatch(f"unexpected kind of operation {other!r}")


def _pointer(operation: dict[str, Any], name: str) -> tuple[str, ...]:
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise MalformedPatch(f"{name!r} of an operation must be a JSON pointer such as /spec/replicas")
    # The document hangs under the key "", so that the whole of it can be replaced like any part.
    return ("", *(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]))


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise MalformedPatch(f"operation {operation.get('op')!r} has no value")
    return operation["value"]


def _get(document: Any, path: Sequence[str]) -> Any:
    current = document
    for part in path:
        if isinstance(current, dict) and part in current:
            current = current[part]
        elif isinstance(current, list):
            current = current[_index(part, len(current) - 1, path)]
        else:
            raise PatchDoesNotApply(f"no value at {'/'.join(path)}")
    return current


def _add(document: Any, path: Sequence[str], value: Any) -> None:
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else _index(path[-1], len(parent), path), value)
    else:
        raise PatchDoesNotApply(f"no object or list at {'/'.join(path[:-1])}")


def _remove(document: Any, path: Sequence[str]) -> None:
    _get(document, path)
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        del parent[path[-1]]
    else:
        del parent[_index(path[-1], len(parent) - 1, path)]


def _index(part: str, highest: int, path: Sequence[str]) -> int:
    if not part.isascii() or not part.isdigit() or (len(part) > 1 and part[0] == "0") or len(part) > 9:
        raise PatchDoesNotApply(f"{part!r} in {'/'.join(path)} is no index of a list")
    if int(part) > highest:
        raise PatchDoesNotApply(f"index {part} in {'/'.join(path)} is out of bounds")
    return int(part)
