"""Make the children of an object as they shall be: created, corrected when they drift, deleted when not wanted. Pure.

A hash of what a child shall be is in its annotation; so that a field that is wanted no more is taken away, and a child
that somebody edited is set right whatever the annotation says. What the server filled in stays.
A Secret is made once and then left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pybrix.api.apps import Deployment, StatefulSet
from pybrix.api.core import Secret, Service
from pybrix.api.meta import Object
from pybrix.base.hashing import template_hash
from pybrix.base.quantity import parse_quantity
from pybrix.controllers.cachecluster.blueprint import ChildKey
from pybrix.runtime.actions import Action, Create, Delete, Patch

HASH = "pybrix.ai/desired-hash"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""What `kubectl rollout restart` writes into a template: no drift."""
_FIXED = ("serviceName", "podManagementPolicy", "selector", "volumeClaimTemplates")
"""Fields of a StatefulSet that cannot change; of a Deployment it is `selector` alone."""


@dataclass(frozen=True, slots=True)
class ChildrenPlan:
    """What to do, and what cannot be done: names that belong to somebody else."""

    actions: tuple[Action, ...] = ()
    taken: tuple[str, ...] = ()
    is_waiting: bool = False
    """Whether a child has to be gone before it can be made anew."""


def plan_children(
    owner: Object,
    desired: Iterable[Mapping[str, Any]],
    observed: Mapping[ChildKey, Object],
    fixed: Mapping[ChildKey, tuple[str, ...]] | None = None,
) -> ChildrenPlan:
    """Return what makes the children right.

    Args:
        observed: every child of the owner, and whatever has the name of a desired one.
        fixed: fields of a child's spec whose change makes it anew.
    """
    actions: list[Action] = []
    taken: list[str] = []
    is_waiting = False
    wanted: set[ChildKey] = set()
    for manifest in desired:
        key = child_key(manifest)
        wanted.add(key)
        found = observed.get(key)
        if found is None:
            if key[0] == Secret.gvk.kind:
                actions.append(Create(manifest, "there is no Secret of that name yet", owner=owner))
            else:
                actions.append(Create(with_hash(manifest), f"the {owner.gvk.kind} has none yet", owner=owner))
        elif not is_controlled(found, owner):
            taken.append(f"{key[0]} {key[1]}")
        elif found.metadata.is_terminating:
            is_waiting = True
        elif key[0] != Secret.gvk.kind:
            step = _correct(owner, manifest, found, (fixed or {}).get(key, ()))
            is_waiting = is_waiting or isinstance(step, Delete)
            actions += [step] if step is not None else []
    for key, found in observed.items():
        if key not in wanted and is_controlled(found, owner) and not found.metadata.is_terminating:
            actions.append(Delete(type(found), found.key, found.uid, "the spec needs it no more", owner=owner))
    return ChildrenPlan(tuple(actions), tuple(taken), is_waiting)


def child_key(manifest: Mapping[str, Any]) -> ChildKey:
    return str(manifest["kind"]), str(manifest["metadata"]["name"])


def is_controlled(child: Object, owner: Object) -> bool:
    """Say whether a child belongs to this very owner, not to a deleted one of its name or to somebody else."""
    controller = child.metadata.controller
    return controller is not None and controller.uid == owner.uid


def with_hash(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest that says what it was made from."""
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), HASH: template_hash(manifest)}
    return {**manifest, "metadata": metadata}


def _correct(
    owner: Object, manifest: Mapping[str, Any], found: Object, fixed: tuple[str, ...]
) -> Patch | Delete | None:
    desired = with_hash(manifest)
    annotations = found.metadata.annotations
    is_new = annotations.get(HASH) != desired["metadata"]["annotations"][HASH]
    want, have = desired, _whole(found)
    if isinstance(found, StatefulSet | Deployment):
        names: tuple[str, ...] = _FIXED if isinstance(found, StatefulSet) else ("selector",)
        # What somebody else changed is changed back.
        names += fixed if is_new else ()
        spec, now = want.get("spec", {}), have.get("spec", {})
        # What is not said is the server's choice, but claims that are not said are not wanted.
        said = [name for name in names if name in spec or name == "volumeClaimTemplates"]
        changed = [name for name in said if not covers(spec.get(name), now.get(name))]
        if changed:
            why = f"{', '.join(changed)} cannot be changed in place"
            # Its pods are taken over by the one that follows, where their labels and claims fit.
            propagation = "Orphan" if {*changed} <= {"serviceName", "podManagementPolicy"} else "Foreground"
            return Delete(type(found), found.key, found.uid, why, propagation=propagation, owner=owner)
    bodies = [name for name in ("spec", "data") if name in want or name in have]
    labels = {k: v for k, v in (desired["metadata"].get("labels") or {}).items() if found.metadata.labels.get(k) != v}
    is_drifted = bool(labels) or not all(covers(want.get(name), have.get(name)) for name in bodies)
    if isinstance(found, Service):
        # One label more, and it finds nothing.
        is_drifted = is_drifted or want["spec"].get("selector") != have.get("spec", {}).get("selector")
    if not is_new and not is_drifted:
        return None
    patch: dict[str, Any] = {"metadata": {"annotations": desired["metadata"]["annotations"]}}
    if labels:
        patch["metadata"]["labels"] = labels
    for name in bodies:
        if difference := _difference(want.get(name) or {}, have.get(name) or {}, is_top=name == "spec"):
            patch[name] = difference
    why = "the spec changed" if is_new else "somebody changed it"
    return Patch(type(found), found.key, patch, why, resource_version=found.metadata.resource_version)


def _difference(want: Mapping[str, Any], have: Mapping[str, Any], *, is_top: bool) -> dict[str, Any]:
    """Return the merge patch. What is not wanted goes, but for fields of the spec itself: those are the server's."""
    patch: dict[str, Any] = {}
    for key, value in want.items():
        there = have.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            if inner := _difference(value, there, is_top=False):
                patch[key] = inner
        elif not covers(value, there):
            patch[key] = value
    if not is_top:
        patch |= {key: None for key, there in have.items() if there and key not in want and key != RESTARTED_AT}
    return patch


def _whole(value: Any) -> Any:
    """Return the JSON-like form with every default: what is left out on the wire is wanted, too, if it is written."""
    if isinstance(value, msgspec.Struct):
        return {f.encode_name: _whole(getattr(value, f.name)) for f in msgspec.structs.fields(value)}
    if isinstance(value, Mapping):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(each) for each in value]
    return value


def covers(want: Any, have: Any) -> bool:
    """Say whether everything that is wanted is there; more may be. Nothing, empty and absent are the same."""
    if isinstance(want, Mapping):
        there = have if isinstance(have, Mapping) else {}
        return all(covers(value, there.get(key)) for key, value in want.items())
    if isinstance(want, list | tuple):
        items = have if isinstance(have, list | tuple) else ()
        return len(want) == len(items) and all(covers(one, two) for one, two in zip(want, items, strict=True))
    if not want and not have:
        return True
    return bool(want == have) or _is_same_quantity(want, have)


def _is_same_quantity(one: Any, two: Any) -> bool:
    try:
        return parse_quantity(one) == parse_quantity(two)
    except ValueError:
        return False


def cleanup(owner: Object, observed: Iterable[Object], why: str) -> list[Action]:
    """Return the deletions of an owner's workloads, which end its pods."""
    return [
        Delete(type(child), child.key, child.uid, why, owner=owner)
        for child in observed
        if isinstance(child, StatefulSet | Deployment)
        and is_controlled(child, owner)
        and not child.metadata.is_terminating
    ]
