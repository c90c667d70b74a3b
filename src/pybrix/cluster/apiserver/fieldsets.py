"""Sets of fields as `metadata.managedFields` stores them (FieldsV1), and what server-side apply does with them. Pure.

A set is a tree of dicts: `f:name` a field, `k:{...}` an item of a keyed list, `v:value` an item of a set, `.` the value
itself where it has parts as well. An empty dict is a leaf.
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pybrix.cluster.apiserver.equality import is_same_json
from pybrix.cluster.apiserver.schema.shape import ANY, Field, Form, ListType, Shape

FieldSet = dict[str, Any]
_SELF = "."
_quoted = json.encoder.encode_basestring_ascii
_compact = json.JSONEncoder(separators=(",", ":")).encode
_UNDESCRIBED = Field("", ANY)


def child_field(shape: Shape, name: str) -> Field:
    """Return the description of a part; what is not described merges field by field, lists as a whole."""
    if shape.form is Form.STRUCT:
        return shape.fields.get(name) or _UNDESCRIBED
    if shape.form is Form.MAP and shape.item is not None:
        return shape.as_item
    return _UNDESCRIBED


def _is_granular(value: Any, described: Field) -> bool:
    if isinstance(value, dict):
        return bool(value) and not described.is_atomic
    return isinstance(value, list) and bool(value) and described.list_type is not ListType.ATOMIC


def item_key(item: Any, described: Field) -> str:
    """Return how an item of a keyed list or a set is named in a field set."""
    if described.list_type is ListType.SET or not isinstance(item, dict):
        return "v:" + _compact(item)
    if len(described.keys) == 1:
        # Nearly all of them: containers, volumes, variables.
        (key,) = described.keys
        value = item.get(key)
        if type(value) is str:
            return f'k:{{"{key}":{_quoted(value)}}}'
    usual = described.key_defaults
    # An absent protocol means TCP in every keyed list of a built-in kind that has one.
    keys = {k: item[k] if k in item else usual.get(k, "TCP" if k == "protocol" else "") for k in described.keys}
    return "k:" + _compact(keys)


def parts(value: Any, described: Field) -> Iterator[tuple[str, Any, Field]]:
    """Yield the parts of a value that merges part by part: their name in a set, value and description."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield f"f:{name}", part, child_field(described.shape, name)
    else:
        below = _UNDESCRIBED if described.shape.item is None else described.shape.as_item
        for item in value:
            yield item_key(item, described), item, below


class _Names(dict[str, str]):
    """Names of fields as sets write them, each text once: thousands of objects have the same."""

    def __missing__(self, name: str) -> str:
        if len(self) >= _MAX_NAMES:
            self.clear()
        self[name] = written = f"f:{name}"
        return written


_MAX_NAMES = 20_000
_NAMES = _Names()
_LEAF: FieldSet = {}
"""Every leaf: sets are put together anew and never changed in place."""


def fields_of(value: Any, described: Field) -> FieldSet:
    """Return the set of all fields of a value."""
    if not value or not isinstance(value, dict | list):
        return _LEAF
    shape = described.shape
    if isinstance(value, dict):
        if described.is_atomic:
            return _LEAF
        if shape.form is Form.STRUCT:
            of = shape.fields
            return {
                _NAMES[name]: fields_of(part, of.get(name, _UNDESCRIBED)) if isinstance(part, dict | list) else _LEAF
                for name, part in value.items()
            }
        below = _UNDESCRIBED if shape.item is None else shape.as_item
        return {
            _NAMES[name]: fields_of(part, below) if isinstance(part, dict | list) else _LEAF
            for name, part in value.items()
        }
    if described.list_type is ListType.ATOMIC:
        return _LEAF
    below = _UNDESCRIBED if shape.item is None else shape.as_item
    return {name: _with_self(name, fields_of(item, below)) for item in value for name in (item_key(item, described),)}


def _with_self(name: str, inner: FieldSet) -> FieldSet:
    # An item of a list is a thing of its own: it stays when its last field goes.
    return {_SELF: _LEAF, **inner} if name.startswith("k:") else inner


def changed_fields(old: Any, new: Any, described: Field) -> tuple[FieldSet, FieldSet]:
    """Return (added or changed, removed) fields between two values that differ."""
    if not (_is_granular(old, described) and _is_granular(new, described) and type(old) is type(new)):
        gone = fields_of(old, described) if _is_granular(old, described) else {}
        return fields_of(new, described), gone
    if isinstance(old, dict):
        before, after = old, new
        written = _NAMES.__getitem__
    else:
        before = {item_key(item, described): item for item in old}
        after = {item_key(item, described): item for item in new}
        written = str
    shape = described.shape
    changed: FieldSet = {}
    removed: FieldSet = {}
    for name, part in after.items():
        earlier = before.get(name, _ABSENT)
        if earlier is part or is_same_json(earlier, part):
            continue
        below = child_field(shape, name) if before is old else shape.as_item
        if earlier is _ABSENT:
            changed[written(name)] = _with_self(written(name), fields_of(part, below))
            continue
        more, less = changed_fields(earlier, part, below)
        if more or not less:
            changed[written(name)] = more
        if less:
            removed[written(name)] = less
    for name, part in before.items():
        if name not in after:
            below = child_field(shape, name) if before is old else shape.as_item
            removed[written(name)] = _with_self(written(name), fields_of(part, below))
    return changed, removed


