"""Find misspelt fields in a rule before it meets an object: follow its expression through the schema. Pure.

The CEL library takes `self` as it comes, so that `self.replcas` would fail on every object. Here the compiled
expression, in the protobuf form of the CEL project (`cel.expr.CheckedExpr`), is walked beside the schema.
https://github.com/google/cel-spec/blob/master/proto/cel/expr/syntax.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybrix.base.protobufwire import read_fields
from pybrix.cluster.apiserver.structural.cel import Program
from pybrix.cluster.apiserver.structural.rules import escape
from pybrix.cluster.apiserver.structural.schema import Node

_STRING = Node(type="string")
_METADATA = Node(type="object", properties={"name": _STRING, "generateName": _STRING})
# Functions whose result is made of what they are called on.
_SAME = frozenset({"filter", "value", "orValue", "or"})
_TIMES = frozenset({"date", "date-time", "duration"})
_TIME_CALLS = frozenset({"timestamp", "duration", "string", "size", "type", "dyn"})
Expr = dict[int, list[Any]]
Scope = Mapping[str, Node | None]


class UnknownField(ValueError):
    """An expression uses a field that the schema does not have."""


def check_fields(program: Program, node: Node, *, is_root: bool) -> None:
    """Check that every field of `self` and `oldSelf` that an expression selects is in the schema.

    What the schema leaves open, and what functions return, is passed over.

    Raises:
        UnknownField: one is not there, or is of a type that this server cannot hand to expressions.
    """
    message = _message(program.compiled.serialize())
    checked = _message(message[2][-1])
    start = node
    if is_root or node.is_embedded:
        named = {"apiVersion": _STRING, "kind": _STRING, "metadata": _METADATA}
        start = Node(type="object", properties={**node.properties, **named}, preserves_unknown=node.preserves_unknown)
    old = None if program.has_optional_old else start
    _infer(_message(checked[4][-1]), {"self": start, "oldSelf": old})


def _infer(expr: Expr, scope: Scope) -> Node | None:
    """Return the schema of an expression's value; None when it is not known."""
    if 4 in expr:
        return scope.get(_text(_message(expr[4][-1]), 1).removeprefix("."))
    if 5 in expr:
        return _select(_message(expr[5][-1]), scope)
    if 6 in expr:
        return _call(_message(expr[6][-1]), scope)
    if 9 in expr:
        return _comprehend(_message(expr[9][-1]), scope)
    for number in (7, 8):
        for raw in expr.get(number, ()):
            for part in _message(raw).get(1 if number == 7 else 2, ()):
                inner = _message(part)
                if number == 7:
                    _infer(inner, scope)
                else:
                    for value in (*inner.get(3, ()), *inner.get(4, ())):
                        _infer(_message(value), scope)
    return None


def _select(select: Expr, scope: Scope) -> Node | None:
    operand = _infer(_message(select[1][-1]), scope)
    return _field(operand, _text(select, 2))


def _field(operand: Node | None, name: str) -> Node | None:
    if operand is None or operand.is_int_or_string or not operand.type:
        return None
    if operand.type != "object":
        raise UnknownField(f"type {operand.type!r} does not support field selection of {name!r}")
    if operand.additional is not None or operand.allows_additional:
        return operand.additional
    for key, below in operand.properties.items():
        if escape(key) == name:
            return below
    near = [escape(key) for key in operand.properties]
    raise UnknownField(f"undefined field {name!r}: fields here are {', '.join(sorted(near)[:20]) or 'none'}")


def _call(call: Expr, scope: Scope) -> Node | None:
    name = _text(call, 2)
    arguments = [_infer(_message(raw), scope) for raw in call.get(3, ())]
    target = _infer(_message(call[1][-1]), scope) if 1 in call else None
    if name not in _TIME_CALLS:
        for used in (target, *arguments):
            if used is not None and used.values.get("format") in _TIMES and name not in ("_?._", "_[_]", "_[?_]"):
                form = used.values["format"]
                function = "duration" if form == "duration" else "timestamp"
                raise UnknownField(f"a value of format {form} must be converted: {function}(...)")
    if name in ("_[_]", "_[?_]") and arguments and arguments[0] is not None:
        return arguments[0].items or arguments[0].additional
    if name == "_?._" and len(call.get(3, ())) == 2:
        constant = _constant(_message(call[3][1]))
        return _field(arguments[0], constant) if constant is not None else None
    if name in _SAME:
        return target
    if name == "_?_:_" and len(arguments) == 3:
        return arguments[1] if arguments[1] is arguments[2] else None
    return None


def _comprehend(part: Expr, scope: Scope) -> Node | None:
    over = _infer(_message(part[2][-1]), scope)
    item = None
    if over is not None:
        item = over.items if over.type == "array" else None
    names = {_text(part, 1): item, _text(part, 3): _infer(_message(part[4][-1]), scope)}
    inner = {**scope, **names}
    for number in (5, 6, 7):
        if number in part:
            _infer(_message(part[number][-1]), inner)
    return None


def _constant(expr: Expr) -> str | None:
    if 3 not in expr:
        return None
    constant = _message(expr[3][-1])
    return _text(constant, 6) if 6 in constant else None


def _text(message: Expr, number: int) -> str:
    found = message.get(number)
    return bytes(found[-1]).decode() if found else ""


def _message(data: bytes) -> Expr:
    found: Expr = {}
    for number, value in read_fields(data):
        found.setdefault(number, []).append(value)
    return found
