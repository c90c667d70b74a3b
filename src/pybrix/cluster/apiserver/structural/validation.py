"""Compare a value with a schema: one cause per error, with the words of a Kubernetes API server. Pure.

An update may leave what was wrong before as it is (validation ratcheting):
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pybrix.cluster.apiserver.equality import is_same_json
from pybrix.cluster.apiserver.failures import Cause, duplicate, invalid_value, not_supported, required
from pybrix.cluster.apiserver.structural import cel, paths
from pybrix.cluster.apiserver.structural.formats import is_format
from pybrix.cluster.apiserver.structural.schema import ABSENT, Node

MAX_CAUSES = 200
"""Causes that one answer names; a hopeless object gets no longer one."""
BLOCKING = frozenset({"FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"})
"""Reasons after which rules are not evaluated: the value has not the form that they rely on."""
_INT64 = range(-(2**63), 2**63)
_INT32 = range(-(2**31), 2**31)


def validate(value: Any, node: Node, old: Any = ABSENT) -> list[Cause]:
    """Return what is wrong with a value.

    Args:
        value: a whole object, or a part of one.
        node: its schema.
        old: what it replaces; what did not change is not looked at.
    """
    causes: list[Cause] = []
    _validate(value, node, old, "", causes)
    return causes[:MAX_CAUSES]


def type_name(value: Any) -> str:
    """Name a JSON value's type."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return {str: "string", list: "array", dict: "object", type(None): "null"}.get(type(value), "unknown")


