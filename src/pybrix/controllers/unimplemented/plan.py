"""Say of an object whose kind has no controller that nothing is made from it. Pure.

Nobody else's words are touched: an object whose status holds anything that this planner does not write belongs to
another controller (AIBrix's, say), and all that is written there is to take back what was said before that one came.
"""

from __future__ import annotations

import typing
from datetime import datetime
from typing import Any

import msgspec

from pybrix.api.conditions import RolloutCondition, StandardCondition
from pybrix.api.markers import CustomResource
from pybrix.api.meta import set_condition
from pybrix.api.structural import schema_of
from pybrix.base.clock import format_rfc3339
from pybrix.controllers.unsupported import CONDITION as UNSUPPORTED
from pybrix.controllers.unsupported import with_unsupported
from pybrix.runtime.actions import Emit, PatchStatus, Plan

READY = "Ready"
REASON = "NotImplemented"

_Conditions = list[StandardCondition] | list[RolloutCondition]


def sentence(kind: str) -> str:
    """Return what people read in the condition and the Event."""
    return f"pybrix has no controller for {kind} yet: the object is checked and stored, and nothing is made from it"


def plan(obj: CustomResource, now: datetime) -> Plan:
    """Return the status write that is missing, with an Event when it is the first; nothing when all is said."""
    if obj.metadata.is_terminating:
        return Plan()
    before = _wire(obj)
    if is_others(obj):
        return _written(obj, before, _retracted(before), f"another controller works on this {obj.gvk.kind}")
    why = sentence(obj.gvk.kind)
    written = _written(obj, before, _told(obj, before, format_rfc3339(now)), why)
    if _is_told(before):
        return written
    # After the write: if it fails, the next pass writes again and tells then.
    return Plan((*written.actions, Emit(obj, REASON, why, type="Warning")))


def _written(obj: CustomResource, before: dict[str, Any], after: dict[str, Any], why: str) -> Plan:
    names = sorted({*before, *after})
    difference = {name: after.get(name) for name in names if before.get(name) != after.get(name)}
    if not difference:
        return Plan()
    version = obj.metadata.resource_version
    return Plan((PatchStatus(type(obj), obj.key, difference, why, resource_version=version),))


def is_others(obj: CustomResource) -> bool:
    """Say whether somebody else writes the status."""
    status = _wire(obj)
    for name, value in status.items():
        if name == "conditions":
            if any(not _is_ours(condition) for condition in value):
                return True
        elif name != "observedGeneration" and value:
            return True
    return False


def _is_ours(condition: dict[str, Any]) -> bool:
    return condition["type"] == UNSUPPORTED or (condition["type"] == READY and condition.get("reason") == REASON)


def _is_told(status: dict[str, Any]) -> bool:
    return any(c["type"] == READY and _is_ours(c) for c in status.get("conditions", ()))


def _told(obj: CustomResource, before: dict[str, Any], now: str) -> dict[str, Any]:
    shape = _condition_shape(_status_class(type(obj)))
    conditions: list[Any] = list(_status(obj).conditions)
    ready = shape(
        type=READY,
        status="False",
        reason=REASON,
        message=sentence(obj.gvk.kind),
        observed_generation=obj.metadata.generation,
    )
    conditions = with_unsupported(set_condition(conditions, ready, now), shape, obj, now)
    told = {**_required(type(obj)), **before, "conditions": msgspec.to_builtins(conditions)}
    if obj.metadata.generation:
        told["observedGeneration"] = obj.metadata.generation
    return told


def _retracted(before: dict[str, Any]) -> dict[str, Any]:
    """Return the status without what was said here; other conditions stay as they are."""
    if not _is_told(before):
        return before
    kept = [condition for condition in before["conditions"] if not _is_ours(condition)]
    return {**before, "conditions": kept}


def _required(cls: type[CustomResource]) -> dict[str, int]:
    """Return the counts without which the API server refuses a status; nothing is made, so they are 0."""
    schema = schema_of(_status_class(cls))
    return {name: 0 for name in schema.get("required", ()) if schema["properties"][name]["type"] == "integer"}


def _status(obj: CustomResource) -> Any:
    return typing.cast(Any, obj).status


def _wire(obj: CustomResource) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(_status(obj))
    return built


def _status_class(cls: type[CustomResource]) -> Any:
    return typing.get_type_hints(cls)["status"]


def _condition_shape(status: Any) -> Any:
    """Return the class of the conditions of a status."""
    (shape,) = typing.get_args(typing.get_type_hints(status)["conditions"])
    return shape
