"""Decide how a namespace that is being deleted gets empty, and when it may go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Condition, set_condition
from pybrix.base.clock import format_rfc3339

FINALIZER = "kubernetes"


@dataclass(frozen=True, slots=True)
class Item:
    """An object in the namespace."""

    resource: str
    key: ObjectKey
    uid: Uid
    is_terminating: bool = False
    finalizers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """A namespace and everything in it."""

    name: str
    is_terminating: bool
    finalizers: tuple[str, ...]
    """`spec.finalizers`: it goes when they are gone."""
    conditions: tuple[Condition, ...] = ()
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order. `conditions` None: they are right as they are."""

    remove: tuple[Item, ...] = ()
    conditions: tuple[Condition, ...] | None = None
    is_done: bool = False
    """Whether the namespace is empty and its finalizer comes off."""


def plan(seen: Observed, now: datetime) -> Plan:
    """Delete all that is in the namespace; when nothing is left, let it go.

    What is ending or held by a finalizer is waited for, and told in conditions as upstream's.
    """
    if not seen.is_terminating or FINALIZER not in seen.finalizers:
        return Plan()
    if not seen.items:
        return Plan(is_done=True)
    conditions = list(seen.conditions)
    for condition in _remaining(seen):
        conditions = set_condition(conditions, condition, format_rfc3339(now))
    return Plan(
        remove=tuple(item for item in seen.items if not item.is_terminating),
        conditions=tuple(conditions) if conditions != list(seen.conditions) else None,
    )


def _remaining(seen: Observed) -> tuple[Condition, ...]:
    resources = Counter(item.resource for item in seen.items)
    finalizers = Counter(finalizer for item in seen.items for finalizer in item.finalizers)
    content = ", ".join(f"{name} has {n} resource instances" for name, n in sorted(resources.items()))
    holders = ", ".join(f"{name} in {n} resource instances" for name, n in sorted(finalizers.items()))
    return (
        Condition(
            type="NamespaceContentRemaining",
            status="True",
            reason="SomeResourcesRemain",
            message=f"Some resources are remaining: {content}",
        ),
        Condition(
            type="NamespaceFinalizersRemaining",
            status="True" if holders else "False",
            reason="SomeFinalizersRemain" if holders else "ContentHasNoFinalizers",
            message=f"Some content in the namespace has finalizers remaining: {holders}"
            if holders
            else "All content-preserving finalizers finished",
        ),
    )


def read_item(resource: str, data: Mapping[str, Any]) -> Item:
    """Read a stored object of any kind."""
    metadata = data["metadata"]
    return Item(
        resource=resource,
        key=ObjectKey(metadata["namespace"], metadata["name"]),
        uid=Uid(metadata["uid"]),
        is_terminating=bool(metadata.get("deletionTimestamp")),
        finalizers=tuple(metadata.get("finalizers") or ()),
    )


def observe(namespace: Mapping[str, Any], items: tuple[Item, ...]) -> Observed:
    """Read a stored namespace."""
    status = namespace.get("status") or {}
    return Observed(
        name=namespace["metadata"]["name"],
        is_terminating=bool(namespace["metadata"].get("deletionTimestamp")),
        finalizers=tuple((namespace.get("spec") or {}).get("finalizers") or ()),
        conditions=tuple(msgspec.convert(status.get("conditions") or [], list[Condition])),
        items=items,
    )
