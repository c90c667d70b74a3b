"""Decide which pods a ReplicaSet adopts, releases, creates or deletes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pybrix.api.apps import ReplicaSet
from pybrix.api.core import Pod
from pybrix.cluster.workloads.replicaset.ranking import rank_for_deletion
from pybrix.cluster.workloads.replicaset.state import Observed
from pybrix.runtime.actions import Action, Create, Delete, Emit, Plan
from pybrix.runtime.claims import claim_actions

BURST_REPLICAS = 500
"""Pods created or deleted in one pass; upstream's cap."""


def plan(seen: Observed, now: datetime) -> Plan:
    """Return the actions that move the pods towards `spec.replicas`.

    At most BURST_REPLICAS creations or deletions; the watch on pods triggers the next pass. Nothing is created or
    deleted while the cache is behind what earlier passes did, nor for a ReplicaSet that is being deleted.
    """
    replica_set, claims = seen.replica_set, seen.claims
    actions: list[Action] = list(claim_actions(replica_set, claims))
    if not seen.is_settled or replica_set.metadata.is_terminating:
        return Plan(tuple(actions))
    have = len(claims.owned)
    surplus = have - seen.replicas
    why = f"{have}/{seen.replicas} pods exist"
    if surplus < 0 and not seen.is_namespace_ending:
        manifest = render_pod(replica_set)
        actions += [Create(manifest, why, owner=replica_set) for _ in range(min(-surplus, BURST_REPLICAS))]
    elif surplus > 0:
        doomed = rank_for_deletion(claims.owned, seen.related, now)[: min(surplus, BURST_REPLICAS)]
        for pod in doomed:
            actions.append(Delete(Pod, pod.key, pod.uid, why, owner=replica_set))
            actions.append(Emit(replica_set, "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}"))
    return Plan(tuple(actions))


def render_pod(replica_set: ReplicaSet) -> dict[str, Any]:
    """Return the manifest of one more pod; applying it adds the owner."""
    template = replica_set.spec.template
    of_template = template.get("metadata") or {}
    metadata: dict[str, Any] = {
        "generateName": f"{replica_set.metadata.name}-",
        "namespace": replica_set.metadata.namespace,
    }
    for field in ("labels", "annotations", "finalizers"):
        if of_template.get(field):
            metadata[field] = of_template[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec") or {}}


def slow_start_batches(count: int) -> Iterator[int]:
    """Yield sizes 1, 2, 4, ... that add up to `count`: a template that cannot work fails once, not 500 times."""
    size = 1
    while count > 0:
        size = min(size, count)
        yield size
        count -= size
        size *= 2
