"""What the stand-in for KubeRay sees in one pass: a RayCluster and its pods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pybrix.api.core import Pod
from pybrix.api.ray import GROUP, HEAD, NODE_TYPE, WORKER, RayCluster, WorkerGroup
from pybrix.cluster.workloads.pods import is_active


@dataclass(frozen=True, slots=True)
class Observed:
    """One RayCluster and the pods that it controls."""

    cluster: RayCluster
    pods: tuple[Pod, ...]
    ray: str
    """Path of the program `ray`; empty: this machine has none."""
    has_service: bool = False
    """Whether the Service of the head exists."""
    is_settled: bool = True
    """Whether the cache shows every creation and deletion of earlier passes."""

    @property
    def head(self) -> Pod | None:
        """Return the head that stays, if there is one."""
        return next((p for p in self.pods if is_head(p) and is_active(p)), None)

    def workers(self, group: str = "") -> tuple[Pod, ...]:
        """Return the workers that stay, of a group or of all."""
        found = (p for p in self.pods if p.metadata.labels.get(NODE_TYPE) == WORKER and is_active(p))
        return tuple(p for p in found if not group or p.metadata.labels.get(GROUP) == group)


def observe(
    cluster: RayCluster, pods: Iterable[Pod], ray: str, *, has_service: bool = False, is_settled: bool = True
) -> Observed:
    ordered = tuple(sorted(pods, key=lambda pod: pod.metadata.name))
    return Observed(cluster, ordered, ray, has_service, is_settled)


def is_head(pod: Pod) -> bool:
    return pod.metadata.labels.get(NODE_TYPE) == HEAD


def is_ray_up(pod: Pod) -> bool:
    """Say whether Ray itself runs in a pod: its container is the first. Others may wait for the whole cluster."""
    name = pod.spec.containers[0].name if pod.spec.containers else ""
    return bool(pod.status.pod_ip) and any(s.name == name and s.ready for s in pod.status.container_statuses)


def wanted_workers(cluster: RayCluster, group: WorkerGroup) -> int:
    """Return how many pods a group is to have: `replicas` within its bounds, of `numOfHosts` pods each."""
    if cluster.spec.suspend or group.suspend:
        return 0
    replicas = max(group.min_replicas or 0, group.replicas or 0)
    if group.max_replicas is not None:
        replicas = min(replicas, group.max_replicas)
    return max(0, replicas) * max(1, group.num_of_hosts)
