"""Decide how a Deployment moves its pods from one template to the next."""

from __future__ import annotations

from typing import Any

from pybrix.api import names
from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.cluster.workloads.claims import claim_actions
from pybrix.cluster.workloads.deployment import sizes
from pybrix.cluster.workloads.deployment.revisions import (
    annotations_of_new,
    next_revision,
    render_replica_set,
    revision,
    size_annotations,
)
from pybrix.cluster.workloads.deployment.sizes import Sizes
from pybrix.cluster.workloads.deployment.state import (
    Observed,
    history_limit,
    is_rolling,
    max_surge,
    problem,
    replicas,
    size,
)
from pybrix.runtime.actions import Action, Create, Delete, Emit, Patch, Plan


def plan(seen: Observed) -> Plan:
    """Return one step towards the present template at `spec.replicas`.

    Every step is safe by itself: never more than `replicas + maxSurge` pods, never fewer than
    `replicas - maxUnavailable` available ones by its own doing. A change of `replicas` is spread before a rollout goes
    on; a paused Deployment is scaled, never rolled.
    """
    deployment = seen.deployment
    if deployment.metadata.is_terminating or problem(deployment):
        return Plan()
    actions: list[Action] = list(claim_actions(deployment, seen.claims))
    new, old = seen.new, seen.old
    targets: Sizes = {}
    if deployment.spec.paused or sizes.is_scaled(deployment, seen.owned):
        targets = _changes(sizes.scale(deployment, new, old), seen)
    if not targets and not deployment.spec.paused:
        if new is None and (is_rolling(deployment) or _is_clear(seen)):
            return Plan((*actions, *_create(seen)))
        if is_rolling(deployment):
            assert new is not None
            targets = sizes.roll(deployment, new, old)
        else:
            targets = sizes.recreate(deployment, new, old, is_clear=_is_clear(seen))
    for replica_set in seen.owned:
        actions += _resize(seen, replica_set, targets)
    if new is not None:
        number = max(next_revision(old), revision(new.metadata.annotations))
        actions += _note_revision(deployment, number)
    if not targets and (deployment.spec.paused or is_complete(deployment)):
        actions += _forget(seen)
    return Plan(tuple(actions))


def is_complete(deployment: Deployment) -> bool:
    """Say whether the last written status is that of a finished rollout of the present spec."""
    status, wanted = deployment.status, replicas(deployment)
    return (
        status.updated_replicas == status.replicas == status.available_replicas == wanted
        and status.observed_generation >= deployment.metadata.generation
    )


def _is_clear(seen: Observed) -> bool:
    """Say whether no pod of an older template is left, not even one that is ending. Only Recreate asks."""
    if any(size(s) or s.status.replicas for s in seen.old):
        return False
    present = seen.new.uid if seen.new is not None else None
    holders = ((pod, pod.metadata.controller) for pod in seen.pods if not pod.is_finished)
    return all(holder is not None and holder.uid == present for _, holder in holders)


def _changes(targets: Sizes, seen: Observed) -> Sizes:
    """Keep the targets that change something: a size, or what the ReplicaSet remembers of the Deployment's."""
    memory = _memory(seen.deployment)
    return {
        s.uid: targets[s.uid]
        for s in seen.owned
        if s.uid in targets
        and (
            targets[s.uid] != size(s)
            or (size(s) > 0 and any(s.metadata.annotations.get(k) != v for k, v in memory.items()))
        )
    }


def _memory(deployment: Deployment) -> dict[str, str]:
    wanted = replicas(deployment)
    return size_annotations(wanted, wanted + max_surge(deployment))


def _create(seen: Observed) -> list[Action]:
    deployment = seen.deployment
    number = next_revision(seen.owned)
    annotations = annotations_of_new(deployment, {}, number) | _memory(deployment)
    count = sizes.size_of_new(deployment, seen.old, 0)
    manifest = render_replica_set(deployment, annotations, count)
    name = manifest["metadata"]["name"]
    actions: list[Action] = [Create(manifest, f"no ReplicaSet of revision {number} exists", owner=deployment)]
    if count:
        actions.append(_scaled(deployment, name, 0, count))
    return [*actions, *_note_revision(deployment, number)]


def _resize(seen: Observed, replica_set: ReplicaSet, targets: Sizes) -> list[Action]:
    """Bring one ReplicaSet's size and notes up to date, in one patch."""
    deployment = seen.deployment
    spec: dict[str, Any] = {}
    annotations: dict[str, str] = {}
    actions: list[Action] = []
    present = replica_set.metadata.annotations
    if seen.new is not None and replica_set.uid == seen.new.uid:
        annotations |= annotations_of_new(deployment, present, next_revision(seen.old))
        if replica_set.spec.min_ready_seconds != deployment.spec.min_ready_seconds:
            spec["minReadySeconds"] = deployment.spec.min_ready_seconds
    why = f"revision {revision(present | annotations)} follows its Deployment's metadata"
    if replica_set.uid in targets:
        annotations |= {k: v for k, v in _memory(deployment).items() if present.get(k) != v}
        before, after = size(replica_set), targets[replica_set.uid]
        if before != after:
            spec["replicas"] = after
            event = _scaled(deployment, replica_set.metadata.name, before, after)
            why = event.why
            actions.append(event)
    patch: dict[str, Any] = {}
    if annotations:
        patch["metadata"] = {"annotations": annotations}
    if spec:
        patch["spec"] = spec
    if not patch:
        return []
    version = replica_set.metadata.resource_version
    return [Patch(ReplicaSet, replica_set.key, patch, why, resource_version=version), *actions]


def _scaled(deployment: Deployment, name: str, before: int, after: int) -> Emit:
    direction = "up" if after > before else "down"
    return Emit(deployment, "ScalingReplicaSet", f"Scaled {direction} replica set {name} from {before} to {after}")


def _note_revision(deployment: Deployment, number: int) -> list[Action]:
    if deployment.metadata.annotations.get(names.DEPLOYMENT_REVISION) == str(number):
        return []
    patch = {"metadata": {"annotations": {names.DEPLOYMENT_REVISION: str(number)}}}
    version = deployment.metadata.resource_version
    return [Patch(Deployment, deployment.key, patch, f"its template is revision {number}", resource_version=version)]


def _forget(seen: Observed) -> list[Action]:
    """Delete the oldest empty revisions beyond `revisionHistoryLimit`."""
    kept = [s for s in seen.old if not s.metadata.is_terminating]
    surplus = len(kept) - history_limit(seen.deployment)
    by_revision = sorted(kept, key=lambda s: revision(s.metadata.annotations))
    why = f"{len(kept)} old revisions exist, the limit is {history_limit(seen.deployment)}"
    return [
        Delete(ReplicaSet, s.key, s.uid, why, owner=seen.deployment)
        for s in by_revision[: max(0, surplus)]
        if not size(s) and not s.status.replicas and s.status.observed_generation >= s.metadata.generation
    ]
