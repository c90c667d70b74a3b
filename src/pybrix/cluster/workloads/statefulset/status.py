"""Compute a StatefulSet's status from the pods it has. Pure."""

from __future__ import annotations

from datetime import datetime

from pybrix.api import names
from pybrix.api.apps import StatefulSetStatus
from pybrix.api.core import Pod
from pybrix.cluster.workloads.pods import available_in_s
from pybrix.cluster.workloads.statefulset.revisions import Revisions
from pybrix.cluster.workloads.statefulset.state import Observed, is_available, is_healthy, rolling


def next_status(
    seen: Observed, revisions: Revisions, now: datetime, *, is_collision: bool = False
) -> tuple[StatefulSetStatus, float | None]:
    """Return the status, and in how many seconds the next ready pod becomes available (None: none is waiting).

    Counts what was observed. When every wanted pod, and no other, is ready and of the present revision, the rollout is
    done and the present revision becomes the current one.

    Args:
        is_collision: whether the name of the present revision turned out to be another's.
    """
    stateful_set = seen.stateful_set
    pods = seen.pods
    current, update = revisions.current.name, revisions.update.name
    staying = [pod for pod in pods.values() if not pod.metadata.is_terminating]
    updated = sum(_revision(pod) == update for pod in staying)
    healthy = [pod for pod in pods.values() if is_healthy(pod)]
    is_done = sorted(pods) == list(seen.wanted) and len(healthy) == updated == len(pods)
    # Without pods, or with those that are replaced by hand alone, there is nothing to roll.
    if is_done and rolling(stateful_set) is not None:
        current = update
    collisions = stateful_set.status.collision_count
    waits = [available_in_s(pod, stateful_set.spec.min_ready_seconds, now) for pod in healthy]
    status = StatefulSetStatus(
        observed_generation=stateful_set.metadata.generation,
        replicas=len(pods),
        ready_replicas=len(healthy),
        available_replicas=sum(is_available(stateful_set, pod, now) for pod in pods.values()),
        current_replicas=sum(_revision(pod) == current for pod in staying),
        updated_replicas=updated,
        current_revision=current,
        update_revision=update,
        collision_count=(collisions or 0) + 1 if is_collision else collisions or 0,
        conditions=stateful_set.status.conditions,
    )
    return status, min((wait for wait in waits if wait), default=None)


def _revision(pod: Pod) -> str:
    return pod.metadata.labels.get(names.CONTROLLER_REVISION_HASH, "")
