"""Columns, and cells that rows of several kinds have. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pybrix.cluster.apiserver.tables.ages import age

Data = dict[str, Any]
Cells = Callable[[Data, datetime], list[Any]]
NONE = "<none>"
_SHOWN_ENDPOINTS = 3


@dataclass(frozen=True, slots=True)
class Column:
    """`priority` 0 is always shown, 1 with `-o wide`."""

    name: str
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    columns: tuple[Column, ...]
    cells: Cells


def columns(shown: str, wide: str = "") -> tuple[Column, ...]:
    names = [(name, 0) for name in shown.split("|")] + [(name, 1) for name in wide.split("|") if name]
    return tuple(Column(name, priority=priority, format="name" if name == "Name" else "") for name, priority in names)


def name_of(data: Data) -> str:
    return str(data["metadata"].get("name", ""))


def age_of(data: Data, now: datetime) -> str:
    return age(data["metadata"].get("creationTimestamp"), now)


def print_labels(labels: dict[str, str] | None) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted((labels or {}).items())) or NONE


def print_selector(selector: Data | None) -> str:
    if not selector:
        return NONE
    terms = [f"{k}={v}" for k, v in sorted(selector.get("matchLabels", {}).items())]
    for e in selector.get("matchExpressions", ()):
        values = ",".join(sorted(e.get("values", ())))
        match e.get("operator"):
            case "In":
                terms.append(f"{e['key']} in ({values})")
            case "NotIn":
                terms.append(f"{e['key']} notin ({values})")
            case "Exists":
                terms.append(e["key"])
            case "DoesNotExist":
                terms.append(f"!{e['key']}")
    return ",".join(terms) or NONE


def container_cells(data: Data) -> tuple[str, str]:
    containers = data.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return ",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)


def shorten(values: list[str]) -> str:
    text = ",".join(values[:_SHOWN_ENDPOINTS])
    more = len(values) - _SHOWN_ENDPOINTS
    return f"{text} + {more} more..." if more > 0 else text
