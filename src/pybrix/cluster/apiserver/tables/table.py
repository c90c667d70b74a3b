"""`meta.k8s.io` Tables: what a server returns when a client asks for columns rather than objects. Pure.

https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.tables.ages import age
from pybrix.cluster.apiserver.tables.cells import Column, Layout
from pybrix.cluster.apiserver.tables.columns import LAYOUTS, PLAIN
from pybrix.cluster.apiserver.tables.jsonpath import BadPath, find

Data = dict[str, Any]
INCLUDES = ("None", "Metadata", "Object")


def layout_of(served: ResourceType) -> Layout:
    """Return the columns of a resource: its own, those of its definition, or name and age."""
    if not served.is_custom:
        return LAYOUTS.get(served.storage, PLAIN)
    if not served.printer_columns:
        return PLAIN
    described = [
        Column(
            str(c["name"]),
            str(c["type"]),
            int(c.get("priority", 0)),
            str(c.get("format", "")),
            str(c.get("description", "")),
        )
        for c in served.printer_columns
    ]

    def cells(data: Data, now: datetime) -> list[Any]:
        return [
            data["metadata"].get("name", ""),
            *(_cell(find_all(str(c["jsonPath"]), data), str(c["type"]), now) for c in served.printer_columns),
        ]

    return Layout((Column("Name", format="name"), *described), cells)


def find_all(path: str, data: Data) -> list[Any]:
    """Return the values at a printer column's path; a path that cannot be read shows nothing."""
    try:
        return find(path, data)
    except BadPath:
        return []


def _cell(found: list[Any], kind: str, now: datetime) -> Any:
    if not found or found[0] is None:
        return None
    if kind == "date":
        return age(found[0], now)
    if kind == "string":
        return " ".join(_text(value) for value in found)
    value = found[0]
    if kind == "integer":
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind == "number":
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def print_table(
    served: ResourceType, objects: Iterable[Data], now: datetime, *, include: str, version: str, metadata: Data
) -> Data:
    """Return a Table.

    Args:
        served: whose columns.
        objects: one row each.
        now: for ages.
        include: None, Metadata or Object: what of the object goes with its row.
        version: of the meta.k8s.io API, as asked for.
        metadata: of the list: its resourceVersion and continue token.
    """
    layout = layout_of(served)
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": column.description or column.name,
                "priority": column.priority,
            }
            for column in layout.columns
        ],
        "rows": [
            {"cells": layout.cells(data, now), "object": _included(data, include, version)}
            if include != "None"
            else {"cells": layout.cells(data, now)}
            for data in objects
        ],
    }


def _included(data: Data, include: str, version: str) -> Data:
    if include == "Object":
        return data
    return partial_metadata(data, version)


def partial_metadata(data: Data, version: str = "v1") -> Data:
    """Return an object's metadata as `PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": data["metadata"]}
