"""Evaluate `x-kubernetes-validations` over an object. Pure.

A rule sees the value where it stands as `self`, and on update what the value replaces as `oldSelf`. A rule whose
evaluation fails is not fulfilled.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

import base64
import binascii
import functools
from dataclasses import dataclass, field
from typing import Any

from pybrix.cluster.apiserver.equality import is_same_json
from pybrix.cluster.apiserver.failures import Cause, duplicate, invalid_value
from pybrix.cluster.apiserver.structural import cel, paths
from pybrix.cluster.apiserver.structural.schema import ABSENT, Node, Rule
from pybrix.cluster.apiserver.structural.validation import is_integral, item_identity, short_value, type_name

REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")
BUDGET = 1_000_000
"""Values that the rules of one object may be shown; a rule on each of many items counts each of them."""
_PER_RULE = 20
_KEYWORDS = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
_VARIABLES = ("self", "oldSelf")


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule ready to be evaluated."""

    rule: Rule
    program: cel.Program
    message: cel.Program | None
    is_transition: bool
    steps: tuple[str, ...]
    """Of `fieldPath`: where the error is, below the rule."""


@functools.lru_cache(maxsize=4096)
def compile_rule(rule: Rule) -> CompiledRule:
    """Compile a rule and what it says when it is broken.

    Raises:
        CelError: an expression does not compile.
        ValueError: its `fieldPath` is no path.
    """
    is_transition = cel.uses_old(rule.rule)
    has_optional_old = is_transition and rule.optional_old_self
    program = cel.compile_expression(rule.rule, _VARIABLES, "bool", has_optional_old=has_optional_old)
    message = None
    if rule.message_expression:
        message = cel.compile_expression(
            rule.message_expression, _VARIABLES, "string", has_optional_old=has_optional_old
        )
    steps = tuple(paths.parse_field_path(rule.field_path)) if rule.field_path else ()
    return CompiledRule(rule, program, message, is_transition, steps)


@functools.lru_cache(maxsize=4096)
def escape(name: str) -> str:
    """Return how a property is named in an expression."""
    if name in _KEYWORDS:
        return f"__{name}__"
    for text, escaped in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(text, escaped)
    return name


def check_rules(value: Any, node: Node, old: Any = ABSENT) -> list[Cause]:
    """Return which rules of a schema an object breaks.

    Args:
        value: the object; it fits the schema.
        node: its schema.
        old: the object that it replaces. Rules on what did not change are not looked at.
    """
    walk = _Walk()
    walk.visit(value, node, old, "", is_object=True)
    return walk.causes


