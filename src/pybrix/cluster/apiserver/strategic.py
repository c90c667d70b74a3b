"""Strategic merge patch: lists merge by key, with directives. Pure.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ and the design proposal
`sig-api-machinery/strategic-merge-patch.md`.
"""

from __future__ import annotations

import copy
from typing import Any

from pybrix.cluster.apiserver.jsonpatch import MalformedPatch
from pybrix.cluster.apiserver.schema.shape import ANY, Field, Form, ListType, Shape

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"


def apply_strategic_patch(target: dict[str, Any], patch: Any, shape: Shape) -> dict[str, Any]:
    """Return `target` with a strategic merge patch applied; neither argument is changed.

    Raises:
        MalformedPatch: the patch is no object, or a directive or a list item is wrong.
    """
    if not isinstance(patch, dict):
        raise MalformedPatch("a strategic merge patch is an object")
    return _merge_map(target, patch, shape, "")


def _merge_map(target: Any, patch: dict[str, Any], shape: Shape, path: str) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {k: copy.deepcopy(v) for k, v in patch.items() if k != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise MalformedPatch(f"{path}: unknown directive $patch: {directive!r}")
    merged = dict(target) if isinstance(target, dict) else {}
    if _RETAIN in patch:
        kept = patch[_RETAIN]
        if not isinstance(kept, list):
            raise MalformedPatch(f"{path}: $retainKeys is a list of field names")
        merged = {k: v for k, v in merged.items() if k in kept}
    for name, value in patch.items():
        if name in (_DIRECTIVE, _RETAIN) or name.startswith((_ORDER, _DELETE_PRIMITIVES)):
            continue
        at = f"{path}.{name}" if path else name
        described = _field(shape, name)
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            if value.get(_DIRECTIVE) == "delete":
                merged.pop(name, None)
            else:
                merged[name] = _merge_map(merged.get(name), value, described.shape, at)
        elif isinstance(value, list):
            merged[name] = _merge_list(merged.get(name), value, described, at)
        else:
            merged[name] = value
    for name, value in patch.items():
        if name.startswith(_DELETE_PRIMITIVES):
            plain = name.removeprefix(_DELETE_PRIMITIVES)
            _need_list(value, name)
            if isinstance(merged.get(plain), list):
                merged[plain] = [v for v in merged[plain] if v not in value]
        elif name.startswith(_ORDER):
            plain = name.removeprefix(_ORDER)
            _need_list(value, name)
            if isinstance(merged.get(plain), list):
                before = target.get(plain) if isinstance(target, dict) else None
                merged[plain] = _order(merged[plain], value, _field(shape, plain).merge_key, before)
    return merged


def _need_list(value: Any, name: str) -> None:
    if not isinstance(value, list):
        raise MalformedPatch(f"{name} takes a list")


def _field(shape: Shape, name: str) -> Field:
    if shape.form is Form.STRUCT:
        return shape.fields.get(name) or Field(name, ANY)
    if shape.form is Form.MAP and shape.item is not None:
        return Field(name, shape.item)
    return Field(name, ANY)


def _merge_list(target: Any, patch: list[Any], described: Field, path: str) -> list[Any]:
    current = list(target) if isinstance(target, list) else []
    if described.list_type is ListType.SET:
        return current + [v for v in patch if v not in current]
    key = described.merge_key
    if not key:
        return copy.deepcopy(patch)
    item_shape = described.shape.item or ANY
    if any(isinstance(v, dict) and v.get(_DIRECTIVE) == "replace" for v in patch):
        return [copy.deepcopy(v) for v in patch if not (isinstance(v, dict) and v.get(_DIRECTIVE) == "replace")]
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise MalformedPatch(f"{path}: an item does not contain declared merge key: {key}")
        places = [i for i, v in enumerate(current) if isinstance(v, dict) and v.get(key) == item[key]]
        if item.get(_DIRECTIVE) == "delete":
            current = [v for i, v in enumerate(current) if i not in places]
        elif places:
            current[places[0]] = _merge_map(current[places[0]], item, item_shape, path)
        else:
            current.append(_merge_map({}, item, item_shape, path))
    return current


def _order(merged: list[Any], order: list[Any], key: str, before: Any) -> list[Any]:
    """Sort the items that the client knows as it asks; the others stay behind their neighbour of before."""

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    known = sorted((v for v in merged if identity(v) in wanted), key=lambda v: wanted.index(identity(v)))
    earlier = [identity(v) for v in before] if isinstance(before, list) else []
    for item in (v for v in merged if identity(v) not in wanted):
        placed = [identity(v) for v in known]
        position = earlier.index(identity(item)) if identity(item) in earlier else len(earlier)
        neighbour = next((n for n in reversed(earlier[:position]) if n in placed), None)
        known.insert(0 if neighbour is None and position < len(earlier) else _after(placed, neighbour), item)
    return known


def _after(placed: list[Any], neighbour: Any) -> int:
    return len(placed) if neighbour is None else placed.index(neighbour) + 1
