"""Read YAML as `kubectl` does, into nodes. Pure.

Plain values get the types that the YAML library of Kubernetes' own tools gives them (YAML 1.1 with its yes and no,
but without its clock times: `22:30` is text). Anchors, aliases and merge keys work; what they would grow to is bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from pybrix.cluster.manifests.nodes import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROBLEMS,
    Entry,
    Node,
    Position,
    Problem,
    Read,
    Unreadable,
    number_value,
)

_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BASED = re.compile(r"[-+]?0([xX][0-9a-fA-F]+|[bB][01]+|[oO]?[0-7]+)")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"


class _Scalar(ValueError):
    """A scalar has no JSON form."""


@dataclass(slots=True)
class _Open:
    """A collection that is being read."""

    node: Node
    anchor: str | None
    key: tuple[str, Position, bool] | None = None
    """Name, place and whether it is a merge key, of the field whose value comes next."""
    seen: dict[str, Position] = field(default_factory=dict)
    merged: list[Node] = field(default_factory=list)


def read_yaml(text: str, *, may_alias: bool = True) -> Read:
    """Read every document of a text; empty ones are left out.

    Args:
        text: the stream.
        may_alias: whether a value may refer to another.
    """
    reader = _Reader(may_alias)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            reader.take(event)
    except Unreadable as err:
        reader.read.problems.append(err.problem)
    except yaml.YAMLError as err:
        reader.read.problems.append(_syntax(err))
    return reader.read


def plain_value(text: str) -> Any:
    """Return what a value without quotes means.

    Raises:
        ValueError: it has no JSON form.
    """
    if text in _NULL:
        return None
    first = text[0]
    if first not in "+-.0123456789":
        return True if text in _TRUE else False if text in _FALSE else text
    if _NOT_FINITE.fullmatch(text):
        raise _Scalar(f"{text} has no JSON form: write a finite number")
    digits = text.replace("_", "")
    if _BASED.fullmatch(digits):
        sign = -1 if digits.startswith("-") else 1
        body = digits.lstrip("+-")
        base = {"x": 16, "b": 2, "o": 8}.get(body[1].lower(), 8)
        if len(body) <= 66:
            return sign * int(body[2:] if body[1].isalpha() else body, base)
    # Only the form with digits alone may have underscores.
    if _FLOAT.fullmatch(digits) and (digits == text or digits.lstrip("+-").isdigit()):
        try:
            return number_value(digits)
        except ValueError:
            return text  # What is too large a number is a text for Kubernetes' tools.
    return text


class _Reader:
    """Builds the tree from events, without calling itself: depth costs no stack."""

    def __init__(self, may_alias: bool) -> None:
        self.read = Read()
        self._may_alias = may_alias
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._anchors = {}
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.CollectionStartEvent():
                self._open(event)
            case yaml.CollectionEndEvent():
                self._close(event)

    def _alias(self, event: Any) -> None:
        at = _position(event.start_mark)
        if not self._may_alias:
            raise Unreadable(Problem("syntax", "YAML aliases are not supported here: write the value out", at))
        target = self._anchors.get(event.anchor)
        if target is None:
            word = "a value that contains it" if event.anchor in self._anchors else "no anchor before it"
            raise Unreadable(Problem("syntax", f"the alias *{event.anchor} refers to {word}", at))
        target.is_alias_target = True
        if len(self._stack) + target.depth > MAX_DEPTH:
            raise Unreadable(Problem("limit", f"nested deeper than {MAX_DEPTH} levels", at))
        self._add(target, at)

    def _scalar(self, event: Any) -> None:
        at = _position(event.start_mark)
        node = Node(at, _position(event.end_mark), is_quoted=bool(event.style), text=event.value)
        try:
            node.value = _typed(event)
        except ValueError as err:
            self._complain(Problem("syntax", str(err), at))
            node.value = event.value
        if event.anchor:
            self._anchors[event.anchor] = node
        self._add(node, at)

    def _open(self, event: Any) -> None:
        at = _position(event.start_mark)
        if len(self._stack) >= MAX_DEPTH:
            raise Unreadable(Problem("limit", f"nested deeper than {MAX_DEPTH} levels", at))
        is_object = isinstance(event, yaml.MappingStartEvent)
        node = Node(at, at, is_flow=bool(event.flow_style))
        if is_object:
            node.entries = []
        else:
            node.items = []
        if event.anchor:
            self._anchors[event.anchor] = None
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            self._complain(Problem("syntax", f"the tag {event.tag} has no JSON form", at))
        self._stack.append(_Open(node, event.anchor))

    def _close(self, event: Any) -> None:
        done = self._stack.pop()
        node = done.node
        node.end = _position(event.end_mark)
        for source in done.merged:
            self._merge(node, source, done.seen)
        if done.anchor:
            self._anchors[done.anchor] = node
        self._add(node, node.start)

    def _merge(self, node: Node, source: Node, seen: dict[str, Position]) -> None:
        """Take over fields of another object that this one does not have itself."""
        assert node.entries is not None
        sources = source.items if source.items is not None else [source]
        for one in sources:
            if one.entries is None:
                self._complain(Problem("syntax", "a merge key (<<) takes an object or a list of objects", one.start))
                continue
            for entry in one.entries:
                if entry.key not in seen:
                    seen[entry.key] = entry.at
                    node.entries.append(entry)
                    node.size += entry.value.size
                    node.depth = max(node.depth, entry.value.depth + 1)
        self._check_size(node)

    def _add(self, node: Node, at: Position) -> None:
        """Put a finished value where it belongs."""
        self._nodes += 1
        if not self._stack:
            self._check_size(node)
            # An empty document is a null without any text.
            if not (node.entries is None and node.items is None and node.value is None):
                self.read.documents.append(node)
            return
        parent = self._stack[-1]
        around = parent.node
        if around.entries is not None and parent.key is None:
            parent.key = self._key(node, at)
            return
        around.size += node.size
        around.depth = max(around.depth, node.depth + 1)
        self._check_size(around)
        if around.items is not None:
            around.items.append(node)
            return
        assert around.entries is not None
        assert parent.key is not None
        name, name_at, is_merge = parent.key
        parent.key = None
        if is_merge:
            parent.merged.append(node)
        elif name in parent.seen:
            text = f'the key "{_short(name)}" is there twice, first on line {parent.seen[name].line}'
            self._complain(Problem("duplicate-key", text, name_at))
            for entry in around.entries:
                if entry.key == name:
                    entry.at, entry.value = name_at, node
        else:
            parent.seen[name] = name_at
            around.entries.append(Entry(name, name_at, node))

    def _key(self, node: Node, at: Position) -> tuple[str, Position, bool]:
        if node.entries is not None or node.items is not None:
            raise Unreadable(Problem("syntax", "a key of an object must be a string, not an object or a list", at))
        value = node.value
        if value == _MERGE and not node.is_quoted:
            return "", at, True
        if value is None:
            self._complain(Problem("syntax", "a key of an object must be a string, not null: quote it", at))
        if isinstance(value, bool):
            name = "true" if value else "false"
            if node.text != name:
                text = f"the key {node.text} without quotes means {name}: quote it"
                self._complain(Problem("syntax", text, at, is_error=False))
            return name, at, False
        return ("null" if value is None else str(value)), at, False

    def _check_size(self, node: Node) -> None:
        if node.size > MAX_NODES or self._nodes > MAX_NODES:
            why = f"more than {MAX_NODES} values, with aliases written out"
            raise Unreadable(Problem("limit", why, node.start))

    def _complain(self, problem: Problem) -> None:
        self.read.problems.append(problem)
        if len(self.read.problems) >= MAX_PROBLEMS:
            raise Unreadable(Problem("limit", f"more than {MAX_PROBLEMS} mistakes: the rest is not read", problem.at))


def _typed(event: Any) -> Any:
    """Return the value of a scalar. Raises `ValueError`."""
    text: str = event.value
    tag = event.tag
    if tag is None or tag == "!":
        return plain_value(text) if event.implicit[0] and tag is None else text
    kind = tag.removeprefix(_TAG)
    if kind == "str":
        return text
    value = plain_value(text)
    fits = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "null": value is None,
    }
    if kind not in fits or tag == kind:
        raise _Scalar(f"the tag {_short(tag)} has no JSON form")
    if not fits[kind]:
        raise _Scalar(f"{_short(text)!r} is no {kind}, as its tag says")
    return value


def _syntax(err: yaml.YAMLError) -> Problem:
    mark = getattr(err, "problem_mark", None) or getattr(err, "context_mark", None)
    at = Position(1, 1, 0) if mark is None else _position(mark)
    said = [str(part) for part in (getattr(err, "context", None), getattr(err, "problem", None)) if part]
    text = ": ".join(said) or str(err).splitlines()[0]
    if "nesting depth" in text:
        # libyaml reads ahead, and counts levels of its own before the events of ours have come.
        return Problem("limit", f"nested deeper than {MAX_DEPTH} levels", at)
    hint = "; indent with spaces" if "\\t" in repr(text) and "token" in text else ""
    return Problem("syntax", f"not valid YAML: {text}{hint}", at)


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1, mark.index)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:80] + "..."
