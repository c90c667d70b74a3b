"""Decide which pods of a RayCluster come and go: the head first, and workers when Ray runs there. Pure."""

from __future__ import annotations

from itertools import count

from pybrix.api.core import Pod
from pybrix.api.ray import GROUP, RayCluster, WorkerGroup
from pybrix.cluster.workloads.raycluster.render import (
    HEAD_ADDRESS,
    render_head,
    render_service,
    render_worker,
)
from pybrix.cluster.workloads.raycluster.state import Observed, is_head, is_ray_up, wanted_workers
from pybrix.runtime.actions import Action, Create, Delete, Emit, Plan

NO_RAY = "this machine has no Ray: pip install 'pybrix[ray]' where pybrix is installed"
AUTOSCALER_IGNORED = "autoscalerOptions and enableInTreeAutoscaling have no effect here: set replicas of the groups"


def plan(seen: Observed) -> Plan:
    """Return the actions that bring the pods to what the cluster asks for.

    Names are fixed, so nothing is made twice; a pod whose name is still taken by one that ends is made when that is
    gone. Pods of a cluster that is being deleted end by garbage collection.
    """
    cluster = seen.cluster
    if cluster.metadata.is_terminating or not seen.is_settled or not seen.ray:
        return Plan()
    actions: list[Action] = []
    is_new = cluster.status.observed_generation < cluster.metadata.generation
    if is_new and (cluster.spec.enable_in_tree_autoscaling or cluster.spec.autoscaler_options):
        actions.append(Emit(cluster, "AutoscalerIgnored", AUTOSCALER_IGNORED, type="Warning"))
    if cluster.spec.suspend:
        why = "the cluster is suspended"
        return Plan((*actions, *(_delete(cluster, pod, why) for pod in seen.pods if not pod.metadata.is_terminating)))
    if not seen.has_service:
        actions.append(Create(render_service(cluster), "the head has no Service yet", owner=cluster))
    ended = [pod for pod in seen.pods if pod.is_finished and not pod.metadata.is_terminating]
    actions += [_delete(cluster, pod, f"pod {pod.metadata.name} has ended") for pod in ended]
    head = seen.head
    if head is None:
        if not any(map(is_head, seen.pods)):
            actions.append(Create(render_head(cluster, seen.ray), "the cluster has no head", owner=cluster))
        return Plan(tuple(actions))
    for group in cluster.spec.worker_group_specs:
        actions += _plan_group(seen, group, head)
    groups = {group.group_name for group in cluster.spec.worker_group_specs}
    actions += [
        _delete(cluster, pod, "its group is no longer in the spec")
        for pod in seen.workers()
        if pod.metadata.labels.get(GROUP) not in groups
    ]
    return Plan(tuple(actions))


def _plan_group(seen: Observed, group: WorkerGroup, head: Pod) -> list[Action]:
    cluster, joined = seen.cluster, _joined(head)
    actions: list[Action] = []
    staying: list[Pod] = []
    for pod in seen.workers(group.group_name):
        if pod.metadata.annotations.get(HEAD_ADDRESS) == joined or not head.status.pod_ip:
            staying.append(pod)
        else:
            actions.append(_delete(cluster, pod, "it was started for a head that is gone"))
    wanted = wanted_workers(cluster, group)
    why = f"{len(staying)}/{wanted} workers of group {group.group_name} exist"
    actions += [_delete(cluster, pod, why) for pod in staying[wanted:]]
    if len(staying) < wanted and is_ray_up(head):
        prefix = f"{cluster.metadata.name}-{group.group_name}-worker-"
        taken = {pod.metadata.name for pod in seen.pods}
        free = (n for n in count() if f"{prefix}{n}" not in taken)
        for _ in range(wanted - len(staying)):
            manifest = render_worker(cluster, group, next(free), joined, head.status.pod_ip, seen.ray)
            actions.append(Create(manifest, why, owner=cluster))
    return actions


def _joined(head: Pod) -> str:
    return f"{head.uid} {head.status.pod_ip}"


def _delete(cluster: RayCluster, pod: Pod, why: str) -> Delete:
    return Delete(Pod, pod.key, pod.uid, why, owner=cluster)
