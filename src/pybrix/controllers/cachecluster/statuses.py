"""Write a status where it differs. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from pybrix.api.markers import CustomResource
from pybrix.runtime.actions import Action, PatchStatus


def status_write(obj: CustomResource, before: Any, after: Any, why: str) -> list[Action]:
    """Return the write of what differs between two statuses, and nothing when nothing does."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    difference = {
        name: _replaced(old.get(name), new.get(name)) for name in sorted({*old, *new}) if old.get(name) != new.get(name)
    }
    if not difference:
        return []
    return [PatchStatus(type(obj), obj.key, difference, why, resource_version=obj.metadata.resource_version)]


def _replaced(old: Any, new: Any) -> Any:
    """Return what a merge patch has to say for a value: of a map, also which keys are no more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**{key: None for key in old if key not in new}, **new}
    return new
