"""Bind claims of volumes, and let go of those that are deleted when no pod uses them any more. Pure.

A claim is a directory of this machine, so there is always one for it: it is bound when it is made, and its capacity is
what it asks for (nothing enforces that). There are no PersistentVolumes as objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pybrix.api.core import PersistentVolumeClaim, Pod
from pybrix.api.names import CLAIM_PROTECTION
from pybrix.runtime.actions import Action, Emit, Patch, PatchStatus, Plan


def plan(claim: PersistentVolumeClaim, users: Iterable[Pod]) -> Plan:
    """Return what is to be done for a claim. `users` are the pods that name it."""
    version = claim.metadata.resource_version
    if claim.metadata.is_terminating:
        in_use = [pod.metadata.name for pod in users if not pod.is_finished]
        if in_use or CLAIM_PROTECTION not in claim.metadata.finalizers:
            return Plan()
        rest = [f for f in claim.metadata.finalizers if f != CLAIM_PROTECTION]
        why = "it is deleted and no pod uses it"
        released: dict[str, Any] = {"metadata": {"uid": claim.uid, "finalizers": rest or None}}
        return Plan((Patch(PersistentVolumeClaim, claim.key, released, why, resource_version=version),))
    actions: list[Action] = []
    if not claim.spec.volume_name:
        why = "a directory of this machine is its volume"
        patch = {"spec": {"volumeName": volume_name(claim)}}
        actions.append(Patch(PersistentVolumeClaim, claim.key, patch, why, resource_version=version))
    status = _status(claim)
    if status:
        why = "it is bound to a directory of this machine"
        actions.append(PatchStatus(PersistentVolumeClaim, claim.key, status, why, resource_version=version))
        if claim.status.phase != "Bound":
            told = f"Successfully provisioned volume {volume_name(claim)}"
            actions.append(Emit(claim, "ProvisioningSucceeded", told))
    return Plan(tuple(actions))


def volume_name(claim: PersistentVolumeClaim) -> str:
    return claim.spec.volume_name or f"pvc-{claim.uid}"


def _status(claim: PersistentVolumeClaim) -> dict[str, Any]:
    wanted = {
        "phase": "Bound",
        "accessModes": claim.spec.access_modes,
        "capacity": {"storage": str(claim.spec.resources.requests.get("storage", "0"))},
    }
    present = {
        "phase": claim.status.phase,
        "accessModes": claim.status.access_modes,
        "capacity": claim.status.capacity,
    }
    return {name: value for name, value in wanted.items() if present[name] != value}
