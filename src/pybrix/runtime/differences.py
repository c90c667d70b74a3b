"""What of a status changed, as a merge patch. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from pybrix.api.meta import Wire


def status_difference(old: Wire, new: Wire) -> dict[str, Any]:
    """Return the fields of `new` that differ from `old`; a field that is now unset maps to None."""
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return {name: after.get(name) for name in sorted({*before, *after}) if before.get(name) != after.get(name)}
