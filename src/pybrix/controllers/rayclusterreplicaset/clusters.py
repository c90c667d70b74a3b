"""Facts about a RayCluster that decisions rest on, read from what KubeRay says. Pure.

KubeRay's conditions need its feature gate RayClusterStatusConditions, which is on by default since 1.3.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pybrix.api import names
from pybrix.api.conditions import StandardCondition
from pybrix.api.meta import find_condition
from pybrix.api.ray import HEAD_READY, PROVISIONED, RayCluster
from pybrix.base.clock import parse_rfc3339


def is_leaving(cluster: RayCluster) -> bool:
    """Say whether a cluster is on its way out: it drains, or it is being deleted."""
    return cluster.metadata.is_terminating or is_draining(cluster)


def is_draining(cluster: RayCluster) -> bool:
    return names.DRAINING_SINCE in cluster.metadata.annotations


def was_provisioned(cluster: RayCluster) -> bool:
    """Say whether all pods of the cluster were ready once."""
    return _is_true(cluster, PROVISIONED)


def is_ready(cluster: RayCluster) -> bool:
    """Say whether the head and every worker are ready."""
    status = cluster.status
    return (
        _is_true(cluster, PROVISIONED)
        and _is_true(cluster, HEAD_READY)
        and status.ready_worker_replicas == status.desired_worker_replicas
    )


def is_failed(cluster: RayCluster) -> bool:
    """Say whether a cluster that was ready is not any more. One that only starts is not failed."""
    return was_provisioned(cluster) and not is_ready(cluster)


def available_in_s(cluster: RayCluster, min_ready_seconds: int, now: datetime) -> float | None:
    """Return in how many seconds the cluster counts as available: 0 when it does, None while it is not ready."""
    if not is_ready(cluster):
        return None
    times = [t for c in cluster.status.conditions if c.type in (PROVISIONED, HEAD_READY) and (t := _since(c))]
    if min_ready_seconds <= 0 or not times:
        return 0.0
    return max(0.0, (max(times) + timedelta(seconds=min_ready_seconds) - now).total_seconds())


def unchanged_since(cluster: RayCluster) -> datetime | None:
    """Return when KubeRay last said something new about the cluster: while it does, it is at work on it.

    None when it never gave a time.
    """
    times = [t for c in cluster.status.conditions if (t := _since(c))]
    if cluster.status.last_update_time:
        times.append(parse_rfc3339(cluster.status.last_update_time))
    return max(times, default=None)


def _is_true(cluster: RayCluster, type_: str) -> bool:
    condition = find_condition(cluster.status.conditions, type_)
    return condition is not None and condition.is_true


def _since(condition: StandardCondition) -> datetime | None:
    return parse_rfc3339(condition.last_transition_time) if condition.last_transition_time else None
