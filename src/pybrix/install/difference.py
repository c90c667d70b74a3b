"""What applying an object would change, as a unified diff. Pure."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping
from typing import Any

_KEPT_BY_SERVER = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")


def difference(
    live: Mapping[str, Any] | None, merged: Mapping[str, Any], to_text: Callable[[dict[str, Any]], str]
) -> str:
    """Return a unified diff from an object to what it would be; "" when they are equal.

    Args:
        live: None when it would be created.
        merged: what the server answers to a dry run.
        to_text: writes an object down.
    """
    before, after = _shown(live), _shown(merged)
    if before == after:
        return ""
    if before is not None and after is not None and merged.get("kind") == "Secret":
        _mask_both(before, after)
    elif after is not None and merged.get("kind") == "Secret":
        _mask_both({}, after)
    name = describe(merged)
    lines = difflib.unified_diff(
        to_text(before).splitlines(keepends=True) if before is not None else [],
        to_text(after or {}).splitlines(keepends=True),
        f"live/{name}",
        f"merged/{name}",
    )
    return "".join(lines)


def describe(obj: Mapping[str, Any]) -> str:
    """Return kind, namespace and name as one path."""
    metadata = obj["metadata"]
    return "/".join(part for part in (obj["kind"], metadata.get("namespace"), metadata["name"]) if part)


def _shown(obj: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the object without what no manifest says."""
    if obj is None:
        return None
    found = copy.deepcopy(dict(obj))
    found.pop("status", None)
    for name in _KEPT_BY_SERVER:
        found["metadata"].pop(name, None)
    in_order: dict[str, Any] = _sorted(found)
    return in_order


def _sorted(value: Any) -> Any:
    """Return the value with the keys of its maps in order, since their order means nothing."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _mask_both(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Hide the values of a Secret; whether one changes stays visible."""
    old, new = before.get("data") or {}, after.get("data") or {}
    for key in {*old, *new}:
        is_changed = key in old and key in new and old[key] != new[key]
        if key in old:
            old[key] = "*** (before)" if is_changed else "***"
        if key in new:
            new[key] = "*** (after)" if is_changed else "***"
