"""A manifest as a tree that knows where each value stands in the text. Pure.

The tree is what YAML and JSON have in common. Aliases are the nodes that they refer to, so a small text can stand for
a large object: `size` counts what would be written out, and readers refuse what passes the limits.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_TEXT_BYTES = 8 * 1024 * 1024
"""Of a file. A server takes objects of 1.5 MiB, and a file may hold several."""
MAX_NODES = 200_000
"""Values in a file with its aliases written out."""
MAX_DEPTH = 200
"""Levels of a value; a server takes 100, and says where they are."""
MAX_PROBLEMS = 100
"""Problems of the text itself that are reported; a file of nothing else gets no longer report."""

_BOUNDARY = re.compile(r"[.\[]")
_CLOSING = re.compile(r"\](?=[.\[]|$)")
_INDEX = re.compile(r"[0-9]{1,9}")
Step = str | int
"""A key of an object or an index of a list."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text; line and column count from 1, the offset in characters from 0."""

    line: int
    column: int
    offset: int


@dataclass(slots=True, eq=False)
class Node:
    """One value. `entries` belongs to objects, `items` to lists, `value` to everything else."""

    start: Position
    end: Position
    value: Any = None
    entries: list[Entry] | None = None
    items: list[Node] | None = None
    size: int = 1
    depth: int = 0
    is_flow: bool = False
    """Whether an object or a list is written with brackets."""
    is_quoted: bool = False
    text: str = ""
    """Of a scalar in YAML, how it is written, without quotes."""
    is_alias_target: bool = False
    """Whether the text refers to this value from elsewhere: what changes here changes there."""
    _named: dict[str, Entry] | None = None

    def get(self, key: str) -> Node | None:
        """Return the value of a key; None where there is none."""
        entry = self.named().get(key)
        return None if entry is None else entry.value

    def to_value(self) -> Any:
        """Return the JSON value, a copy that belongs to the caller."""
        if self.entries is not None:
            return {entry.key: entry.value.to_value() for entry in self.entries}
        if self.items is not None:
            return [item.to_value() for item in self.items]
        return self.value

    def named(self) -> dict[str, Entry]:
        """Return the fields of an object by their names."""
        if self._named is None or len(self._named) != len(self.entries or ()):
            self._named = {entry.key: entry for entry in self.entries or ()}
        return self._named


@dataclass(slots=True, eq=False)
class Entry:
    """A field of an object, with the place of its name."""

    key: str
    at: Position
    value: Node


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a text, before anybody asks what the object means."""

    rule: str
    message: str
    at: Position
    is_error: bool = True
    """Whether the text is wrong, and not only misleading."""


class Unreadable(ValueError):
    """A text cannot be read any further."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class Read:
    """The documents of a text as far as it could be read, and what is wrong with it."""

    documents: list[Node] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Lines:
    """Turns offsets into positions."""

    def __init__(self, text: str) -> None:
        self._starts = [0]
        at = text.find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = text.find("\n", at + 1)

    def position(self, offset: int) -> Position:
        line = bisect.bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1, offset)


def number_value(text: str) -> int | float:
    """Return a decimal number as JSON carries it: an integer where it is one, floating where 64 bits do not hold it.

    Raises:
        ValueError: it is no number, or infinite.
    """
    if len(text) <= 20 and text.lstrip("+-").isdigit():
        whole = int(text)
        if -(2**63) <= whole < 2**64:
            return whole
    real = float(text)
    if not math.isfinite(real):
        raise ValueError(f"{text[:40]} is too large a number")
    return int(real) if real.is_integer() and abs(real) < 2**53 else real


@dataclass(frozen=True, slots=True)
class Place:
    """What of a path is in a text: the deepest value of it that is there."""

    steps: tuple[Step, ...]
    node: Node
    name_at: Position
    """Of the field's name; of an item, of the item."""
    is_exact: bool
    """Whether this is what the path names, and not something around it."""

    @property
    def at(self) -> Position:
        """Where a reader should look: at a scalar or an item itself, else at the name of the field."""
        is_plain = self.node.entries is None and self.node.items is None
        written_before = self.node.start < self.name_at
        return self.node.start if self.is_exact and is_plain and not written_before else self.name_at


def locate(root: Node, path: str) -> Place:
    """Find what a field path names, such as `spec.ports[0].name` or `metadata.annotations[a.b/c]`.

    Names may have dots in them and messages spell them in several ways, so the text decides: at each level the longest
    name that is there.
    """
    node, name_at = root, root.start
    steps: list[Step] = []
    rest = path
    while rest:
        found = max(_candidates(node, rest), key=lambda c: len(c[0]), default=None)
        if found is None:
            return Place(tuple(steps), node, name_at, is_exact=False)
        taken, step, node, name_at = found
        steps.append(step)
        rest = rest[len(taken) :]
    return Place(tuple(steps), node, name_at, is_exact=True)


def _candidates(node: Node, rest: str) -> Iterator[tuple[str, Step, Node, Position]]:
    """Yield (text of the path, step, value, place of the name) of every part that the path may go on with."""
    names = node.named() if node.entries else {}
    if names:
        dot = rest.startswith(".")
        for end in _ends(rest, int(dot)):
            entry = names.get(rest[int(dot) : end])
            if entry is not None:
                yield rest[:end], entry.key, entry.value, entry.at
    if not rest.startswith("["):
        return
    for found in _CLOSING.finditer(rest):
        inner, taken = rest[1 : found.start()], rest[: found.end()]
        entry = names.get(inner)
        if entry is None and names and inner.endswith("..."):
            entry = next((e for key, e in names.items() if key.startswith(inner[:-3])), None)
        if entry is not None:
            yield taken, entry.key, entry.value, entry.at
        elif node.items is not None and _INDEX.fullmatch(inner) and int(inner) < len(node.items):
            item = node.items[int(inner)]
            yield taken, int(inner), item, item.start


def _ends(rest: str, start: int) -> Iterator[int]:
    """Yield where a name that begins at `start` may end."""
    for found in _BOUNDARY.finditer(rest, start):
        yield found.start()
    yield len(rest)
