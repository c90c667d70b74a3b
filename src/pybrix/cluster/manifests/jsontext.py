"""Read JSON into nodes: one value, or several one after another. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from pybrix.cluster.manifests.nodes import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROBLEMS,
    Entry,
    Lines,
    Node,
    Position,
    Problem,
    Read,
    Unreadable,
    number_value,
)

_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR_STARTS = frozenset('"-0123456789tfn')


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(parse_int=number_value, parse_float=number_value, parse_constant=_no_constant)


def read_json(text: str) -> Read:
    """Read every value of a text, as far as it is JSON."""
    reader = _Reader(text)
    try:
        reader.run()
    except Unreadable as err:
        reader.read.problems.append(err.problem)
    return reader.read


@dataclass(slots=True)
class _Open:
    """A collection that is being read, and of an object the field whose value comes next."""

    node: Node
    entry: Entry | None = None
    seen: dict[str, Entry] = field(default_factory=dict)


class _Reader:
    """Reads without calling itself: depth costs no stack."""

    def __init__(self, text: str) -> None:
        self.read = Read()
        self._text = text
        self._lines = Lines(text)
        self._at = 0
        self._nodes = 0

    def run(self) -> None:
        while not self._at_end():
            self.read.documents.append(self._document())

    def _document(self) -> Node:
        stack: list[_Open] = []
        while True:
            node = self._begin(len(stack))
            is_open = (node.entries is not None or node.items is not None) and not self._closes(node)
            if is_open:
                stack.append(_Open(node))
                self._name(stack[-1])
                continue
            # Everything that ends here is put into what is around it.
            while stack:
                around = stack[-1]
                _put(node, around)
                if self._skip() == ",":
                    self._at += 1
                    self._name(around)
                    break
                if not self._closes(around.node):
                    raise self._error(f"expected , or {'}' if around.node.entries is not None else ']'}")
                node = stack.pop().node
            else:
                return node

    def _begin(self, depth: int) -> Node:
        """Read a scalar or the bracket that opens a collection."""
        mark = self._skip()
        start = self._lines.position(self._at)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Unreadable(Problem("limit", f"more than {MAX_NODES} values", start))
        if mark in ("{", "["):
            if depth >= MAX_DEPTH:
                raise Unreadable(Problem("limit", f"nested deeper than {MAX_DEPTH} levels", start))
            self._at += 1
            node = Node(start, start, is_flow=True)
            if mark == "{":
                node.entries = []
            else:
                node.items = []
            return node
        value = self._scalar()
        return Node(start, self._lines.position(self._at), value, is_quoted=mark == '"')

    def _scalar(self) -> Any:
        mark = self._skip()
        if mark not in _SCALAR_STARTS:
            raise self._error("expected a value" if mark else "the text ends in the middle of a value")
        try:
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError as err:
            self._at = min(err.pos, len(self._text))
            raise self._error(err.msg) from err
        except ValueError as err:
            raise self._error(str(err)) from err
        if isinstance(value, str) and not _is_text(value):
            raise self._error("a string has half of a surrogate pair")
        return value

    def _name(self, around: _Open) -> None:
        """Read the name of an object's next field and the colon."""
        entries = around.node.entries
        if entries is None:
            return
        if self._skip() != '"':
            raise self._error("expected the name of a field in double quotes")
        at = self._lines.position(self._at)
        name = str(self._scalar())
        if self._skip() != ":":
            raise self._error(f"expected : after the name {name[:80]!r}")
        self._at += 1
        entry = around.seen.get(name)
        if entry is None:
            entry = around.seen[name] = Entry(name, at, around.node)
            entries.append(entry)
        else:
            self._complain_twice(name, entry.at, at)
            entry.at = at
        around.entry = entry

    def _complain_twice(self, name: str, first: Position, at: Position) -> None:
        text = f'the key "{name[:80]}" is there twice, first on line {first.line}'
        self.read.problems.append(Problem("duplicate-key", text, at))
        if len(self.read.problems) >= MAX_PROBLEMS:
            raise Unreadable(Problem("limit", f"more than {MAX_PROBLEMS} mistakes: the rest is not read", at))

    def _closes(self, node: Node) -> bool:
        """Take the closing bracket of a collection, if it is next."""
        if self._skip() != ("}" if node.entries is not None else "]"):
            return False
        self._at += 1
        node.end = self._lines.position(self._at)
        return True

    def _skip(self) -> str:
        """Pass over space; return the next character, empty at the end."""
        found = _SPACE.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return self._text[self._at : self._at + 1]

    def _at_end(self) -> bool:
        return not self._skip()

    def _error(self, what: str) -> Unreadable:
        at = self._lines.position(min(self._at, len(self._text)))
        return Unreadable(Problem("syntax", f"not valid JSON: {what}", at))


def _put(node: Node, around: _Open) -> None:
    around.node.size += node.size
    around.node.depth = max(around.node.depth, node.depth + 1)
    if around.entry is not None:
        around.entry.value = node
    elif around.node.items is not None:
        around.node.items.append(node)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
