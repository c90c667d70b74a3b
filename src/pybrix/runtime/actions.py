"""What a planner may ask for. Each action says why; the why becomes the log line and, where it helps, the Event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object from its JSON-like form, so that template fields without a type here are kept.

    With `owner`, the object gets the owner's controller reference, and its namespace where it names none.
    """

    manifest: Mapping[str, Any]
    why: str
    owner: Object | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge-patch an object, as it was observed: a newer `resource_version` is a conflict and the next pass re-plans.

    An empty `resource_version` patches whatever is there.
    """

    cls: type[Object]
    key: ObjectKey
    patch: Mapping[str, Any]
    why: str
    resource_version: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class PatchStatus:
    """Replace the listed fields of `status`. `status` is the JSON-like difference; an empty one is never sent."""

    cls: type[Object]
    key: ObjectKey
    status: Mapping[str, Any]
    why: str
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly the object of this UID. `owner` is whose expectations wait for it to be gone.

    With `resource_version` only the object as it was seen: one that has changed since is a conflict.
    """

    cls: type[Object]
    key: ObjectKey
    uid: Uid
    why: str
    propagation: str = "Background"
    owner: Object | None = None
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Emit:
    """Record an Event about an object; `type` is Normal or Warning."""

    about: Object
    reason: str
    why: str
    type: str = "Normal"


Action = Create | Patch | PatchStatus | Delete | Emit


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in the order in which they are applied, and when to look again.

    `requeue_after_s` None means: only when something changes.
    """

    actions: tuple[Action, ...] = ()
    requeue_after_s: float | None = None
