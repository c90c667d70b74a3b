"""What a typed kind says about itself beyond its Python types, from which its CustomResourceDefinition is made.

The bounds live here and not in `msgspec.Meta`: the API server enforces them, and an object that was stored before a
bound existed must still decode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pybrix.api.meta import Object

UNSET: Any = object()
"""No default in the schema."""
# Annotations are hashed by `typing`, and schemas are not hashable: notes are compared by identity (eq=False).


@dataclass(frozen=True, slots=True)
class Rule:
    """One `x-kubernetes-validations` entry.

    Args:
        rule: CEL over `self` (and `oldSelf`, which makes it a rule on changes).
        message: a sentence that says what is wrong and what would be right.
        field_path: path of the field at fault, relative to the node of the rule, such as `.maxReplicas`.
        message_expression: CEL that evaluates to a more precise message.
    """

    rule: str
    message: str
    field_path: str = ""
    message_expression: str = ""

    def to_dict(self) -> dict[str, Any]:
        found = {"rule": self.rule, "message": self.message}
        if self.message_expression:
            found["messageExpression"] = self.message_expression
        if self.field_path:
            found["fieldPath"] = self.field_path
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """What the schema says of one field.

    Args:
        description: text for `kubectl explain`.
        rules: checked on the field's value.
        default: what the server fills in, UNSET for nothing. The Python default of the field is the same.
        required: required on the wire although Python has a default.
        schema: replaces what the type would yield, for parts that are passed on as they are.
        items: keywords of the items of a list, or of the values of a map.
        keywords: keywords of the field itself, such as `minimum`.
    """

    description: str
    rules: tuple[Rule, ...] = ()
    default: Any = UNSET
    required: bool = False
    schema: Mapping[str, Any] | None = None
    items: Mapping[str, Any] = field(default_factory=dict)
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Keywords:
    """Schema keywords of a type wherever it stands, such as its format."""

    keywords: Mapping[str, Any]


def doc(
    description: str,
    *rules: Rule,
    default: Any = UNSET,
    required: bool = False,
    schema: Mapping[str, Any] | None = None,
    items: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> Field:
    """Describe a field: `Annotated[int, doc("How many pods run.", minimum=0)]`.

    Keywords are spelled as in the schema; `list_type` and `map_keys` stand for the `x-kubernetes-` ones.
    """
    if "list_type" in keywords:
        keywords["x-kubernetes-list-type"] = keywords.pop("list_type")
    if "map_keys" in keywords:
        keywords["x-kubernetes-list-map-keys"] = list(keywords.pop("map_keys"))
        keywords["x-kubernetes-list-type"] = "map"
    return Field(description, rules, default, required, schema, items or {}, keywords)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`: `type` is integer, string, boolean or date."""

    name: str
    type: str
    path: str
    description: str = ""
    priority: int = 0


AGE = Column("Age", "date", ".metadata.creationTimestamp")


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the `scale` subresource finds its numbers; `selector` is the path of the label selector text."""

    replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    selector: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """How a kind is served.

    Args:
        name: keywords of `metadata.name`, for kinds whose children's names are longer than their own.
        rules: on the whole object, where only `metadata.name` is visible of the metadata.
        is_status_subresource: `status` is written only through its own path.
    """

    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    scale: Scale | None = None
    name: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    is_status_subresource: bool = True


class CustomResource(Object):
    """Base of the kinds that are installed by a CustomResourceDefinition."""

    definition: ClassVar[Definition] = Definition()
