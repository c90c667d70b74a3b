"""Drop what a schema does not describe, and say what was dropped. Pure.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning
"""

from __future__ import annotations

from typing import Any

from pybrix.cluster.apiserver.structural import paths
from pybrix.cluster.apiserver.structural.schema import EMBEDDED_KEYS, MAX_DEPTH, Node

_SHOWN_PATH = 100
_INT64_END = 2**63


class TooDeep(ValueError):
    """A value has more levels than any object needs; the message names where."""


def fresh(value: Any) -> Any:
    """Return a deep copy, as an API server writes it: a number without a fraction is an integer, whatever its spelling.

    Go prints the floating 1.0 as `1`, and typed clients rely on it: they refuse `1.0` where their type is an integer.

    Raises:
        TooDeep: it is nested deeper than `MAX_DEPTH`.
    """
    try:
        return _copy(value, 0)
    except TooDeep:
        raise TooDeep(f"{_deep_path(value)}: nested deeper than {MAX_DEPTH} levels") from None


def _copy(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise TooDeep
    if isinstance(value, dict):
        return {k: _copy(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v, depth + 1) for v in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _INT64_END:
        return int(value)
    return value


def _deep_path(value: Any) -> str:
    """Return the start of the path to what is too deep."""
    path = ""
    while isinstance(value, dict | list) and len(path) < _SHOWN_PATH:
        steps: list[tuple[str, Any]] = (
            [(paths.join(path, k), v) for k, v in value.items()]
            if isinstance(value, dict)
            else [(paths.item(path, i), v) for i, v in enumerate(value)]
        )
        deep = next(((at, part) for at, part in steps if _is_deeper(part, 8)), None)
        if deep is None:
            break
        path, value = deep
    return f"{path}..."


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def prune(value: Any, node: Node, path: str = "", *, is_root: bool = False) -> list[str]:
    """Drop unknown fields in place; return their paths.

    Args:
        value: an object that belongs to the caller alone.
        node: its schema.
        path: where it is.
        is_root: whether it is a whole object, whose kind and metadata are not the schema's.
    """
    dropped: list[str] = []
    _prune(value, node, path, dropped, is_object=is_root)
    return dropped


def _prune(value: Any, node: Node, path: str, dropped: list[str], *, is_object: bool = False) -> None:
    if isinstance(value, dict):
        is_object = is_object or node.is_embedded
        for key in list(value):
            if is_object and key in EMBEDDED_KEYS:
                continue
            below = node.properties.get(key) or node.additional
            if below is not None:
                _prune(value[key], below, paths.join(path, key), dropped)
            elif not (node.preserves_unknown or node.allows_additional):
                del value[key]
                dropped.append(paths.join(path, key))
    elif isinstance(value, list) and node.items is not None:
        for index, part in enumerate(value):
            _prune(part, node.items, paths.item(path, index), dropped)
