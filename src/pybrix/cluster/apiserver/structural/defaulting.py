"""Fill in the defaults of a schema. Pure.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting
"""

from __future__ import annotations

from typing import Any

from pybrix.cluster.apiserver.structural.pruning import fresh
from pybrix.cluster.apiserver.structural.schema import ABSENT, Node


def apply_defaults(value: Any, node: Node) -> None:
    """Set what is absent, in place; a null where null is not allowed counts as absent."""
    if isinstance(value, dict):
        for key, below in node.properties.items():
            if below.default is not ABSENT and (key not in value or (value[key] is None and not below.is_nullable)):
                value[key] = fresh(below.default)
            if value.get(key) is not None:
                apply_defaults(value[key], below)
        for key in [k for k, v in value.items() if v is None]:
            described = node.below(key)
            if described is not None and not described.is_nullable:
                if described.default is ABSENT:
                    del value[key]
                else:
                    value[key] = fresh(described.default)
        if node.additional is not None:
            for key, part in value.items():
                if key not in node.properties:
                    apply_defaults(part, node.additional)
    elif isinstance(value, list) and node.items is not None:
        for index, part in enumerate(value):
            if part is None and not node.items.is_nullable and node.items.default is not ABSENT:
                value[index] = fresh(node.items.default)
            apply_defaults(value[index], node.items)
