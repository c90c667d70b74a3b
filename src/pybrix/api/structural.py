"""Structural schemas (the dialect of CustomResourceDefinitions) from annotated structs. Pure.

Rules of the dialect: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

import copy
import functools
import inspect
import operator
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from pybrix.api.markers import UNSET, Field, Keywords
from pybrix.api.meta import LabelSelector
from pybrix.api.parts import LABEL_SELECTOR

Schema = dict[str, Any]

_SCALARS: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int32"},
    float: {"type": "number"},
}
_GIVEN: dict[Any, Mapping[str, Any]] = {LabelSelector: LABEL_SELECTOR}


def schema_of(annotation: Any) -> Schema:
    """Return the structural schema of a type.

    Raises:
        TypeError: the type has no structural schema, or a field of a struct has no description.
    """
    base, notes = _unwrap(annotation)
    given = next((note.schema for note in notes if isinstance(note, Field) and note.schema is not None), None)
    schema = copy.deepcopy(dict(given)) if given is not None else _of_type(base)
    for note in notes:
        schema |= note.keywords
        if isinstance(note, Field):
            _apply_field(schema, note)
    return schema


def _apply_field(schema: Schema, note: Field) -> None:
    schema["description"] = note.description
    if note.default is not UNSET:
        schema["default"] = copy.deepcopy(note.default)
    if note.items:
        inner = "items" if schema["type"] == "array" else "additionalProperties"
        schema[inner] |= note.items
    if note.rules:
        schema["x-kubernetes-validations"] = [
            *schema.get("x-kubernetes-validations", ()),
            *(rule.to_dict() for rule in note.rules),
        ]


def _unwrap(annotation: Any) -> tuple[Any, list[Field | Keywords]]:
    """Return the bare type and its notes, inner ones first; None in a union means only that the field is optional."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        base, notes = _unwrap(inner)
        return base, [*notes, *(note for note in extra if isinstance(note, Field | Keywords))]
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [arg for arg in get_args(annotation) if arg is not type(None)]
        if len(rest) == 1:
            return _unwrap(rest[0])
        return functools.reduce(operator.or_, rest), []
    return annotation, []


def _of_type(base: Any) -> Schema:
    if base in _GIVEN:
        return copy.deepcopy(dict(_GIVEN[base]))
    if base in _SCALARS:
        return dict(_SCALARS[base])
    origin, args = get_origin(base), get_args(base)
    if origin in (Union, types.UnionType) and set(args) == {int, str}:
        return {"x-kubernetes-int-or-string": True}
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin is list:
        return {"type": "array", "items": schema_of(args[0])}
    if origin is dict and args[1] is Any:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(args[1])}
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return _of_struct(base)
    raise TypeError(f"{base!r} has no structural schema")


def _of_struct(cls: type[msgspec.Struct]) -> Schema:
    properties: Schema = {}
    required: list[str] = []
    for entry in msgspec.structs.fields(cls):
        notes = _unwrap(entry.type)[1]
        marker = next((note for note in reversed(notes) if isinstance(note, Field)), None)
        if marker is None:
            raise TypeError(f"{cls.__name__}.{entry.name} has no description")
        properties[entry.encode_name] = schema_of(entry.type)
        if entry.required or marker.required:
            required.append(entry.encode_name)
    schema: Schema = {"type": "object", "description": summary(cls), "properties": properties}
    if required:
        schema["required"] = required
    schema |= getattr(cls, "schema_keywords", {})
    if rules := getattr(cls, "rules", ()):
        schema["x-kubernetes-validations"] = [rule.to_dict() for rule in rules]
    return schema


def summary(cls: type) -> str:
    """Return the docstring of a class as one paragraph each."""
    paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
