"""Who owns the claims of a pod, so that they go when they should. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pybrix.api.apps import ClaimRetentionPolicy
from pybrix.api.core import PersistentVolumeClaim, Pod
from pybrix.api.meta import Object
from pybrix.cluster.workloads.statefulset.render import claim_names
from pybrix.cluster.workloads.statefulset.state import Observed
from pybrix.runtime.actions import Patch


def retention_actions(seen: Observed) -> Iterator[Patch]:
    """Yield the patches that make the set, or a pod that goes for good, the owner of claims that are to go with it."""
    policy = seen.stateful_set.spec.persistent_volume_claim_retention_policy or ClaimRetentionPolicy()
    for ordinal, pod in seen.pods.items():
        owner: Object | None = seen.stateful_set if policy.when_deleted == "Delete" else None
        if policy.when_scaled == "Delete" and ordinal not in seen.wanted:
            owner = pod
        for name in claim_names(seen.stateful_set, ordinal).values():
            claim = seen.volume_claims.get(name)
            if claim is not None and not claim.metadata.is_terminating:
                yield from _owned_by(claim, owner, seen.stateful_set, pod)


def _owned_by(claim: PersistentVolumeClaim, owner: Object | None, stateful_set: Object, pod: Pod) -> Iterator[Patch]:
    present = claim.metadata.owner_references
    # References to earlier pods of the same name too: they would have the claim collected.
    others = [r for r in present if r.uid != stateful_set.uid and (r.kind, r.name) != ("Pod", pod.metadata.name)]
    wanted = [*others, owner.owner_reference()] if owner is not None else others
    if [r.uid for r in wanted] == [r.uid for r in present]:
        return
    why = f"it is to go with {owner.kind} {owner.metadata.name}" if owner is not None else "it is to be retained"
    patch = {"metadata": {"uid": claim.uid, "ownerReferences": msgspec.to_builtins(wanted) or None}}
    yield Patch(PersistentVolumeClaim, claim.key, patch, why, resource_version=claim.metadata.resource_version)
