"""Whether two JSON values are the same. Pure."""

from __future__ import annotations

from typing import Any


def is_same_json(left: Any, right: Any) -> bool:
    """Compare as JSON does: in Python true equals 1, alone and inside of lists and objects; in JSON it does not."""
    # Most values that differ do so for Python, too, which says so at once.
    return bool(left == right) and _is_same_kind(left, right)


def _is_same_kind(left: Any, right: Any) -> bool:
    """Say of values that are equal in Python whether they have their booleans in the same places."""
    if isinstance(left, dict):
        return all(_is_same_kind(part, right[name]) for name, part in left.items())
    if isinstance(left, list):
        return all(map(_is_same_kind, left, right))
    return isinstance(left, bool) == isinstance(right, bool)
