"""Compute the status of a RayClusterReplicaSet from the clusters it has. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from pybrix.api.conditions import StandardCondition
from pybrix.api.meta import set_condition
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet, RayClusterReplicaSetStatus
from pybrix.base.clock import format_rfc3339
from pybrix.controllers.rayclusterreplicaset.clusters import available_in_s, is_ready
from pybrix.controllers.rayclusterreplicaset.state import Observed
from pybrix.controllers.unsupported import with_unsupported

FAILURE = "ReplicaFailure"
READY = "Ready"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why clusters are not created or deleted: reason FailedCreate, FailedDelete, KubeRayMissing or InvalidSpec."""

    reason: str
    message: str


def next_status(
    seen: Observed, failure: Failure | None, now: datetime
) -> tuple[RayClusterReplicaSetStatus, float | None]:
    """Return the status, and in how many seconds the next ready cluster becomes available (None: none is waiting).

    Clusters on their way out are not counted; clusters of this pass are, when the cache shows them.
    """
    replica_set = seen.replica_set
    template = replica_set.spec.template
    labels = template.metadata.labels.items() if template is not None else {}.items()
    clusters = seen.staying
    waits = [available_in_s(cluster, replica_set.spec.min_ready_seconds, now) for cluster in clusters]
    status = RayClusterReplicaSetStatus(
        replicas=len(clusters),
        fully_labeled_replicas=sum(labels <= cluster.metadata.labels.items() for cluster in clusters),
        ready_replicas=sum(map(is_ready, clusters)),
        available_replicas=sum(wait == 0 for wait in waits),
        observed_generation=replica_set.metadata.generation,
        conditions=next_conditions(seen.replica_set, failure, now),
    )
    return status, min((wait for wait in waits if wait), default=None)


def next_conditions(
    replica_set: RayClusterReplicaSet, failure: Failure | None, now: datetime
) -> list[StandardCondition]:
    """Return the conditions with `ReplicaFailure` as it is now: True, or not there."""
    # `Ready` is what is written about kinds that have no controller.
    conditions = [c for c in replica_set.status.conditions if c.type not in (READY, FAILURE)]
    if failure is not None:
        new = StandardCondition(
            type=FAILURE,
            status="True",
            reason=failure.reason,
            message=failure.message,
            observed_generation=replica_set.metadata.generation,
        )
        conditions = [*conditions, *set_condition(_of_type(replica_set, FAILURE), new, format_rfc3339(now))]
    return with_unsupported(conditions, StandardCondition, replica_set, format_rfc3339(now))


def failed_status(replica_set: RayClusterReplicaSet, failure: Failure, now: datetime) -> RayClusterReplicaSetStatus:
    """Return the status as it was, with a failure: while RayClusters cannot be read, nothing is known of them."""
    status = replica_set.status
    conditions = next_conditions(replica_set, failure, now)
    return msgspec.structs.replace(status, replicas=status.replicas or 0, conditions=conditions)


def _of_type(replica_set: RayClusterReplicaSet, type_: str) -> list[StandardCondition]:
    return [c for c in replica_set.status.conditions if c.type == type_]
