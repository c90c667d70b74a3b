"""Add the sidecar to manifests as text: what is there stays as it is written, comments included. Pure.

The text is changed at the places of its nodes, and the result is read again: where it does not say exactly what
`api.sidecar.injected` says (shared anchors, say), the text is written anew and its comments are lost.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pybrix.api.sidecar import DEFAULT_IMAGE, Insertion, injected, insertions
from pybrix.cluster.manifests import yamlwriting
from pybrix.cluster.manifests.nodes import Node, Step
from pybrix.cluster.manifests.reading import is_json, read_text

_DASH = re.compile(r"( *)- +")


@dataclass(frozen=True, slots=True)
class Injected:
    """A text with sidecars, and what happened to it."""

    text: str
    subjects: tuple[str, ...]
    """Objects that got sidecars, such as `Deployment/chat`."""
    is_rewritten: bool = False
    """Whether it was written anew, so that comments and formatting are lost."""


class _NotEditable(ValueError):
    """A place is written in a way that nothing can be put into it."""


@dataclass(frozen=True, slots=True)
class _Edit:
    """Text that goes to an offset. Of two at one offset the one of the deeper level comes first."""

    offset: int
    depth: int
    text: str


def to_yaml(documents: Iterable[Any]) -> str:
    """Return documents as one YAML stream."""
    return yamlwriting.to_yaml(documents, indent_lists=True)


def to_json(documents: Sequence[Any]) -> str:
    """Return one document as it is, several as a List."""
    body = documents[0] if len(documents) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    return json.dumps(body, indent=2) + "\n"


def inject_text(text: str, default_image: str = DEFAULT_IMAGE) -> Injected:
    """Return a text whose objects have the sidecars that they ask for.

    Args:
        text: one that is read without problems.
        default_image: of sidecars whose workload names none.
    """
    documents = read_text(text).documents
    wanted = [inject_document(node.to_value(), default_image) for node in documents]
    subjects = tuple(subject for _, found in wanted for subject in found)
    if not subjects:
        return Injected(text, ())
    values = [value for value, _ in wanted]
    try:
        edited = _applied(text, [edit for node in documents for edit in _edits(node, default_image, text)])
        read = read_text(edited)
        if not read.problems and [node.to_value() for node in read.documents] == values:
            return Injected(edited, subjects)
    except _NotEditable:
        pass  # What cannot be edited is written anew below.
    return Injected(to_json(values) if is_json(text) else to_yaml(values), subjects, is_rewritten=True)


def inject_document(document: Any, default_image: str) -> tuple[Any, tuple[str, ...]]:
    """Return a document with sidecars, and the objects that got one; lists are looked through."""
    if not isinstance(document, dict):
        return document, ()
    items = document.get("items")
    if _is_list(document.get("kind")) and isinstance(items, list):
        parts = [inject_document(item, default_image) for item in items]
        subjects = tuple(subject for _, found in parts for subject in found)
        return {**document, "items": [part for part, _ in parts]}, subjects
    if not insertions(document, default_image):
        return document, ()
    metadata = document.get("metadata")
    name = metadata.get("name") or metadata.get("generateName", "") if isinstance(metadata, dict) else ""
    return injected(document, default_image), (f"{document['kind']}/{name}",)


def _is_list(kind: Any) -> bool:
    return isinstance(kind, str) and kind.endswith("List")


def _edits(node: Node, default_image: str, text: str) -> list[_Edit]:
    if node.entries is None:
        return []
    items, kind = node.get("items"), node.get("kind")
    if items is not None and items.items is not None and kind is not None and _is_list(kind.value):
        return [edit for item in items.items for edit in _edits(item, default_image, text)]
    return [_edit(node, one, text) for one in insertions(node.to_value(), default_image)]


def _edit(root: Node, one: Insertion, text: str) -> _Edit:
    node = root
    for step in one.parent:
        node = _below(node, step)
    depth = len(one.parent)
    if node.is_flow:
        return _in_brackets(node, one, depth)
    newline = "\r\n" if "\r\n" in text else "\n"
    if isinstance(one.key, str):
        own = [entry for entry in node.entries or () if entry.at.offset >= node.start.offset]
        if not own:
            raise _NotEditable
        return _at_end(node, text, depth, _block({one.key: one.value}, own[0].at.column - 1, newline), newline)
    if not node.items:
        raise _NotEditable
    line = node.items[0].start.offset - node.items[0].start.column + 1
    dash = _DASH.fullmatch(text[line : node.items[0].start.offset])
    if dash is None:
        raise _NotEditable
    block = _block([one.value], len(dash.group(1)), newline)
    if one.key == 0:
        return _Edit(_above_comments(text, line), depth, block + newline)
    return _at_end(node, text, depth, block, newline)


def _below(node: Node, step: Step) -> Node:
    found = node.get(step) if isinstance(step, str) else (node.items or [])[step]
    if found is None:
        raise _NotEditable
    return found


def _in_brackets(node: Node, one: Insertion, depth: int) -> _Edit:
    written = json.dumps(one.value)
    if isinstance(one.key, str):
        written = f"{json.dumps(one.key)}: {written}"
    if one.key == 0:
        return _Edit(node.start.offset + 1, depth, f"{written}, " if node.items else written)
    return _Edit(node.end.offset - 1, depth, f", {written}" if node.items or node.entries else written)


def _at_end(node: Node, text: str, depth: int, block: str, newline: str) -> _Edit:
    """Return the edit that puts lines after the last line of a block."""
    end = _end(node)
    if end > 0 and text[end - 1] == "\n":
        # A text block ends where the next line begins.
        return _Edit(end, depth, block + newline)
    stop = text.find("\n", end)
    stop = len(text) if stop < 0 else stop - (text[stop - 1] == "\r")
    rest = text[end:stop].strip()
    if rest and not rest.startswith("#"):
        raise _NotEditable
    return _Edit(stop, depth, newline + block)


def _above_comments(text: str, line: int) -> int:
    """Return where the comments directly above a line begin: they belong to what follows them."""
    while line > 0:
        before = text.rfind("\n", 0, line - 1) + 1
        if not text[before:line].lstrip().startswith("#"):
            break
        line = before
    return line


def _end(node: Node) -> int:
    """Return the offset after the last character of a value."""
    while not node.is_flow:
        if node.items:
            below = node.items[-1]
        elif node.entries:
            last = max(node.entries, key=lambda entry: entry.at.offset)
            below = last.value
            if below.start.offset < last.at.offset:
                raise _NotEditable
        else:
            break
        if below.start.offset < node.start.offset:
            raise _NotEditable
        node = below
    return node.end.offset


def _block(value: Any, indent: int, newline: str) -> str:
    lines = textwrap.indent(to_yaml([value]).rstrip("\n"), " " * indent)
    return lines.replace("\n", newline)


def _applied(text: str, edits: Sequence[_Edit]) -> str:
    pieces: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda e: (e.offset, -e.depth)):
        pieces += [text[at : edit.offset], edit.text]
        at = edit.offset
    return "".join([*pieces, text[at:]])
