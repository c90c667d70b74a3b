"""The conditions of a Deployment, and when the controller looks again by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.meta import Condition, find_condition
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.deployment.state import observe
from pybrix.cluster.workloads.deployment.status import next_status
from pybrix.runtime.rollout.progress import Outcome
from tests.support.workloads import START, at, make_deployment, make_replica_set


def progressing(reason: str, since: datetime, status: str = "True") -> dict[str, Any]:
    when = format_rfc3339(since)
    return {
        "type": "Progressing",
        "status": status,
        "reason": reason,
        "lastUpdateTime": when,
        "lastTransitionTime": when,
    }


def step(
    deployment: Deployment, *replica_sets: ReplicaSet, outcome: Outcome | None = None, now: datetime = START
) -> tuple[Condition | None, float | None]:
    status, after_s = next_status(observe(deployment, replica_sets), outcome or Outcome(), now)
    return find_condition(status.conditions, "Progressing"), after_s


def test_a_created_replica_set_starts_the_deadline() -> None:
    condition, after_s = step(make_deployment(3), outcome=Outcome(created="web-abc"))
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "NewReplicaSetCreated")
    assert condition.message == 'Created new replica set "web-abc"'
    assert after_s == 601


def test_no_success_is_told_before_the_new_replica_set_exists() -> None:
    deployment = make_deployment(3, image="v2", generation=2)
    old = make_replica_set(owner=deployment, image="v1", available=3)
    status, _ = next_status(observe(deployment, [old]), Outcome(created="web-new"), START)
    assert (status.observed_generation, status.replicas, status.updated_replicas) == (2, 3, 0)


def test_progress_moves_the_time_of_the_last_update_only() -> None:
    deployment = make_deployment(3, status={"conditions": [progressing("NewReplicaSetCreated", START)]})
    condition, after_s = step(deployment, make_replica_set(owner=deployment, available=1), now=at(60))
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "ReplicaSetUpdated")
    assert condition.last_transition_time == format_rfc3339(START)
    assert condition.last_update_time == format_rfc3339(at(60))
    assert after_s == 601


def test_without_progress_the_deadline_passes_by_itself() -> None:
    settled = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 1, "availableReplicas": 1}
    conditions = [progressing("ReplicaSetUpdated", START)]
    deployment = make_deployment(3, progressDeadlineSeconds=30, status={**settled, "conditions": conditions})
    own = make_replica_set(owner=deployment, available=1)
    before, after_s = step(deployment, own, now=at(10))
    assert before is not None
    assert before.reason == "ReplicaSetUpdated"
    assert after_s == 21
    late, after_s = step(deployment, own, now=at(31))
    assert late is not None
    assert (late.status, late.reason) == ("False", "ProgressDeadlineExceeded")
    assert late.message == 'ReplicaSet "web-abc" has timed out progressing.'
    assert after_s is None


def test_a_late_rollout_that_completes_is_complete() -> None:
    conditions = [progressing("ProgressDeadlineExceeded", START, "False")]
    deployment = make_deployment(3, status={"conditions": conditions})
    condition, after_s = step(deployment, make_replica_set(owner=deployment, available=3), now=at(5000))
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "NewReplicaSetAvailable")
    assert after_s is None


def test_a_finished_rollout_is_never_late() -> None:
    settled = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
    conditions = [progressing("NewReplicaSetAvailable", START)]
    deployment = make_deployment(3, status={**settled, "conditions": conditions})
    condition, after_s = step(deployment, make_replica_set(owner=deployment, available=1), now=at(5000))
    assert condition is not None
    assert condition.reason == "NewReplicaSetAvailable"
    assert after_s is None


def test_no_deadline_no_condition() -> None:
    deployment = make_deployment(3, progressDeadlineSeconds=2**31 - 1)
    condition, after_s = step(deployment, make_replica_set(owner=deployment, available=1))
    assert condition is None
    assert after_s is None


def test_pausing_and_resuming() -> None:
    conditions = [progressing("ReplicaSetUpdated", START)]
    paused = make_deployment(3, paused=True, status={"conditions": conditions})
    condition, after_s = step(paused, make_replica_set(owner=paused), now=at(5000))
    assert condition is not None
    assert (condition.status, condition.reason, after_s) == ("Unknown", "DeploymentPaused", None)
    pausing = progressing("DeploymentPaused", START, "Unknown")
    resumed = make_deployment(3, status={"replicas": 3, "updatedReplicas": 3, "conditions": [pausing]})
    condition, after_s = step(resumed, make_replica_set(owner=resumed), now=at(5000))
    assert condition is not None
    assert (condition.status, condition.reason, after_s) == ("Unknown", "DeploymentResumed", 601)


def test_minimum_availability() -> None:
    deployment = make_deployment(4, max_unavailable=1)
    enough, _ = next_status(observe(deployment, [make_replica_set(replicas=4, available=3)]), Outcome(), START)
    lacking, _ = next_status(observe(deployment, [make_replica_set(replicas=4, available=2)]), Outcome(), START)
    assert [(c.status, c.reason) for c in enough.conditions if c.type == "Available"] == [
        ("True", "MinimumReplicasAvailable")
    ]
    assert [(c.status, c.reason) for c in lacking.conditions if c.type == "Available"] == [
        ("False", "MinimumReplicasUnavailable")
    ]


def test_a_collision_counts_and_changes_nothing_else() -> None:
    deployment = make_deployment(3, status={"collisionCount": 1})
    status, _ = next_status(observe(deployment, []), Outcome(is_collision=True), START)
    assert status.collision_count == 2


def test_a_refused_replica_set_is_told() -> None:
    condition, _ = step(make_deployment(3), outcome=Outcome(create_error="forbidden: quota"))
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "ReplicaSetCreateError")
    assert condition.message == "forbidden: quota"


def test_a_failure_of_a_replica_set_shows_on_the_deployment_and_goes_again() -> None:
    deployment = make_deployment(3)
    failing = make_replica_set(owner=deployment)
    failing.status.conditions = [Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="no")]
    status, _ = next_status(observe(deployment, [failing]), Outcome(), START)
    assert [(c.reason, c.message) for c in status.conditions if c.type == "ReplicaFailure"] == [("FailedCreate", "no")]
    deployment.status = status
    healed, _ = next_status(observe(deployment, [make_replica_set(owner=deployment)]), Outcome(), START)
    assert find_condition(healed.conditions, "ReplicaFailure") is None


def test_a_second_look_at_the_same_changes_nothing() -> None:
    deployment = make_deployment(3)
    seen = observe(deployment, [make_replica_set(owner=deployment, available=1)])
    deployment.status, _ = next_status(seen, Outcome(), START)
    again, _ = next_status(seen, Outcome(), at(5))
    assert again == deployment.status
