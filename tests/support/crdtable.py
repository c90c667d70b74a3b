"""The table of fields that AIBrix's definitions have, and how ours compares to it field by field."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent.parent / "data" / "crd-fields.tsv"
_PASSED_ON = {"core ref/env", "LabelSelector", "PodSpec", "ResourceRequirements", "ray.io/v1 RayClusterSpec"}
_LOWER_BOUNDS = ("minimum", "minLength", "minItems", "minProperties")
_UPPER_BOUNDS = ("maximum", "maxLength", "maxItems", "maxProperties")
_KEYWORDS = (
    *_LOWER_BOUNDS,
    *_UPPER_BOUNDS,
    "enum",
    "pattern",
    "format",
    "default",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `path` starts with # for facts about the whole definition."""

    kind: str
    path: str
    type: str
    required: str
    constraints: dict[str, Any]
    text: str


def rows() -> list[Row]:
    found = []
    with TABLE.open(newline="") as file:
        for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            kind, path = line["kind"].split(".")[0], line["path"]
            constraints = {} if path.startswith("#") else _constraints(line["constraints"])
            found.append(Row(kind, path, line["type"], line["required"].strip(), constraints, line["constraints"]))
    return found


def _constraints(text: str) -> dict[str, Any]:
    found, at = {}, 0
    for match in re.finditer(r"([\w-]+)=", text):
        if match.start() >= at:
            found[match[1]], at = json.JSONDecoder().raw_decode(text, match.end())
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """A node of a schema, and whether its parent requires it."""

    schema: dict[str, Any]
    is_required: bool


def find(schema: dict[str, Any], path: str) -> Found | None:
    """Return the node at a path of the table: `[]` steps into items, `{}` into values."""
    node, is_required = schema, False
    for name, inner in re.findall(r"([^.\[{]+)((?:\[\]|\{\})*)", path):
        if name == "*":
            return Found(node, False) if node.get("x-kubernetes-preserve-unknown-fields") else None
        if name not in node.get("properties", {}):
            return None
        is_required = name in node.get("required", ())
        node = node["properties"][name]
        for mark in re.findall(r"\[\]|\{\}", inner):
            node = node.get("items" if mark == "[]" else "additionalProperties", {})
            is_required = False
    return Found(node, is_required)


def paths(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the path of every property, items and values, in the table's spelling."""
    for name, node in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        yield path
        while True:
            if "items" in node:
                path, node = f"{path}[]", node["items"]
            elif "additionalProperties" in node:
                path, node = f"{path}{{}}", node["additionalProperties"]
            else:
                break
            yield path
        yield from paths(node, path)


def type_of(schema: dict[str, Any]) -> str:
    return "int-or-string" if schema.get("x-kubernetes-int-or-string") else str(schema.get("type", ""))


@dataclass(frozen=True, slots=True)
class Difference:
    """`keyword` is a schema keyword, or `required`, `missing`, `type`."""

    path: str
    keyword: str
    is_narrower: bool

    def __str__(self) -> str:
        return f"{self.path} {self.keyword}"


def differences(row: Row, schema: dict[str, Any]) -> Iterator[Difference]:
    """Yield where our schema differs from a row, in either direction."""
    found = find(schema, row.path)
    where = f"{row.kind}:{row.path}"
    if found is None:
        yield Difference(where, "missing", is_narrower=True)
        return
    if row.type not in _PASSED_ON and row.type != type_of(found.schema):
        yield Difference(where, "type", is_narrower=True)
    if row.required in ("req", "opt") and found.is_required != (row.required == "req"):
        yield Difference(where, "required", is_narrower=found.is_required)
    if row.type in _PASSED_ON:
        return
    for keyword in _KEYWORDS:
        theirs, ours = row.constraints.get(keyword), found.schema.get(keyword)
        if theirs != ours and not (keyword == "format" and theirs is None):
            yield Difference(where, keyword, is_narrower=_is_narrower(keyword, theirs, ours))


def _is_narrower(keyword: str, theirs: Any, ours: Any) -> bool:
    if keyword == "default":
        return False
    if ours is None:
        return keyword == "default"
    if theirs is None:
        return bool(ours != "atomic")
    if keyword in _LOWER_BOUNDS:
        return bool(ours > theirs)
    if keyword in _UPPER_BOUNDS:
        return bool(ours < theirs)
    if keyword == "enum":
        return not set(theirs) <= set(ours)
    return True
