"""Lay what people write of a pod over a pod template that is built. Pure.

Maps are merged, lists of things with a name or a mount path are merged by it, other lists are replaced: what a
strategic merge patch does with the fields that pod templates have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KEYS: Mapping[str, tuple[str, ...]] = {
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "protocol"),
    "imagePullSecrets": ("name",),
}
_BY_NAME = frozenset({"containers", "initContainers", "volumes", "env"})
_ADDED = frozenset({"tolerations", "topologySpreadConstraints", "envFrom"})
"""Lists whose items have no key: both are kept."""


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with everything that lies over it."""
    merged = dict(base)
    for key, value in over.items():
        there = merged.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            merged[key] = overlay(there, value)
        elif isinstance(value, list) and isinstance(there, list):
            merged[key] = _merge_list(key, there, value)
        else:
            merged[key] = value
    return merged


def _merge_list(key: str, base: Sequence[Any], over: Sequence[Any]) -> list[Any]:
    if key in _ADDED:
        return [*base, *(item for item in over if item not in base)]
    names = ("name",) if key in _BY_NAME else _KEYS.get(key)
    if names is None:
        return list(over)

    def name_of(item: Any) -> tuple[Any, ...]:
        return tuple(item.get(name, "TCP" if name == "protocol" else None) for name in names)

    merged = {name_of(item): item for item in base}
    for item in over:
        name = name_of(item)
        there = merged.get(name)
        # A variable has one source: `value` and `valueFrom` exclude each other.
        merged[name] = overlay(there, item) if there is not None and key != "env" else item
    return list(merged.values())
