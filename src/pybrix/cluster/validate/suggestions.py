"""What somebody may have meant: the nearest known word, or the place where a field belongs. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from pybrix.cluster.apiserver.schema.shape import Form, Shape
from pybrix.cluster.manifests.nodes import Step

_NEAR = 0.7
_MAX_WORD = 100
_WANTED = re.compile(r"of type ([a-z0-9]+)")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?[0-9]+([.][0-9]*)?([eE][-+]?[0-9]+)?")
_QUOTED = re.compile(r'"([^"]*)"')


def nearest(word: str, known: Collection[str]) -> str:
    """Return the known word that looks most like this one; empty where none does."""
    if len(word) > _MAX_WORD:
        return ""
    for one in known:
        if one.lower() == word.lower():
            return one
    lowered = {one.lower(): one for one in known}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=_NEAR)
    return lowered[found[0]] if found else ""


def shape_at(root: Shape, steps: Sequence[Step]) -> Shape | None:
    """Return the shape of a part of an object; None where nothing is known about it."""
    shape: Shape | None = root
    for step in steps:
        if shape is None:
            return None
        if isinstance(step, int):
            shape = shape.item if shape.form is Form.LIST else None
        elif shape.form is Form.STRUCT:
            field = shape.fields.get(step)
            shape = None if field is None else field.shape
        else:
            shape = shape.item if shape.form is Form.MAP else None
    return shape


def for_unknown_field(root: Shape, steps: Sequence[Step]) -> str:
    """Say what an unknown field may have been meant for: another name, or another place.

    Args:
        root: the shape of the whole object.
        steps: where the field is.
    """
    if not steps or isinstance(steps[-1], int):
        return ""
    name = steps[-1]
    around = shape_at(root, steps[:-1])
    if around is None or around.form is not Form.STRUCT:
        return ""
    belongs = _elsewhere(root, around, steps, name)
    near = nearest(name, around.fields)
    if near and (near.lower() == name.lower() or not belongs):
        return f"did you mean {near}?"
    return belongs


def _elsewhere(root: Shape, around: Shape, steps: Sequence[Step], name: str) -> str:
    """Say where a field of exactly this name is: one level below, or around (a wrong indentation)."""
    for sibling, field in around.fields.items():
        if field.shape.form is Form.STRUCT and name in field.shape.fields:
            return f"{name} belongs to {sibling}"
    for depth in range(len(steps) - 2, -1, -1):
        outer = shape_at(root, steps[:depth])
        if outer is not None and outer.form is Form.STRUCT and name in outer.fields:
            place = _printed(steps[:depth])
            return f"{name} belongs to {place}" if place else f"{name} belongs to the object itself"
    return ""


def _printed(steps: Sequence[Step]) -> str:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")


def for_unsupported_value(message: str) -> str:
    """Say which of the supported values that a message lists is nearest to the one it refuses."""
    refused, found, supported = message.partition(": supported values: ")
    got = _QUOTED.search(refused)
    if not found or got is None:
        return ""
    near = nearest(got.group(1), _QUOTED.findall(supported))
    return f"did you mean {near}?" if near else ""


def _is_huge(value: object) -> bool:
    """Say whether a value looks like a number that no integer of the API holds; such a one may be read as text."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return False
    return isinstance(value, str | int | float) and abs(float(value)) >= 2**63


def for_wrong_type(value: object, message: str) -> str:
    """Say how to write a value whose type is wrong, where quotes make the difference."""
    found = _WANTED.search(message)
    wanted = found.group(1) if found is not None else ""
    if wanted == "string" and isinstance(value, bool | int | float):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f'in quotes it is a string: "{text[:_MAX_WORD]}"'
    is_number = wanted in ("integer", "int", "int64", "number", "float")
    if is_number and _is_huge(value):
        return "it is too large: integers have 64 bits"
    if isinstance(value, str) and _INTEGER.fullmatch(value) and is_number:
        return f"without quotes it is a number: {value}"
    if value in ("true", "false") and wanted in ("bool", "boolean"):
        return f"without quotes it is a truth value: {value}"
    return ""
