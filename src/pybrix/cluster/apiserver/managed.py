"""`metadata.managedFields`: who last set which field, and what that means for updates and server-side apply. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pybrix.cluster.apiserver import fieldsets
from pybrix.cluster.apiserver.equality import is_same_json
from pybrix.cluster.apiserver.fieldsets import FieldSet
from pybrix.cluster.apiserver.schema.decode import WrongType, decode_struct
from pybrix.cluster.apiserver.schema.shape import Field, Shape

APPLY = "Apply"
UPDATE = "Update"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Fields that the server owns or that identify the object belong to nobody.
_UNMANAGED = frozenset(
    {
        "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Manager:
    """Who writes, and through which door."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class FieldConflict:
    """A field that an applied configuration changes while another manager owns it."""

    manager: Manager
    path: str


@dataclass(frozen=True, slots=True)
class Applied:
    """Outcome of an apply: the merged object without `managedFields`, the new owners, and the conflicts found."""

    data: dict[str, Any]
    owners: dict[Manager, FieldSet]
    conflicts: tuple[FieldConflict, ...]


def managed_part(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an object whose fields have owners."""
    part = {k: v for k, v in data.items() if k not in ("apiVersion", "kind", "metadata")}
    metadata = data.get("metadata")
    if isinstance(metadata, dict):
        kept = {k: v for k, v in metadata.items() if k not in _UNMANAGED}
        if kept:
            part["metadata"] = kept
    return part


def parse_owners(entries: Any) -> dict[Manager, FieldSet]:
    """Read the `managedFields` of a stored object; the sets are its own, so nobody changes them in place."""
    owners: dict[Manager, FieldSet] = {}
    for entry in entries if isinstance(entries, list) else ():
        manager = Manager(
            str(entry.get("manager", "")),
            str(entry.get("operation", "")),
            str(entry.get("apiVersion", "")),
            str(entry.get("subresource", "")),
        )
        owners[manager] = entry.get("fieldsV1") or {}
    return owners


def print_owners(
    owners: Mapping[Manager, FieldSet], before: Sequence[Mapping[str, Any]], now: str
) -> list[dict[str, Any]]:
    """Write `managedFields`; an entry whose fields did not change keeps its time.

    The order does not depend on who wrote last, so that to apply the same again changes nothing.
    Source: `structured-merge-diff`'s `sortEncodedManagedFields`.
    """
    known = {(e.get("manager"), e.get("operation"), e.get("apiVersion"), e.get("subresource", "")): e for e in before}
    entries: list[dict[str, Any]] = []
    for manager, fields in owners.items():
        if not fields:
            continue
        old = known.get((manager.name, manager.operation, manager.api_version, manager.subresource))
        entry: dict[str, Any] = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": old["time"] if old is not None and old.get("fieldsV1") == fields and "time" in old else now,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        if manager.subresource:
            entry["subresource"] = manager.subresource
        entries.append(entry)
    parts = ("operation", "time", "manager", "apiVersion", "subresource")
    return sorted(entries, key=lambda entry: [entry.get(part, "") for part in parts])


def own_update(
    owners: Mapping[Manager, FieldSet], old: Mapping[str, Any] | None, new: Mapping[str, Any], by: Manager, shape: Shape
) -> dict[Manager, FieldSet]:
    """Return the owners after a create, update or patch: what changed belongs to the writer alone."""
    root = Field("", shape)
    if old is None:
        return {by: fieldsets.fields_of(managed_part(new), root)}
    before, after = managed_part(old), managed_part(new)
    if is_same_json(before, after):
        return dict(owners)
    changed, removed = fieldsets.changed_fields(before, after, root)
    touched = fieldsets.union(changed, removed)
    after_owners = {m: fieldsets.difference(fields, touched) for m, fields in owners.items() if m != by}
    mine = fieldsets.difference(owners.get(by, {}), removed)
    after_owners[by] = fieldsets.union(mine, changed)
    return after_owners


def apply(
    owners: Mapping[Manager, FieldSet],
    live: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    by: Manager,
    shape: Shape,
    *,
    force: bool,
) -> Applied:
    """Merge an applied configuration into the live object.

    Fields that this manager applied before and no longer mentions go, unless someone else owns them too.
    """
    root = Field("", shape)
    wanted = fieldsets.fields_of(managed_part(config), root)
    if live is None:
        return Applied(dict(config), {by: wanted}, ())
    merged: dict[str, Any] = fieldsets.merge_applied(dict(live), dict(config), root)
    changed, _ = fieldsets.changed_fields(managed_part(live), managed_part(merged), root)
    found: list[FieldConflict] = []
    after: dict[Manager, FieldSet] = {}
    for manager, fields in owners.items():
        if manager == by:
            continue
        contested = fieldsets.intersection(changed, fields) if changed else {}
        found += [FieldConflict(manager, path) for path in fieldsets.leaves(contested)]
        after[manager] = fieldsets.difference(fields, contested) if force else fields
    abandoned = fieldsets.difference(owners.get(by, {}), wanted)
    for fields in after.values():
        abandoned = fieldsets.difference(abandoned, fields)
    if abandoned:
        merged = fieldsets.remove_fields(merged, abandoned, root)
    after[by] = wanted
    return Applied(merged, after, () if force else tuple(found))


def are_from_last_applied(
    conflicts: Sequence[FieldConflict], live: Mapping[str, Any], by: Manager, shape: Shape
) -> bool:
    """Say whether kubectl contests only what it wrote itself, when it still applied on the client's side.

    https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply
    """
    annotation = live["metadata"].get("annotations", {}).get(LAST_APPLIED)
    if by.name != "kubectl" or not isinstance(annotation, str):
        return False
    try:
        config = decode_struct(msgspec.json.decode(annotation), shape).value
    except (msgspec.DecodeError, WrongType):
        return False  # An annotation is anyone's text: what is no object of this kind allows nothing.
    written = set(fieldsets.leaves(fieldsets.fields_of(managed_part(config), Field("", shape))))
    return all(conflict.path in written for conflict in conflicts)