def is_integral(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _has_type(value: Any, wanted: str) -> bool:
    match wanted:
        case "integer":
            return is_integral(value) and int(value) in _INT64
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return type_name(value) == wanted


def _wrong_type(path: str, value: Any, wanted: str) -> Cause:
    got = type_name(value)
    if got == "integer" and wanted == "integer":
        return Cause(
            path, f"Invalid value: {short_value(value)}: {path} in body must fit in 64 bits", "FieldValueTypeInvalid"
        )
    text = f'Invalid value: "{got}": {path or "the object"} in body must be of type {wanted}: "{got}"'
    return Cause(path, text, "FieldValueTypeInvalid")


def _validate(value: Any, node: Node, old: Any, path: str, causes: list[Cause]) -> None:
    if len(causes) >= MAX_CAUSES or (old is not ABSENT and is_same_json(old, value)):
        return
    if value is None:
        if not node.is_nullable and (node.type or node.is_int_or_string):
            causes.append(_wrong_type(path, value, node.type or "integer or string"))
        return
    if not _check_type(value, node, path, causes):
        return
    if isinstance(value, dict):
        _validate_object(value, node, old, path, causes)
    elif isinstance(value, list):
        _validate_list(value, node, old, path, causes)
    elif isinstance(value, str):
        _validate_string(value, node.values, path, causes)
    elif not isinstance(value, bool):
        _validate_number(value, node.values, path, causes)
    if "enum" in node.values and not any(is_same_json(value, choice) for choice in node.values["enum"]):
        choices = [c if isinstance(c, str) else json.dumps(c) for c in node.values["enum"]]
        causes.append(not_supported(path, short_value(value), choices))
    _validate_junctors(value, node, path, causes)


def _check_type(value: Any, node: Node, path: str, causes: list[Cause]) -> bool:
    if node.is_int_or_string:
        if isinstance(value, str) or is_integral(value):
            return True
        causes.append(_wrong_type(path, value, "integer or string"))
        return False
    if node.type and not _has_type(value, node.type):
        causes.append(_wrong_type(path, value, node.type))
        return False
    return True


def _validate_object(value: dict[str, Any], node: Node, old: Any, path: str, causes: list[Cause]) -> None:
    before: Mapping[str, Any] = old if isinstance(old, dict) else {}
    causes += [required(paths.join(path, name)) for name in node.required if name not in value]
    if node.is_embedded:
        for name in ("apiVersion", "kind"):
            if not isinstance(value.get(name), str) or not value[name]:
                causes.append(required(paths.join(path, name), "must not be empty"))
        if not isinstance(value.get("metadata", {}), dict):
            causes.append(_wrong_type(paths.join(path, "metadata"), value["metadata"], "object"))
    rules = node.values
    if len(value) > rules.get("maxProperties", len(value)):
        causes.append(_too_many(path, len(value), rules["maxProperties"]))
    if len(value) < rules.get("minProperties", 0):
        detail = f"{path} in body should have at least {rules['minProperties']} properties"
        causes.append(invalid_value(path, len(value), detail))
    for name, part in value.items():
        below = node.below(name)
        if below is not None:
            _validate(part, below, before.get(name, ABSENT), paths.join(path, name), causes)


def _validate_list(value: list[Any], node: Node, old: Any, path: str, causes: list[Cause]) -> None:
    rules = node.values
    if len(value) > rules.get("maxItems", len(value)):
        causes.append(_too_many(path, len(value), rules["maxItems"]))
        return
    if len(value) < rules.get("minItems", 0):
        detail = f"{path} in body should have at least {rules['minItems']} items"
        causes.append(invalid_value(path, len(value), detail))
    if node.items is not None:
        before = old if isinstance(old, list) else []
        by_key = {item_identity(part, node): part for part in before} if node.list_type == "map" else {}
        for index, part in enumerate(value):
            was = by_key.get(item_identity(part, node), ABSENT) if node.list_type == "map" else _at(before, index)
            _validate(part, node.items, was, paths.item(path, index), causes)
    if node.list_type in ("set", "map"):
        _validate_unique(value, node, path, causes)


def _at(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else ABSENT


def _validate_unique(value: list[Any], node: Node, path: str, causes: list[Cause]) -> None:
    seen: set[str] = set()
    for index, part in enumerate(value):
        if node.list_type == "map" and not isinstance(part, dict):
            continue
        identity = item_identity(part, node)
        if identity in seen:
            at = paths.item(path, index)
            if node.list_type == "map":
                shown = paths.keyed({k: part.get(k) for k in node.keys})
                causes.append(Cause(at, f"Duplicate value: {shown}", "FieldValueDuplicate"))
            else:
                causes.append(duplicate(at, short_value(part)))
        seen.add(identity)


def item_identity(part: Any, node: Node) -> str:
    """Return what makes an item of a set or a keyed list the same as another; keys that are absent are null."""
    if node.list_type == "map":
        part = [part.get(k) for k in node.keys] if isinstance(part, dict) else None
    return json.dumps(part, sort_keys=True)


def _validate_string(value: str, rules: Mapping[str, Any], path: str, causes: list[Cause]) -> None:
    if not rules:
        return
    if len(value) > rules.get("maxLength", len(value)):
        text = f"Too long: may not be more than {rules['maxLength']} bytes"
        causes.append(Cause(path, text, "FieldValueTooLong"))
        return
    if len(value) < rules.get("minLength", 0):
        detail = f"{path} in body should be at least {rules['minLength']} chars long"
        causes.append(invalid_value(path, value, detail))
    if "pattern" in rules:
        try:
            fits = cel.matches(rules["pattern"], value)
        except cel.CelError:
            fits = False
        if not fits:
            causes.append(invalid_value(path, short_value(value), f"{path} in body should match '{rules['pattern']}'"))
    form = rules.get("format")
    if form is not None and not is_format(form, value):
        causes.append(
            invalid_value(
                path, short_value(value), f"{path} in body must be of type {form}: {json.dumps(short_value(value))}"
            )
        )


def _validate_number(value: int | float, rules: Mapping[str, Any], path: str, causes: list[Cause]) -> None:
    if not rules:
        return
    most, least, step = (rules.get(name) for name in ("maximum", "minimum", "multipleOf"))
    if most is not None:
        is_strict = rules.get("exclusiveMaximum", False)
        if value > most or (is_strict and value == most):
            words = "less than" if is_strict else "less than or equal to"
            causes.append(invalid_value(path, value, f"{path} in body should be {words} {_bound(most)}"))
    if least is not None:
        is_strict = rules.get("exclusiveMinimum", False)
        if value < least or (is_strict and value == least):
            words = "greater than" if is_strict else "greater than or equal to"
            causes.append(invalid_value(path, value, f"{path} in body should be {words} {_bound(least)}"))
    if step and Decimal(str(value)) % Decimal(str(step)):
        causes.append(invalid_value(path, value, f"{path} in body should be a multiple of {_bound(step)}"))
    if rules.get("format") == "int32" and is_integral(value) and int(value) not in _INT32:
        causes.append(invalid_value(path, value, f"{path} in body must be of type integer with format int32"))


def _bound(value: Any) -> str:
    return str(int(value)) if is_integral(value) else str(value)


def _validate_junctors(value: Any, node: Node, path: str, causes: list[Cause]) -> None:
    for part in node.all_of:
        _validate(value, part, ABSENT, path, causes)
    if node.any_of and not any(_fits(value, part, path) for part in node.any_of):
        causes.append(invalid_value(path, "", f'"{path}" must validate at least one schema (anyOf)'))
    if node.one_of:
        count = sum(_fits(value, part, path) for part in node.one_of)
        if count != 1:
            found = "Found none valid" if count == 0 else f"Found {count} valid alternatives"
            causes.append(invalid_value(path, "", f'"{path}" must validate one and only one schema (oneOf). {found}'))
    if node.none_of is not None and _fits(value, node.none_of, path):
        causes.append(invalid_value(path, "", f'"{path}" must not validate the schema (not)'))


def _fits(value: Any, node: Node, path: str) -> bool:
    causes: list[Cause] = []
    _validate(value, node, ABSENT, path, causes)
    return not causes


def _too_many(path: str, count: int, limit: int) -> Cause:
    return Cause(path, f"Too many: {count}: must have at most {limit} items", "FieldValueTooMany")


def short_value(value: Any) -> Any:
    """Return what of a value an error shows."""
    if isinstance(value, str):
        return value if len(value) <= 200 else value[:200] + "..."
    return value if isinstance(value, bool | int | float) else json.dumps(value)[:200]
