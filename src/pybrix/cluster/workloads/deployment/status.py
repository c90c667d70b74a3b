"""Compute a Deployment's status from its ReplicaSets; a rollout that stops making progress is told by time alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pybrix.api.apps import Deployment, DeploymentStatus
from pybrix.api.meta import Condition, find_condition
from pybrix.base.clock import format_rfc3339, parse_rfc3339
from pybrix.cluster.workloads.deployment.state import (
    Observed,
    max_unavailable,
    progress_deadline_s,
    replicas,
    total_size,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying the plan came to."""

    created: str = ""
    """Name of the ReplicaSet that was created; empty for none."""
    is_collision: bool = False
    """Whether the name of the new ReplicaSet is taken by one of another template."""
    create_error: str = ""
    """Why the new ReplicaSet could not be created; empty when it could."""


def next_status(seen: Observed, outcome: Outcome, now: datetime) -> tuple[DeploymentStatus, float | None]:
    """Return the status, and after how many seconds without an event to look again (None: never).

    Source: `calculateStatus`, `syncRolloutStatus` and `checkPausedConditions`.
    """
    deployment = seen.deployment
    status = _counts(seen)
    if outcome.is_collision:
        status.collision_count = (deployment.status.collision_count or 0) + 1
    conditions = _pause_conditions(deployment, list(deployment.status.conditions), now)
    conditions = _set(conditions, _availability(deployment, status), now)
    if outcome.created:
        # Not the one of an earlier rollout: the deadline counts from this creation.
        conditions = [c for c in conditions if c.type != "Progressing"]
        conditions = _progress(conditions, "NewReplicaSetCreated", f'Created new replica set "{outcome.created}"', now)
    if not deployment.spec.paused:
        conditions = _rollout_conditions(seen, status, conditions, outcome, now)
    conditions = _failure_condition(seen, conditions)
    status.conditions = conditions
    return status, _recheck_after_s(deployment, status, now)


def _counts(seen: Observed) -> DeploymentStatus:
    owned, new = seen.owned, seen.new
    available = sum(s.status.available_replicas for s in owned)
    return DeploymentStatus(
        observed_generation=seen.deployment.metadata.generation,
        replicas=sum(s.status.replicas or 0 for s in owned),
        updated_replicas=(new.status.replicas or 0) if new is not None else 0,
        ready_replicas=sum(s.status.ready_replicas for s in owned),
        available_replicas=available,
        unavailable_replicas=max(0, total_size(owned) - available),
        collision_count=seen.deployment.status.collision_count,
    )


def _availability(deployment: Deployment, status: DeploymentStatus) -> Condition:
    if status.available_replicas >= replicas(deployment) - max_unavailable(deployment):
        return Condition(
            type="Available",
            status="True",
            reason="MinimumReplicasAvailable",
            message="Deployment has minimum availability.",
        )
    return Condition(
        type="Available",
        status="False",
        reason="MinimumReplicasUnavailable",
        message="Deployment does not have minimum availability.",
    )


def _pause_conditions(deployment: Deployment, conditions: list[Condition], now: datetime) -> list[Condition]:
    current = find_condition(conditions, "Progressing")
    reason = current.reason if current is not None else ""
    if progress_deadline_s(deployment) is None or reason == "ProgressDeadlineExceeded":
        return conditions
    if deployment.spec.paused and reason != "DeploymentPaused":
        return _progress(conditions, "DeploymentPaused", "Deployment is paused", now, status="Unknown")
    if not deployment.spec.paused and reason == "DeploymentPaused":
        return _progress(conditions, "DeploymentResumed", "Deployment is resumed", now, status="Unknown")
    return conditions