_ABSENT = object()


def _has_self(fields: FieldSet) -> bool:
    return not fields or _SELF in fields


def _node(children: FieldSet, has_self: bool) -> FieldSet | None:
    """Return a node of a set; None when nothing of it is left."""
    if not children:
        return {} if has_self else None
    return {_SELF: {}, **children} if has_self else children


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Return what is in either set."""
    return _union(left, right, is_root=True)


def _union(left: FieldSet, right: FieldSet, *, is_root: bool = False) -> FieldSet:
    merged = {name: inner for name, inner in left.items() if name != _SELF}
    for name, inner in right.items():
        if name != _SELF:
            merged[name] = _union(merged[name], inner) if name in merged else inner
    if is_root:
        return merged
    return _node(merged, _has_self(left) or _has_self(right)) or {}


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Return what of `left` is not in `right`."""
    kept: FieldSet = {}
    for name, inner in left.items():
        if name == _SELF:
            continue
        if name not in right:
            kept[name] = inner
            continue
        node = _node(difference(inner, right[name]), _has_self(inner) and not _has_self(right[name]))
        if node is not None:
            kept[name] = node
    return kept


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Return what is in both sets."""
    both: FieldSet = {}
    for name, inner in left.items():
        if name != _SELF and name in right:
            node = _node(intersection(inner, right[name]), _has_self(inner) and _has_self(right[name]))
            if node is not None:
                both[name] = node
    return both


def leaves(fields: FieldSet, path: str = "") -> Iterator[str]:
    """Yield readable paths of the leaves: `.spec.containers[name="web"].image`."""
    for name, inner in fields.items():
        if name == _SELF:
            if len(fields) == 1:
                yield path
            continue
        here = path + _readable(name)
        if inner:
            yield from leaves(inner, here)
        else:
            yield here


def _readable(name: str) -> str:
    kind, _, text = name.partition(":")
    if kind == "f":
        return f".{text}"
    if kind == "k":
        pairs = json.loads(text)
        return "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in pairs.items()) + "]"
    return f"[={text}]"


def merge_applied(live: Any, applied: Any, described: Field) -> Any:
    """Return the live value with an applied configuration merged in."""
    are_objects = isinstance(applied, dict) and isinstance(live, dict) and not described.is_atomic
    # A list without items asks for nothing: it takes nothing away that others put there.
    are_lists = isinstance(applied, list) and isinstance(live, list) and described.list_type is not ListType.ATOMIC
    if not are_objects and not are_lists:
        return applied
    if isinstance(applied, dict):
        merged = dict(live)
        for name, part in applied.items():
            below = child_field(described.shape, name)
            merged[name] = merge_applied(live[name], part, below) if name in live else part
        return merged
    items = list(live)
    places = {item_key(item, described): index for index, item in enumerate(items)}
    item_field = described.shape.as_item
    for item in applied:
        name = item_key(item, described)
        if name in places:
            items[places[name]] = merge_applied(items[places[name]], item, item_field)
        else:
            items.append(item)
    return items


def remove_fields(value: Any, doomed: FieldSet, described: Field) -> Any:
    """Return the value without the fields of a set; containers that become empty go with them."""
    if isinstance(value, dict):
        kept: dict[str, Any] = {}
        for name, part, below in parts(value, described):
            rest = _without(part, doomed.get(name), below)
            if rest is not None:
                kept[name[2:]] = rest
        return kept
    items: list[Any] = []
    for name, item, below in parts(value, described):
        inner = doomed.get(name)
        # Who owns the item itself owns that it exists: with the last of them goes what the server filled in.
        rest = None if inner is not None and _has_self(inner) else _without(item, inner, below)
        if rest is not None:
            items.append(rest)
    return items


def _without(part: Any, doomed: FieldSet | None, below: Field) -> Any:
    """Return what is left of a part; None when it goes as a whole."""
    if doomed is None:
        return part
    if not _is_granular(part, below):
        return None if _has_self(doomed) else part
    smaller = remove_fields(part, doomed, below)
    # What others own below keeps its container; a container that nobody needs any more goes.
    return smaller or None
