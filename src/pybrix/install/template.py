"""Manifests with gaps: one tree of plain data and expressions, filled in by Python here and by Helm from `chart`. Pure.

A template is what `json` knows (dict, list, str, int, bool) with these between:

    Value("gateway.replicas")              what the values say, of whatever type
    Release("namespace")                   where and under which name it is installed
    Item("namespace")                      the element of the `Each` around it
    Text("pybrix:", Release("namespace"))  strings joined
    Sum((Value("x"), Value("y")), 5)       numbers, each rounded up, and a constant, added
    PortOf(Value("x.address"))             the number behind the last colon
    Lines("name", ...), Sha256(lines)      a text of several lines, and its hash
    If(condition, then, otherwise)         without otherwise the key or list item is left out
    Each(Value("x.names"), "name", [...])  list items for each element, in a list
    {Spread(Value("x.labels")): {}}        entries of a map of the values, in a map

Conditions are `Value` (true when neither zero nor empty), `Not`, `All`, `Either` and `MoreThan`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Template: TypeAlias = Any
"""Plain data with expressions in it; Python's types have no shorter word for it."""


@dataclass(frozen=True, slots=True)
class Value:
    path: str


@dataclass(frozen=True, slots=True)
class Release:
    """`name`, `namespace`, or `service` (what manages the objects: `pybrix`, or Helm)."""

    field: str


@dataclass(frozen=True, slots=True)
class Item:
    variable: str


@dataclass(frozen=True, slots=True, init=False)
class Text:
    parts: tuple[Expression, ...]

    def __init__(self, *parts: Expression) -> None:
        object.__setattr__(self, "parts", parts)


@dataclass(frozen=True, slots=True)
class Sum:
    numbers: tuple[Value, ...]
    constant: int


@dataclass(frozen=True, slots=True)
class PortOf:
    address: Value


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition


@dataclass(frozen=True, slots=True, init=False)
class All:
    conditions: tuple[Condition, ...]

    def __init__(self, *conditions: Condition) -> None:
        flat = [inner for each in conditions for inner in (each.conditions if isinstance(each, All) else (each,))]
        object.__setattr__(self, "conditions", tuple(flat))


@dataclass(frozen=True, slots=True, init=False)
class Either:
    conditions: tuple[Condition, ...]

    def __init__(self, *conditions: Condition) -> None:
        object.__setattr__(self, "conditions", conditions)


@dataclass(frozen=True, slots=True)
class MoreThan:
    number: Value
    constant: int


@dataclass(frozen=True, slots=True)
class Line:
    """One setting of a configuration file, the value as JSON. An `If` in it has an `otherwise`."""

    key: str
    value: Template
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """A configuration file of one setting a line, YAML by default; `name` is what the chart calls it."""

    name: str
    lines: tuple[Line, ...]
    separator: str = ": "


@dataclass(frozen=True, slots=True)
class Sha256:
    text: Lines


@dataclass(frozen=True, slots=True)
class _Omitted:
    pass


OMITTED = _Omitted()


@dataclass(frozen=True)
class If:
    condition: Condition
    then: Template
    otherwise: Template = OMITTED


@dataclass(frozen=True)
class Each:
    values: Value
    variable: str
    body: Sequence[Template]


@dataclass(frozen=True, slots=True)
class Spread:
    values: Value


Expression: TypeAlias = str | Value | Release | Item | Text | Sum | PortOf | Sha256
Condition: TypeAlias = Value | Not | All | Either | MoreThan


@dataclass(frozen=True, slots=True)
class Context:
    """What expressions are filled in from.

    Args:
        values: the whole document of values, defaults included.
        release: the fields of `Release`.
        items: elements of the loops around.
    """

    values: Mapping[str, Any]
    release: Mapping[str, str]
    items: Mapping[str, Any] = field(default_factory=dict)

    def value(self, path: str) -> Any:
        found: Any = self.values
        for name in path.split("."):
            found = found[name]
        return found

    def within(self, variable: str, item: Any) -> Context:
        return Context(self.values, self.release, {**self.items, variable: item})


def holds(condition: Condition, context: Context) -> bool:
    """Return whether a condition is true."""
    match condition:
        case Value(path):
            return bool(context.value(path))
        case Not(inner):
            return not holds(inner, context)
        case All(conditions):
            return all(holds(each, context) for each in conditions)
        case Either(conditions):
            return any(holds(each, context) for each in conditions)
        case MoreThan(number, constant):
            return bool(context.value(number.path) > constant)


def fill(template: Template, context: Context) -> Any:
    """Return the data that a template stands for; `OMITTED` for an `If` that leaves nothing."""
    match template:
        case Value(path):
            return context.value(path)
        case Release(name):
            return context.release[name]
        case Item(variable):
            return context.items[variable]
        case Text(parts):
            return "".join(str(fill(part, context)) for part in parts)
        case Sum(numbers, constant):
            return sum(math.ceil(context.value(number.path)) for number in numbers) + constant
        case PortOf(address):
            return int(context.value(address.path).rpartition(":")[2])
        case Lines():
            return text_of(template, context) + "\n"
        case Sha256(text):
            return hashlib.sha256(text_of(text, context).encode()).hexdigest()
        case If(condition, then, otherwise):
            return fill(then if holds(condition, context) else otherwise, context)
        case dict():
            return _fill_map(template, context)
        case list():
            return _fill_list(template, context)
        case _:
            return template


def _fill_map(template: Mapping[Any, Template], context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in template.items():
        if isinstance(key, Spread):
            found |= context.value(key.values.path)
        elif (value := fill(inner, context)) is not OMITTED:
            found[key] = value
    return found


def _fill_list(template: Sequence[Template], context: Context) -> list[Any]:
    found: list[Any] = []
    for each in template:
        if isinstance(each, Each):
            for item in context.value(each.values.path):
                found += _fill_list(each.body, context.within(each.variable, item))
        elif isinstance(each, If) and isinstance(each.then, list):
            chosen = each.then if holds(each.condition, context) else each.otherwise
            found += _fill_list([] if chosen is OMITTED else chosen, context)
        elif (value := fill(each, context)) is not OMITTED:
            found.append(value)
    return found


def text_of(text: Lines, context: Context) -> str:
    """Return a configuration file without the newline at its end."""
    return "\n".join(
        f"{line.key}{text.separator}{to_json(fill(line.value, context))}"
        for line in text.lines
        if line.condition is None or holds(line.condition, context)
    )


def to_json(value: Any) -> str:
    """Return JSON as Helm's `toRawJson` writes it: compact, keys sorted, whole numbers without a fraction."""
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole(inner) for key, inner in value.items()}
        case list():
            return [_whole(inner) for inner in value]
        case _:
            return value
