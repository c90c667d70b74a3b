"""Evict pods by the taints of their nodes: the shell around `plan`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pybrix.api.core import Node, Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.base.clock import Clock
from pybrix.cluster.workloads.tainteviction.plan import decide
from pybrix.runtime.actions import Plan
from pybrix.runtime.controller import Controller, Watches
from pybrix.runtime.manager import Manager

BY_NODE = "tainteviction-node"


class TaintEvictionReconciler:
    """Look at a pod when it comes to a node, and when the node's taints change."""

    def __init__(self, manager: Manager, clock: Clock) -> None:
        self._clock = clock
        self._pods = manager.informer(Pod)
        self._nodes = manager.informer(Node)
        self._pods.add_index(BY_NODE, lambda pod: [pod.spec.node_name] if pod.spec.node_name else [])
        self._due: dict[ObjectKey, tuple[Uid, datetime]] = {}
        """When pods are to go that stand a taint for a time. As upstream, a new process counts from its start."""

    def controller(self) -> Controller:
        return Controller(
            "tainteviction",
            self.reconcile,
            sources=[
                Watches(self._pods, lambda pod: [pod.key], when=_is_elsewhere_or_other),
                Watches(self._nodes, self._pods_on, when=lambda old, new: old.spec.taints != new.spec.taints),
            ],
        )

    async def reconcile(self, key: ObjectKey) -> Plan | None:
        pod = self._pods.get(key)
        uid, due = self._due.pop(key, (None, None))
        node = self._nodes.get(ObjectKey("", pod.spec.node_name)) if pod is not None else None
        if pod is None or node is None:
            return None
        decision = decide(pod, node.spec.taints, due if uid == pod.uid else None, self._clock.now())
        if decision.due is not None:
            self._due[key] = (pod.uid, decision.due)
        return decision.plan

    def _pods_on(self, node: Node) -> Iterable[ObjectKey]:
        return [pod.key for pod in self._pods.by_index(BY_NODE, node.metadata.name)]


def _is_elsewhere_or_other(old: Pod, new: Pod) -> bool:
    return (old.uid, old.spec.node_name, old.spec.tolerations) != (new.uid, new.spec.node_name, new.spec.tolerations)
