"""Compute the status of a RayClusterFleet from its sets; time alone tells that a rollout is stuck. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from pybrix.api import names
from pybrix.api.conditions import RolloutCondition
from pybrix.api.meta import find_condition
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet, RayClusterFleetStatus
from pybrix.api.ray import HEAD, NODE_TYPE
from pybrix.base.clock import format_rfc3339
from pybrix.controllers.rayclusterfleet.state import Observed, goal, progress_deadline_s, size
from pybrix.controllers.unsupported import with_unsupported
from pybrix.runtime.rollout.progress import Counts, Outcome, Rollout, failure_condition, next_conditions


def next_status(seen: Observed, outcome: Outcome, now: datetime) -> tuple[RayClusterFleetStatus, float | None]:
    """Return the status, and after how many seconds without an event to look again (None: never)."""
    fleet = seen.fleet
    status = _counts(seen)
    if outcome.is_collision:
        status.collision_count = (fleet.status.collision_count or 0) + 1
    # `Ready` is what is written about kinds that have no controller.
    before = [c for c in fleet.status.conditions if c.type != "Ready"]
    conditions, again_s = next_conditions(rollout_of(seen, status), before, outcome, _failure(seen), now)
    status.conditions = with_unsupported(conditions, RolloutCondition, fleet, format_rfc3339(now))
    return status, again_s


def invalid_status(fleet: RayClusterFleet, why: str, now: datetime) -> RayClusterFleetStatus:
    """Return the status as it was, with the failure that the spec cannot be worked on."""
    failure = RolloutCondition(
        type="ReplicaFailure",
        status="True",
        reason="InvalidSpec",
        message=why,
        last_transition_time=format_rfc3339(now),
    )
    before = [c for c in fleet.status.conditions if c.type != failure.type or c.message == why]
    conditions = failure_condition(before, failure)
    return msgspec.structs.replace(fleet.status, observed_generation=fleet.metadata.generation, conditions=conditions)


def rollout_of(seen: Observed, status: RayClusterFleetStatus) -> Rollout[RolloutCondition]:
    """Return what the conditions follow from, with the counts of a status."""
    fleet = seen.fleet
    return Rollout(
        kind="RayClusterFleet",
        name=fleet.metadata.name,
        shape=RolloutCondition,
        replicas=fleet.spec.replicas,
        max_unavailable=goal(fleet).max_unavailable,
        deadline_s=progress_deadline_s(fleet),
        is_paused=fleet.spec.paused,
        new=seen.new.metadata.name if seen.new is not None else "",
        before=_numbers(fleet.status),
        counts=_numbers(status),
    )


def head_selector(fleet: RayClusterFleet) -> str:
    """Return the label selector of the pods that an autoscaler looks at: the heads."""
    return f"{names.RAYCLUSTERFLEET_NAME}={fleet.metadata.name},{NODE_TYPE}={HEAD}"


def _counts(seen: Observed) -> RayClusterFleetStatus:
    owned, new = seen.owned, seen.new
    available = sum(s.status.available_replicas for s in owned)
    return RayClusterFleetStatus(
        observed_generation=seen.fleet.metadata.generation,
        replicas=sum(s.status.replicas or 0 for s in owned),
        updated_replicas=(new.status.replicas or 0) if new is not None else 0,
        ready_replicas=sum(s.status.ready_replicas for s in owned),
        available_replicas=available,
        unavailable_replicas=max(0, sum(map(size, owned)) - available),
        collision_count=seen.fleet.status.collision_count,
        scaling_target_selector=head_selector(seen.fleet),
    )


def _numbers(status: RayClusterFleetStatus) -> Counts:
    return Counts(status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas)


def _failure(seen: Observed) -> RolloutCondition | None:
    """Return the failure of a set, the new one's first."""
    ordered = [*([seen.new] if seen.new is not None else []), *seen.old]
    failures = (find_condition(s.status.conditions, "ReplicaFailure") for s in ordered)
    found = next((f for f in failures if f is not None), None)
    if found is None:
        return None
    return RolloutCondition(
        type=found.type,
        status=found.status,
        reason=found.reason,
        message=found.message,
        last_transition_time=found.last_transition_time,
    )