@dataclass(slots=True)
class _Walk:
    causes: list[Cause] = field(default_factory=list)
    shown: dict[int, Any] = field(default_factory=dict)
    """Values as expressions see them, by identity of the original, which lives as long as the walk."""
    left: int = BUDGET

    def visit(self, value: Any, node: Node, old: Any, path: str, *, is_object: bool = False) -> None:
        if value is None or not node.has_rules or self.left <= 0:
            return
        is_same = old is not ABSENT and is_same_json(old, value)
        for rule in node.rules:
            self._check(rule, value, node, old, path, is_same=is_same, is_object=is_object)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, part in value.items():
                below = node.below(name)
                if below is not None:
                    self.visit(part, below, before.get(name, ABSENT), paths.join(path, name))
        elif isinstance(value, list) and node.items is not None:
            # Items of other lists have nothing that says which one was which.
            known = isinstance(old, list) and node.list_type == "map"
            before_items = {item_identity(part, node): part for part in old} if known else {}
            for index, part in enumerate(value):
                was = before_items.get(item_identity(part, node), ABSENT) if known else ABSENT
                if is_same and not known:
                    was = part
                self.visit(part, node.items, was, paths.item(path, index))

    def _check(
        self, rule: Rule, value: Any, node: Node, old: Any, path: str, *, is_same: bool, is_object: bool
    ) -> None:
        try:
            compiled = compile_rule(rule)
        except ValueError as err:
            self._fail(rule, value, path, f"{err} evaluating rule: {rule.message or rule.rule}", "FieldValueInvalid")
            return
        if is_same and not compiled.is_transition:
            return
        if compiled.is_transition and old is ABSENT and not rule.optional_old_self:
            return
        values = {"self": self._show(value, node, is_object=is_object)}
        if old is not ABSENT:
            values["oldSelf"] = self._show(old, node, is_object=is_object)
        self.left -= _PER_RULE
        if self.left <= 0:
            text = "validation failed due to running out of cost budget, no further validation rules will be run"
            self._fail(rule, value, path, text, "FieldValueInvalid")
            return
        try:
            holds = compiled.program.evaluate(values)
        except cel.CelError as err:
            self._fail(rule, value, path, f"{err} evaluating rule: {rule.message or rule.rule}", "FieldValueInvalid")
            return
        if holds is True:
            return
        if holds is not False:
            text = f"the rule gives no truth value but {type_name(holds)}: {rule.rule}"
            self._fail(rule, value, path, text, "FieldValueInvalid")
            return
        for step in compiled.steps:
            path = paths.join(path, step)
        self._fail(rule, value, path, _message(compiled, values), rule.reason)

    def _fail(self, rule: Rule, value: Any, path: str, text: str, reason: str) -> None:
        # As newer API servers do: the value where it is one word, the type where it is a whole object or list.
        shown = type_name(value) if isinstance(value, dict | list) else short_value(value)
        words = {
            "FieldValueForbidden": f"Forbidden: {text}",
            "FieldValueRequired": f"Required value: {text}",
            "FieldValueDuplicate": f"{duplicate(path, shown).message}: {text}",
        }
        known = reason if reason in REASONS else "FieldValueInvalid"
        self.causes.append(Cause(path, words.get(known, invalid_value(path, shown, text).message), known))

    def _show(self, value: Any, node: Node, *, is_object: bool = False) -> Any:
        """Return a value as expressions see it: what the schema describes, under escaped names."""
        known = self.shown.get(id(value))
        if known is not None:
            return known
        self.left -= 1
        shown = value
        if isinstance(value, dict):
            shown = self._show_object(value, node, is_object=is_object or node.is_embedded)
            self.shown[id(value)] = shown
        elif isinstance(value, list):
            if node.items is not None:
                shown = [self._show(part, node.items) for part in value]
                self.shown[id(value)] = shown
        elif node.type == "number" and isinstance(value, int) and not isinstance(value, bool):
            shown = float(value)
        elif node.type == "integer" and is_integral(value):
            shown = int(value)
        elif isinstance(value, str) and node.values.get("format") == "byte":
            shown = _bytes(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            shown = cel.number(value)
        return shown

    def _show_object(self, value: dict[str, Any], node: Node, *, is_object: bool) -> dict[str, Any]:
        shown = {
            escape(name): self._show(value[name], below) for name, below in node.properties.items() if name in value
        }
        if node.additional is not None:
            shown |= {k: self._show(v, node.additional) for k, v in value.items() if k not in node.properties}
        elif node.allows_additional:
            shown |= {k: cel.plain(v) for k, v in value.items() if k not in node.properties}
        if is_object:
            metadata = value.get("metadata")
            named = metadata if isinstance(metadata, dict) else {}
            shown["apiVersion"], shown["kind"] = value.get("apiVersion", ""), value.get("kind", "")
            shown["metadata"] = {k: named[k] for k in ("name", "generateName") if isinstance(named.get(k), str)}
        return shown


def _bytes(text: str) -> Any:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text


def _message(compiled: CompiledRule, values: dict[str, Any]) -> str:
    rule = compiled.rule
    usual = rule.message.strip() or f"failed rule: {' '.join(rule.rule.split())}"
    if compiled.message is None:
        return usual
    try:
        text = compiled.message.evaluate(values)
    except cel.CelError:
        return usual
    return text.strip() if isinstance(text, str) and text.strip() and "\n" not in text.strip() else usual
