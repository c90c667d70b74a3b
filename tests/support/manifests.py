"""The manifests of `examples/kinds`, changed copies of them, and what the API server would say to them."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

from pybrix.api.crds import root_schema
from pybrix.api.scheme import CUSTOM_KINDS
from pybrix.cluster.apiserver.failures import Cause
from pybrix.cluster.apiserver.structural.custom import CustomSchema

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "kinds"
DROP: Any = object()
"""As a value for `changed`: take the field away."""


def example(kind: str) -> dict[str, Any]:
    """Return a fresh copy of the example of a kind."""
    loaded: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{kind.lower()}.yaml").read_text())
    return loaded


def changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with other values at some paths; numbers in a path are indexes, `~` stands for a dot in a name."""
    built = copy.deepcopy(document)
    for path, value in changes.items():
        *parents, last = (part.replace("~", ".") for part in path.split("."))
        node: Any = built
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if value is DROP:
            del node[last]
        elif isinstance(node, list):
            node[int(last) :] = [value]
        else:
            node[last] = value
    return built


@functools.cache
def custom_schema(kind: str) -> CustomSchema:
    return CustomSchema(root_schema(next(cls for cls in CUSTOM_KINDS if cls.gvk.kind == kind)))


def admit(document: dict[str, Any], old: dict[str, Any] | None = None) -> list[Cause]:
    """Return what the server finds wrong, unknown fields included."""
    schema = custom_schema(document["kind"])
    built = copy.deepcopy(document)
    unknown = [Cause(path, "unknown field") for path in schema.prune(built)]
    before = None if old is None else schema.defaulted(old)
    return unknown + schema.check(schema.defaulted(built), before)
