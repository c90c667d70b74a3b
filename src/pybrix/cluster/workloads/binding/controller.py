"""Bind waiting pods to nodes: the shell around `plan`."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import structlog

from pybrix.api.core import Namespace, Node, PersistentVolumeClaim, Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Condition, find_condition, set_condition
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.cluster.workloads.binding.plan import Bind, Refuse, plan
from pybrix.cluster.workloads.binding.state import is_node_ready, is_waiting, observe
from pybrix.kube.errors import NotFound, StatusError
from pybrix.runtime.actions import Action, Emit, PatchStatus
from pybrix.runtime.controller import Controller, Result, Watches
from pybrix.runtime.manager import Manager

CLUSTER = ObjectKey("", "cluster")
"""The one key: a placement depends on all nodes and all pods."""

_log = structlog.get_logger(controller="binding")


class BindingReconciler:
    """Place all waiting pods in one pass."""

    def __init__(self, manager: Manager, clock: Clock) -> None:
        self._client = manager.client
        self._applier = manager.applier
        self._clock = clock
        self._pods = manager.informer(Pod)
        self._nodes = manager.informer(Node)
        self._namespaces = manager.informer(Namespace)
        self._claims = manager.informer(PersistentVolumeClaim)
        self._assumed: dict[Uid, str] = {}

    def controller(self) -> Controller:
        return Controller(
            "binding",
            self.reconcile,
            sources=[
                Watches(self._pods, _cluster, when=is_placement_changed),
                Watches(self._nodes, _cluster, when=is_room_changed),
                Watches(self._claims, _cluster, when=lambda _old, _new: False),
            ],
            reads=[self._namespaces],
        )

    async def reconcile(self, key: ObjectKey) -> Result | None:
        for uid in list(self._assumed):
            pod = self._pods.by_uid(uid)
            if pod is None or pod.spec.node_name:
                del self._assumed[uid]
        seen = observe(
            self._nodes.list(),
            self._pods.list(),
            self._assumed,
            namespaces={n.metadata.name: n.metadata.labels for n in self._namespaces.list()},
            claims=frozenset(claim.key for claim in self._claims.list()),
        )
        if not seen.waiting:
            return None
        failed: StatusError | None = None
        for placement in plan(seen):
            try:
                match placement:
                    case Bind():
                        await self._bind(placement)
                    case Refuse():
                        await self._applier.apply(self._refusal(placement), controller="binding")
            except NotFound:
                _log.info("pod went before it was placed", key=str(placement.pod.key))
            except StatusError as err:
                # One pod that the server refuses must not keep the others waiting.
                _log.info("pod not placed", key=str(placement.pod.key), error=str(err))
                failed = failed or err
        if failed is not None:
            raise failed
        return None

    async def _bind(self, placement: Bind) -> None:
        pod = placement.pod
        await self._client.create_raw(
            {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": placement.node},
            }
        )
        self._assumed[pod.uid] = placement.node
        told = f"Successfully assigned {pod.key} to {placement.node}"
        await self._applier.apply((Emit(pod, "Scheduled", told),), controller="binding")

    def _refusal(self, placement: Refuse) -> list[Action]:
        """Say why a pod waits: once, until there is something else to say."""
        pod = placement.pod
        old = find_condition(pod.status.conditions, "PodScheduled")
        if old is not None and (old.status, old.reason, old.message) == ("False", "Unschedulable", placement.why):
            return []
        new = Condition(type="PodScheduled", status="False", reason="Unschedulable", message=placement.why)
        conditions = set_condition(pod.status.conditions, new, format_rfc3339(self._clock.now()))
        status = {"conditions": msgspec.to_builtins(conditions)}
        version = pod.metadata.resource_version
        return [
            PatchStatus(Pod, pod.key, status, placement.why, resource_version=version),
            Emit(pod, "FailedScheduling", placement.why, type="Warning"),
        ]


def is_placement_changed(old: Pod, new: Pod) -> bool:
    """Say whether a pod now needs a node, or leaves room on one."""
    # A pod that got its node, or other labels, may be one that others want to be near to or far from.
    is_other_neighbour = (old.spec.node_name, old.metadata.labels) != (new.spec.node_name, new.metadata.labels)
    is_other_need = (is_waiting(new) and not is_waiting(old)) or _wants(old) != _wants(new)
    return is_other_need or is_other_neighbour or old.is_finished != new.is_finished


def is_room_changed(old: Node, new: Node) -> bool:
    """Say whether a node takes other pods than before; heartbeats do not count."""
    return _offer(old) != _offer(new)


def _wants(pod: Pod) -> tuple[object, ...]:
    return pod.spec.node_selector, pod.spec.tolerations, [c.resources for c in pod.spec.containers]


def _offer(node: Node) -> tuple[object, ...]:
    status = node.status
    taints = node.spec.taints
    return (
        is_node_ready(node),
        node.spec.unschedulable,
        taints,
        node.metadata.labels,
        status.allocatable,
        status.capacity,
    )


def _cluster(_obj: Pod | Node | PersistentVolumeClaim) -> Iterable[ObjectKey]:
    return (CLUSTER,)
