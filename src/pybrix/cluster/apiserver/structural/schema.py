"""A custom resource's schema as a tree of nodes, made once per version of a definition. Pure.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Data = dict[str, Any]
MAX_DEPTH = 100
"""Levels that an object or a schema may have."""


class Absent:
    """What stands for a value that is not there; None is JSON's null."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
# Keywords that say something about a value without giving it a structure.
VALUE_KEYWORDS = (
    "maximum", "minimum", "multipleOf", "maxLength", "minLength", "pattern", "format",
    "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "enum",
)  # fmt: skip
JUNCTORS = ("allOf", "anyOf", "oneOf")
EMBEDDED_KEYS = ("apiVersion", "kind", "metadata")


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `x-kubernetes-validations`."""

    rule: str
    message: str = ""
    message_expression: str = ""
    reason: str = "FieldValueInvalid"
    field_path: str = ""
    optional_old_self: bool = False


@dataclass(slots=True, eq=False)
class Node:
    """The schema of one value."""

    type: str = ""
    """Empty where any type will do."""
    properties: dict[str, Node] = field(default_factory=dict)
    additional: Node | None = None
    """The schema of every value of a map."""
    allows_additional: bool = False
    """Whether a map may hold anything."""
    items: Node | None = None
    is_nullable: bool = False
    preserves_unknown: bool = False
    is_embedded: bool = False
    """Whether the value is an object of the API, with kind and metadata."""
    is_int_or_string: bool = False
    list_type: str = "atomic"
    keys: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    default: Any = ABSENT
    values: Data = field(default_factory=dict)
    """`VALUE_KEYWORDS` and their arguments; the bounds with `exclusiveMinimum` and `exclusiveMaximum`."""
    all_of: tuple[Node, ...] = ()
    any_of: tuple[Node, ...] = ()
    one_of: tuple[Node, ...] = ()
    none_of: Node | None = None
    rules: tuple[Rule, ...] = ()
    has_rules: bool = False
    """Whether this node or one below has rules."""
    has_defaults: bool = False
    """Whether this node or one below has a default."""

    def children(self) -> Iterator[Node]:
        yield from self.properties.values()
        for below in (self.additional, self.items):
            if below is not None:
                yield below

    def below(self, key: str) -> Node | None:
        """Return the node of an object's part; None where it is not described."""
        return self.properties.get(key) or self.additional


def parse_schema(schema: Any, depth: int = 0) -> Node:
    """Return the node of an `openAPIV3Schema`.

    Never fails: what is malformed is passed over, for `check_schema` refuses it where a definition is written.
    """
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return Node(preserves_unknown=True)
    node = Node(type=_text(schema, "type"))
    properties, additional = schema.get("properties"), schema.get("additionalProperties")
    if isinstance(properties, Mapping):
        node.properties = {str(name): parse_schema(part, depth + 1) for name, part in properties.items()}
    if isinstance(additional, Mapping):
        node.additional = parse_schema(additional, depth + 1)
    node.allows_additional = additional is True
    if isinstance(schema.get("items"), Mapping):
        node.items = parse_schema(schema["items"], depth + 1)
    node.is_nullable = schema.get("nullable") is True
    node.preserves_unknown = schema.get("x-kubernetes-preserve-unknown-fields") is True
    node.is_embedded = schema.get("x-kubernetes-embedded-resource") is True
    node.is_int_or_string = schema.get("x-kubernetes-int-or-string") is True or schema.get("format") == "int-or-string"
    node.list_type = _text(schema, "x-kubernetes-list-type") or "atomic"
    node.keys = _texts(schema, "x-kubernetes-list-map-keys")
    node.required = _texts(schema, "required")
    node.default = schema.get("default", ABSENT)
    node.values = {name: schema[name] for name in VALUE_KEYWORDS if schema.get(name) is not None}
    for name in ("exclusiveMaximum", "exclusiveMinimum"):
        if schema.get(name) is True:
            node.values[name] = True
    all_of, any_of, one_of = ([parse_schema(s, depth + 1) for s in _list(schema, name)] for name in JUNCTORS)
    node.all_of, node.any_of, node.one_of = tuple(all_of), tuple(any_of), tuple(one_of)
    if isinstance(schema.get("not"), Mapping):
        node.none_of = parse_schema(schema["not"], depth + 1)
    node.rules = tuple(parse_rule(r) for r in _list(schema, "x-kubernetes-validations") if isinstance(r, Mapping))
    node.has_rules = bool(node.rules) or any(n.has_rules for n in node.children())
    node.has_defaults = node.default is not ABSENT or any(n.has_defaults for n in node.children())
    return node


def parse_rule(rule: Mapping[str, Any]) -> Rule:
    return Rule(
        _text(rule, "rule"),
        _text(rule, "message"),
        _text(rule, "messageExpression"),
        _text(rule, "reason") or "FieldValueInvalid",
        _text(rule, "fieldPath"),
        rule.get("optionalOldSelf") is True,
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _texts(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(v for v in _list(data, name) if isinstance(v, str))


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    return value if isinstance(value, list) else []
