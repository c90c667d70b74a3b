"""JSON merge patches (RFC 7386): apply one, and find the one that leads from one document to another. Pure.

Writes go out as differences because a decoded object lacks the fields that pybrix has no type for.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def apply_merge_patch(doc: Any, patch: Any) -> Any:
    """Return `doc` with `patch` merged in: None removes a key, a non-object replaces. Neither argument is modified."""
    return copy.deepcopy(merge_patched(doc, patch))


def merge_patched(doc: Any, patch: Any) -> Any:
    """Do as `apply_merge_patch`, but share with the arguments what is the same: for who changes nothing in place."""
    if not isinstance(patch, Mapping):
        return patch
    base = doc if isinstance(doc, Mapping) else {}
    merged = {key: value for key, value in base.items() if key not in patch}
    for key, change in patch.items():
        if change is not None:
            merged[key] = merge_patched(base.get(key), change)
    return merged


def diff_merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the smallest patch that turns `before` into `after`; `{}` when they are equal.

    Lists are replaced whole. A None inside `after` cannot be expressed (a merge patch reads it as "remove") and counts
    as an absent key, which is how Kubernetes treats it too.
    """
    patch: dict[str, Any] = {key: None for key in before if after.get(key) is None}
    for key, new in after.items():
        if new is None:
            continue
        old = before.get(key)
        if isinstance(new, Mapping):
            # Against a non-object the patch must hold the whole new object, an empty one included.
            nested = diff_merge_patch(old if isinstance(old, Mapping) else {}, new)
            if nested or not isinstance(old, Mapping):
                patch[key] = nested
        elif key not in before or not _same(old, new):
            patch[key] = copy.deepcopy(new)
    return patch


def _same(old: Any, new: Any) -> bool:
    """Compare as JSON does: `True` is not 1."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    return bool(old == new)