def _rollout_conditions(
    seen: Observed, status: DeploymentStatus, conditions: list[Condition], outcome: Outcome, now: datetime
) -> list[Condition]:
    deployment = seen.deployment
    deadline_s = progress_deadline_s(deployment)
    if deadline_s is None:
        return [c for c in conditions if c.type != "Progressing"]
    current = find_condition(conditions, "Progressing")
    if outcome.create_error:
        return _progress(conditions, "ReplicaSetCreateError", outcome.create_error, now, status="False")
    if current is None and seen.new is not None:
        conditions = _progress(
            conditions, "FoundNewReplicaSet", f'Found new replica set "{seen.new.metadata.name}"', now
        )
        current = find_condition(conditions, "Progressing")
    is_done = (
        status.replicas == status.updated_replicas
        and current is not None
        and current.reason == "NewReplicaSetAvailable"
    )
    if is_done:
        return conditions
    name = outcome.created or (seen.new.metadata.name if seen.new is not None else "")
    subject = f'ReplicaSet "{name}"' if name else f'Deployment "{deployment.metadata.name}"'
    if seen.new is not None and _is_complete(deployment, status):
        return _progress(conditions, "NewReplicaSetAvailable", f"{subject} has successfully progressed.", now)
    if _has_progressed(deployment.status, status):
        # The time of the last update counts for the deadline, so it moves with every bit of progress.
        others = [c for c in conditions if c.type != "Progressing"]
        new = Condition(
            type="Progressing", status="True", reason="ReplicaSetUpdated", message=f"{subject} is progressing."
        )
        since = current.last_transition_time if current is not None and current.is_true else None
        return [*others, _stamped(new, since or format_rfc3339(now), now)]
    if current is not None and _is_late(current, deadline_s, now):
        message = f"{subject} has timed out progressing."
        return _progress(conditions, "ProgressDeadlineExceeded", message, now, status="False")
    return conditions


def _failure_condition(seen: Observed, conditions: list[Condition]) -> list[Condition]:
    """Take over the failure of a ReplicaSet, the new one's first."""
    ordered = [*([seen.new] if seen.new is not None else []), *seen.old]
    failures = (find_condition(s.status.conditions, "ReplicaFailure") for s in ordered)
    failure = next((f for f in failures if f is not None), None)
    others = [c for c in conditions if c.type != "ReplicaFailure"]
    if failure is None:
        return others
    before = find_condition(conditions, "ReplicaFailure")
    if before is not None and (before.status, before.reason) == (failure.status, failure.reason):
        return conditions
    copied = Condition(
        type="ReplicaFailure",
        status=failure.status,
        reason=failure.reason,
        message=failure.message,
        last_transition_time=failure.last_transition_time,
        last_update_time=failure.last_transition_time,
    )
    return [*others, copied]


def _is_complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    return status.updated_replicas == status.replicas == status.available_replicas == replicas(deployment)


def _has_progressed(before: DeploymentStatus, after: DeploymentStatus) -> bool:
    return (
        after.updated_replicas > before.updated_replicas
        or after.replicas - after.updated_replicas < before.replicas - before.updated_replicas
        or after.ready_replicas > before.ready_replicas
        or after.available_replicas > before.available_replicas
    )


def _is_late(progressing: Condition, deadline_s: int, now: datetime) -> bool:
    """Say whether the last progress is longer ago than the deadline; a finished rollout is never late."""
    if progressing.reason == "NewReplicaSetAvailable":
        return False
    if progressing.reason == "ProgressDeadlineExceeded":
        return True
    due = _due(progressing, deadline_s)
    return due is not None and due < now


def _due(progressing: Condition, deadline_s: int) -> datetime | None:
    since = progressing.last_update_time or progressing.last_transition_time
    return parse_rfc3339(since) + timedelta(seconds=deadline_s) if since else None


def _recheck_after_s(deployment: Deployment, status: DeploymentStatus, now: datetime) -> float | None:
    """Return when the deadline passes if nothing happens; a second later, as times on the wire are whole seconds."""
    deadline_s = progress_deadline_s(deployment)
    progressing = find_condition(status.conditions, "Progressing")
    if deadline_s is None or progressing is None or deployment.spec.paused or _is_complete(deployment, status):
        return None
    if progressing.reason in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    due = _due(progressing, deadline_s)
    return max(0.0, (due - now).total_seconds()) + 1.0 if due is not None else None


def _progress(
    conditions: list[Condition], reason: str, message: str, now: datetime, status: str = "True"
) -> list[Condition]:
    return _set(conditions, Condition(type="Progressing", status=status, reason=reason, message=message), now)


def _set(conditions: list[Condition], new: Condition, now: datetime) -> list[Condition]:
    """Put a condition in place of its type's; one of the same status and reason stays as it is."""
    old = find_condition(conditions, new.type)
    if old is not None and (old.status, old.reason) == (new.status, new.reason):
        return conditions
    since = old.last_transition_time if old is not None and old.status == new.status else None
    return [*(c for c in conditions if c.type != new.type), _stamped(new, since or format_rfc3339(now), now)]


def _stamped(condition: Condition, since: str, now: datetime) -> Condition:
    return Condition(
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        message=condition.message,
        last_transition_time=since,
        last_update_time=format_rfc3339(now),
    )
