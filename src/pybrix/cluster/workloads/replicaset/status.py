"""Compute a ReplicaSet's status from the pods it has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pybrix.api.apps import ReplicaSetStatus
from pybrix.api.meta import Condition, find_condition
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.pods import available_in_s
from pybrix.cluster.workloads.replicaset.state import Observed


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a pass could not create or delete a pod. `reason` is FailedCreate or FailedDelete."""

    reason: str
    message: str


def next_status(seen: Observed, failure: Failure | None, now: datetime) -> tuple[ReplicaSetStatus, float | None]:
    """Return the status, and in how many seconds the next ready pod becomes available (None: none is waiting).

    Counts what was observed; pods of this pass are counted when the cache shows them.
    """
    replica_set = seen.replica_set
    labels = ((replica_set.spec.template.get("metadata") or {}).get("labels") or {}).items()
    pods = seen.claims.owned
    waits = [available_in_s(pod, replica_set.spec.min_ready_seconds, now) for pod in pods]
    status = ReplicaSetStatus(
        replicas=len(pods),
        fully_labeled_replicas=sum(labels <= pod.metadata.labels.items() for pod in pods),
        ready_replicas=sum(pod.is_ready for pod in pods),
        available_replicas=sum(wait == 0 for wait in waits),
        observed_generation=replica_set.metadata.generation,
        conditions=_conditions(replica_set.status.conditions, failure, now),
    )
    return status, min((wait for wait in waits if wait), default=None)


def _conditions(old: list[Condition], failure: Failure | None, now: datetime) -> list[Condition]:
    others = [c for c in old if c.type != "ReplicaFailure"]
    if failure is None:
        return others
    before = find_condition(old, "ReplicaFailure")
    since = before.last_transition_time if before is not None and before.is_true else None
    new = Condition(
        type="ReplicaFailure",
        status="True",
        reason=failure.reason,
        message=failure.message,
        last_transition_time=since or format_rfc3339(now),
    )
    return [*others, new]
