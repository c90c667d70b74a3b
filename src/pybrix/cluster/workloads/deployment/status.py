"""Compute a Deployment's status from its ReplicaSets; a rollout that stops making progress is told by time alone."""

from __future__ import annotations

from datetime import datetime

from pybrix.api.apps import DeploymentStatus
from pybrix.api.meta import Condition, find_condition
from pybrix.cluster.workloads.deployment.state import (
    Observed,
    max_unavailable,
    progress_deadline_s,
    replicas,
    size,
)
from pybrix.runtime.rollout.progress import Counts, Outcome, Rollout, next_conditions


def next_status(seen: Observed, outcome: Outcome, now: datetime) -> tuple[DeploymentStatus, float | None]:
    """Return the status, and after how many seconds without an event to look again (None: never)."""
    deployment = seen.deployment
    status = _counts(seen)
    if outcome.is_collision:
        status.collision_count = (deployment.status.collision_count or 0) + 1
    rollout = Rollout(
        kind="Deployment",
        name=deployment.metadata.name,
        shape=Condition,
        replicas=replicas(deployment),
        max_unavailable=max_unavailable(deployment),
        deadline_s=progress_deadline_s(deployment),
        is_paused=deployment.spec.paused,
        new=seen.new.metadata.name if seen.new is not None else "",
        before=_numbers(deployment.status),
        counts=_numbers(status),
    )
    status.conditions, again_s = next_conditions(rollout, deployment.status.conditions, outcome, _failure(seen), now)
    return status, again_s


def _counts(seen: Observed) -> DeploymentStatus:
    owned, new = seen.owned, seen.new
    available = sum(s.status.available_replicas for s in owned)
    return DeploymentStatus(
        observed_generation=seen.deployment.metadata.generation,
        replicas=sum(s.status.replicas or 0 for s in owned),
        updated_replicas=(new.status.replicas or 0) if new is not None else 0,
        ready_replicas=sum(s.status.ready_replicas for s in owned),
        available_replicas=available,
        unavailable_replicas=max(0, sum(map(size, owned)) - available),
        collision_count=seen.deployment.status.collision_count,
    )


def _numbers(status: DeploymentStatus) -> Counts:
    return Counts(status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas)


def _failure(seen: Observed) -> Condition | None:
    """Return the failure of a ReplicaSet, the new one's first."""
    ordered = [*([seen.new] if seen.new is not None else []), *seen.old]
    failures = (find_condition(s.status.conditions, "ReplicaFailure") for s in ordered)
    return next((f for f in failures if f is not None), None)
