"""Label and field selectors: parse what a client sends, match what the API holds. Pure.

Grammar: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.api.meta import LabelSelector

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.\-]*[A-Za-z0-9])?"
_KEY = rf"(?:{_NAME}/)?{_NAME}"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*((?:{_NAME})?)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: `operator` is In, NotIn, Exists or DoesNotExist; NotIn also matches an absent key."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        if self.operator == "In":
            return labels.get(self.key) in self.values
        return self.key not in labels or labels[self.key] not in self.values

    def __str__(self) -> str:
        if self.operator == "Exists":
            return self.key
        if self.operator == "DoesNotExist":
            return f"!{self.key}"
        word = "in" if self.operator == "In" else "notin"
        return f"{self.key} {word} ({','.join(sorted(self.values))})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements hold; no requirement matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(r.matches(labels) for r in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)


def parse_label_selector(text: str) -> Selector:
    """Parse the `labelSelector` query parameter: `app=web,tier in (a,b),!legacy`.

    Raises:
        ValueError: the text does not follow the grammar; the message quotes the term.
    """
    found: list[Requirement] = []
    for term in _split_terms(text):
        if match := _SET.fullmatch(term):
            values = frozenset(v.strip() for v in match[3].split(","))
            found.append(Requirement(match[1], "In" if match[2] == "in" else "NotIn", values))
        elif match := _EQUALITY.fullmatch(term):
            found.append(Requirement(match[1], "NotIn" if match[2] == "!=" else "In", frozenset({match[3]})))
        elif match := _EXISTS.fullmatch(term):
            found.append(Requirement(match[2], "DoesNotExist" if match[1] else "Exists"))
        else:
            raise ValueError(f"unable to parse the label selector term {term!r}")
    return Selector(tuple(found))


def _split_terms(text: str) -> list[str]:
    terms, depth, current = [], 0, ""
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            terms.append(current.strip())
            current = ""
        else:
            current += char
    terms.append(current.strip())
    return [] if terms == [""] else terms


def compile_label_selector(selector: LabelSelector | None) -> Selector | None:
    """Turn a `metav1.LabelSelector` into a matcher. None selects nothing, an empty selector everything.

    Raises:
        ValueError: an unknown operator, or values where there must be none (or none where there must be some).
    """
    if selector is None:
        return None
    terms = [Requirement(k, "In", frozenset({v})) for k, v in sorted(selector.match_labels.items())]
    for expression in selector.match_expressions:
        if expression.operator not in _OPERATORS:
            raise ValueError(f"matchExpressions: {expression.operator!r} is not a valid label selector operator")
        if bool(expression.values) != (expression.operator in ("In", "NotIn")):
            raise ValueError(f"matchExpressions: values of {expression.key!r} do not go with {expression.operator}")
        terms.append(Requirement(expression.key, expression.operator, frozenset(expression.values)))
    return Selector(tuple(terms))


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Terms `path=value` and `path!=value`; all hold."""

    terms: tuple[tuple[str, bool, str], ...] = ()

    def matches(self, data: Mapping[str, Any]) -> bool:
        """Say whether a JSON-like object matches; an absent field counts as the empty string."""
        return all((_field(data, path) == value) is is_equal for path, is_equal, value in self.terms)


def parse_field_selector(text: str) -> FieldSelector:
    """Parse the `fieldSelector` query parameter: `metadata.name=a,status.phase!=Running`.

    Raises:
        ValueError: a term without an operator.
    """
    terms: list[tuple[str, bool, str]] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", term)
        if match is None:
            raise ValueError(f"invalid field selector term {term!r}; expected path=value or path!=value")
        terms.append((match[1].strip(), match[2] != "!=", match[3].strip()))
    return FieldSelector(tuple(terms))


def _field(data: Mapping[str, Any], path: str) -> str:
    value: Any = data
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ""
        value = value[part]
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
