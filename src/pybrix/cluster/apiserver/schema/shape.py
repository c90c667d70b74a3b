"""The shape of objects: which fields there are, of what type, and how lists merge. Pure.

One description drives decoding (type errors, unknown fields), strategic merge, server-side apply and OpenAPI. Built-in
kinds are described in a line-based notation, which `parse_types` reads:

    type Container -- what runs in a pod
      name string @1 !
      ports [ContainerPort] @6 key=containerPort,protocol

`[T]` is a list, `{T}` a map from strings, `!` required, `key=` the fields that identify an item (the first one is the
strategic merge key unless `patch=` says otherwise), `set` a list without duplicates, `retain` the strategic-merge
strategy retainKeys. `@n` is the number in the protobuf form; `@2.1` is number 1 of the message that is number 2, whose
fields JSON has inline, and `@n?` is sent only where it is set, so that its zero means zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from typing import Any

SCALARS = frozenset(
    {"string", "int", "int64", "bool", "float", "quantity", "intstr", "time", "microtime", "bytes", "any"}
)


class Form(StrEnum):
    """What a value is made of. `ANY` is taken as it comes."""

    SCALAR = "scalar"
    STRUCT = "struct"
    MAP = "map"
    LIST = "list"
    ANY = "any"


class ListType(StrEnum):
    """How a list merges: as a whole, as a set of scalars, or item by item found by keys."""

    ATOMIC = "atomic"
    SET = "set"
    MAP = "map"


@dataclass(slots=True, eq=False)
class Shape:
    """The type of a value. Types may contain themselves, so shapes are compared by identity."""

    form: Form
    name: str = ""
    """Name of the struct or the scalar."""
    description: str = ""
    fields: dict[str, Field] = dataclass_field(default_factory=dict)
    """Of a struct."""
    item: Shape | None = None
    """Of a list or a map."""
    is_open: bool = False
    """Whether a struct may have fields that are not described."""
    _as_item: Field | None = None

    @property
    def as_item(self) -> Field:
        """The item of a list or a map as a field without a name; the same one each time."""
        if self._as_item is None:
            self._as_item = Field("", self.item or ANY)
        return self._as_item


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field of a struct, with the merge rules of its list."""

    name: str
    shape: Shape
    is_required: bool = False
    number: tuple[int, ...] = ()
    """In the protobuf form, with those of the messages around it that JSON has inline; empty when unknown."""
    has_presence: bool = False
    """Whether the protobuf form tells a zero from what is not set: a pointer of Go's."""
    list_type: ListType = ListType.ATOMIC
    keys: tuple[str, ...] = ()
    key_defaults: Mapping[str, Any] = dataclass_field(default_factory=dict)
    """Values of keys that an item does not mention."""
    merge_key: str = ""
    """Of strategic merge; empty replaces the list."""
    retains_keys: bool = False
    description: str = ""
    is_atomic: bool = False
    """Whether a struct or map merges only as a whole."""


ANY = Shape(Form.ANY, "any")
_SCALAR_SHAPES = {name: ANY if name == "any" else Shape(Form.SCALAR, name) for name in SCALARS}


class UnknownType(ValueError):
    """A description names a type that nothing describes."""


