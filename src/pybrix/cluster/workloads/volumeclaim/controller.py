"""Bind claims of volumes: the shell around `plan`."""

from __future__ import annotations

from pybrix.api.core import PersistentVolumeClaim, Pod
from pybrix.api.identity import ObjectKey
from pybrix.cluster.workloads.volumeclaim.plan import plan
from pybrix.runtime.actions import Plan
from pybrix.runtime.controller import Controller, For, Watches
from pybrix.runtime.manager import Manager

BY_CLAIM = "volumeclaim-users"


class VolumeClaimReconciler:
    """Observe a claim and its pods, and leave the rest to the plan."""

    def __init__(self, manager: Manager) -> None:
        self._claims = manager.informer(PersistentVolumeClaim)
        self._pods = manager.informer(Pod)
        self._pods.add_index(BY_CLAIM, lambda pod: [str(key) for key in claims_of(pod)])

    def controller(self) -> Controller:
        return Controller(
            "volumeclaim", self.reconcile, sources=[For(self._claims), Watches(self._pods, claims_of, when=_has_ended)]
        )

    async def reconcile(self, key: ObjectKey) -> Plan | None:
        claim = self._claims.get(key)
        return plan(claim, self._pods.by_index(BY_CLAIM, str(key))) if claim is not None else None


def claims_of(pod: Pod) -> list[ObjectKey]:
    """Return the claims that a pod names."""
    named = (v.persistent_volume_claim.get("claimName", "") for v in pod.spec.volumes if v.persistent_volume_claim)
    return [ObjectKey(pod.metadata.namespace, str(name)) for name in named if name]


def _has_ended(old: Pod, new: Pod) -> bool:
    return old.is_finished != new.is_finished
