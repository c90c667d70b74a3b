"""Compute the status of a RayCluster as KubeRay does with the feature gate RayClusterStatusConditions. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from pybrix.api.conditions import StandardCondition
from pybrix.api.core import Pod
from pybrix.api.meta import find_condition, set_condition
from pybrix.api.ray import HEAD_READY, PROVISIONED, READY, REPLICA_FAILURE, HeadInfo, RayClusterStatus
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.raycluster.plan import NO_RAY
from pybrix.cluster.workloads.raycluster.render import GCS_PORT, service_name
from pybrix.cluster.workloads.raycluster.state import Observed, wanted_workers


def next_status(seen: Observed, now: datetime) -> RayClusterStatus:
    """Return the status; `lastUpdateTime` moves only when anything else does."""
    cluster, old = seen.cluster, seen.cluster.status
    groups = cluster.spec.worker_group_specs
    workers, head = seen.workers(), seen.head
    ready = sum(pod.is_ready for pod in workers)
    desired = sum(wanted_workers(cluster, group) for group in groups)
    is_all_ready = head is not None and head.is_ready and ready == desired == len(workers)
    status = RayClusterStatus(
        state="suspended" if cluster.spec.suspend and not seen.pods else READY if is_all_ready else old.state,
        reason="" if seen.ray else NO_RAY,
        desired_worker_replicas=desired,
        min_worker_replicas=sum((g.min_replicas or 0) * max(1, g.num_of_hosts) for g in groups),
        max_worker_replicas=sum(
            (g.replicas or 0 if g.max_replicas is None else g.max_replicas) * max(1, g.num_of_hosts) for g in groups
        ),
        available_worker_replicas=sum(pod.status.phase == "Running" for pod in workers),
        ready_worker_replicas=ready,
        last_update_time=old.last_update_time,
        endpoints={"gcs-server": str(GCS_PORT)} if seen.has_service else {},
        head=_head_info(seen, head),
        observed_generation=cluster.metadata.generation,
        conditions=_conditions(seen, head, is_all_ready, format_rfc3339(now)),
    )
    if status != old:
        status = msgspec.structs.replace(status, last_update_time=format_rfc3339(now))
    return status


def _head_info(seen: Observed, head: Pod | None) -> HeadInfo | None:
    if head is None:
        return None
    name = service_name(seen.cluster) if seen.has_service else ""
    address = head.status.pod_ip
    return HeadInfo(pod_ip=address, pod_name=head.metadata.name, service_ip=address, service_name=name)


def _conditions(seen: Observed, head: Pod | None, is_all_ready: bool, now: str) -> list[StandardCondition]:
    conditions = set_condition(seen.cluster.status.conditions, _head_condition(head), now)
    provisioned = find_condition(conditions, PROVISIONED)
    if is_all_ready and (provisioned is None or not provisioned.is_true):
        text = "All Ray Pods are ready for the first time"
        conditions = set_condition(
            conditions, _condition(PROVISIONED, "True", "AllPodRunningAndReadyFirstTime", text), now
        )
    elif provisioned is None:
        text = "RayCluster Pods are being provisioned for first time"
        conditions = set_condition(
            conditions, _condition(PROVISIONED, "False", "RayClusterPodsProvisioning", text), now
        )
    if seen.ray:
        return [c for c in conditions if c.type != REPLICA_FAILURE]
    return set_condition(conditions, _condition(REPLICA_FAILURE, "True", "FailedCreateHeadPod", NO_RAY), now)


def _head_condition(head: Pod | None) -> StandardCondition:
    if head is None:
        return _condition(HEAD_READY, "False", "HeadPodNotFound", "Head Pod not found")
    if head.is_ready:
        return _condition(HEAD_READY, "True", "HeadPodRunningAndReady", "")
    found = find_condition(head.status.conditions, "Ready")
    if found is None or not found.reason:
        return _condition(HEAD_READY, "False", "ContainersNotReady", f"pod {head.metadata.name} is not ready")
    return _condition(HEAD_READY, "False", found.reason, found.message)


def _condition(type_: str, status: str, reason: str, message: str) -> StandardCondition:
    return StandardCondition(type=type_, status=status, reason=reason, message=message)