def parse_types(texts: Iterable[str]) -> dict[str, Shape]:
    """Read descriptions; types may refer to each other in any order and across texts.

    Raises:
        UnknownType: a field's type is described nowhere.
    """
    lines = [line for text in texts for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    shapes: dict[str, Shape] = {}
    for line in lines:
        if line.startswith("type "):
            head, _, description = line[5:].partition(" -- ")
            shapes[head.strip()] = Shape(Form.STRUCT, head.strip(), description.strip())
    current: Shape | None = None
    for line in lines:
        if line.startswith("type "):
            current = shapes[line[5:].partition(" -- ")[0].strip()]
        elif current is not None:
            parsed = _parse_field(line, shapes)
            current.fields[parsed.name] = parsed
    return shapes


def _parse_field(line: str, shapes: Mapping[str, Shape]) -> Field:
    text, _, description = line.strip().partition(" -- ")
    name, type_text, *flags = text.split()
    options: dict[str, Any] = {}
    for flag in flags:
        word, _, value = flag.partition("=")
        if flag == "!":
            options["is_required"] = True
        elif flag.startswith("@"):
            options["number"] = tuple(map(int, flag[1:].removesuffix("?").split(".")))
            options["has_presence"] = flag.endswith("?")
        elif word == "key":
            keys = tuple(value.split(","))
            options |= {"list_type": ListType.MAP, "keys": keys, "merge_key": options.get("merge_key") or keys[0]}
        elif word == "patch":
            options["merge_key"] = value
        elif flag == "set":
            options["list_type"] = ListType.SET
        elif flag == "retain":
            options["retains_keys"] = True
        elif flag == "atomic":
            options["is_atomic"] = True
        else:
            raise ValueError(f"unknown flag {flag!r} in {line!r}")
    return Field(name, _parse_type(type_text, shapes), description=description.strip(), **options)


def _parse_type(text: str, shapes: Mapping[str, Shape]) -> Shape:
    if text.startswith("["):
        return Shape(Form.LIST, item=_parse_type(text[1:-1], shapes))
    if text.startswith("{"):
        return Shape(Form.MAP, item=_parse_type(text[1:-1], shapes))
    found = _SCALAR_SHAPES.get(text) or shapes.get(text)
    if found is None:
        raise UnknownType(f"no description of type {text!r}")
    return found


def shape_of_openapi(schema: Any, *, depth: int = 0) -> Shape:
    """Return the shape of a custom resource's `openAPIV3Schema`; what it does not describe is `ANY`."""
    if not isinstance(schema, dict) or depth > 64:
        return ANY
    if schema.get("x-kubernetes-int-or-string"):
        return _SCALAR_SHAPES["intstr"]
    match schema.get("type"):
        case "object":
            extra, properties = schema.get("additionalProperties"), schema.get("properties")
            if isinstance(properties, dict):
                struct = Shape(Form.STRUCT, description=str(schema.get("description", "")))
                struct.is_open = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
                required = schema.get("required")
                names = set(required) if isinstance(required, list) else set()
                for name, value in properties.items():
                    struct.fields[name] = _openapi_field(name, value, name in names, depth + 1)
                return struct
            if isinstance(extra, dict):
                return Shape(Form.MAP, item=shape_of_openapi(extra, depth=depth + 1))
            return ANY
        case "array":
            return Shape(Form.LIST, item=shape_of_openapi(schema.get("items"), depth=depth + 1))
        case "string":
            return _SCALAR_SHAPES["string"]
        case "boolean":
            return _SCALAR_SHAPES["bool"]
        case "integer":
            return _SCALAR_SHAPES["int64"]
        case "number":
            return _SCALAR_SHAPES["float"]
    return ANY


def _openapi_field(name: str, schema: Any, is_required: bool, depth: int) -> Field:
    shape = shape_of_openapi(schema, depth=depth)
    described = schema if isinstance(schema, dict) else {}
    kind = described.get("x-kubernetes-list-type")
    keys = described.get("x-kubernetes-list-map-keys")
    list_type = ListType(kind) if kind in ("atomic", "set", "map") else ListType.ATOMIC
    items = described.get("items")
    properties = items.get("properties") if isinstance(items, dict) else None
    parts = properties if isinstance(properties, dict) else {}
    return Field(
        name,
        shape,
        is_required=is_required,
        list_type=list_type,
        keys=tuple(str(k) for k in keys) if isinstance(keys, list) else (),
        key_defaults={k: p["default"] for k, p in parts.items() if isinstance(p, dict) and "default" in p},
        is_atomic=described.get("x-kubernetes-map-type") == "atomic",
        description=str(described.get("description", "")),
    )
