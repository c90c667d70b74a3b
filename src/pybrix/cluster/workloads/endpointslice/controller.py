"""Keep the EndpointSlices of Services: the shell around `plan`."""

from __future__ import annotations

from pybrix.api.core import EndpointSlice, Namespace, Node, Pod, Service
from pybrix.api.identity import ObjectKey
from pybrix.cluster.workloads.endpointslice.plan import plan
from pybrix.cluster.workloads.endpointslice.state import Observed, is_kept_here, is_worked_on, service_of
from pybrix.runtime.actions import Create, Delete, Patch
from pybrix.runtime.controller import Controller, For, Result, Watches
from pybrix.runtime.lookups import (
    BY_LABEL,
    BY_NAMESPACE,
    is_ending,
    label_values,
    labelled,
    namespace_values,
)
from pybrix.runtime.manager import Manager
from pybrix.runtime.ownwrites import LAG_S, OwnWrites

ZONE = "topology.kubernetes.io/zone"


class EndpointSliceReconciler:
    """Observe from shared caches, plan, and carry it out."""

    def __init__(self, manager: Manager) -> None:
        self._applier = manager.applier
        self._services = manager.informer(Service)
        self._pods = manager.informer(Pod)
        self._slices = manager.informer(EndpointSlice)
        self._nodes = manager.informer(Node)
        self._namespaces = manager.informer(Namespace)
        self._expectations = manager.expectations(EndpointSlice)
        self._writes = OwnWrites(manager.client, self._slices)
        self._services.add_index(BY_NAMESPACE, namespace_values)
        self._slices.add_index(BY_NAMESPACE, namespace_values)
        self._pods.add_index(BY_LABEL, label_values)

    def controller(self) -> Controller:
        return Controller(
            "endpointslice",
            self.reconcile,
            sources=[
                For(self._services),
                Watches(self._pods, self._who_selects, when=is_other_endpoint),
                Watches(self._slices, self._whose),
                Watches(self._nodes, self._everybody, when=lambda old, new: _zone(old) != _zone(new)),
            ],
            reads=[self._namespaces],
            concurrency=2,
        )

    async def reconcile(self, key: ObjectKey) -> Result | None:
        service = self._services.get(key)
        if service is None or not is_worked_on(service) or is_ending(self._namespaces, key.namespace):
            return None
        every = self._slices.by_index(BY_NAMESPACE, key.namespace)
        slices = {s.key: s for s in every if is_kept_here(s) and service_of(s) == key.name}
        is_visible = all(self._writes.is_visible(s.uid) for s in slices.values())
        if not (is_visible and self._expectations.is_settled(service.uid)):
            return Result(LAG_S)
        actions = plan(
            Observed(
                service,
                pods=tuple(labelled(self._pods, key.namespace, service.spec.selector)),
                slices=tuple(slices.values()),
                taken=frozenset(s.metadata.name for s in every),
                zones={n.metadata.name: zone for n in self._nodes.list() if (zone := _zone(n))},
            )
        ).actions
        await self._applier.apply([a for a in actions if isinstance(a, Create)], controller="endpointslice")
        for action in actions:
            if isinstance(action, Patch):
                await self._writes.patch(slices[action.key], action.patch, action.why)
        await self._applier.apply([a for a in actions if isinstance(a, Delete)], controller="endpointslice")
        return None

    def _who_selects(self, pod: Pod) -> list[ObjectKey]:
        labels = pod.metadata.labels.items()
        return [
            s.key
            for s in self._services.by_index(BY_NAMESPACE, pod.metadata.namespace)
            if s.spec.selector and s.spec.selector.items() <= labels
        ]

    def _whose(self, piece: EndpointSlice) -> list[ObjectKey]:
        name = service_of(piece)
        return [ObjectKey(piece.metadata.namespace, name)] if name and is_kept_here(piece) else []

    def _everybody(self, _node: Node) -> list[ObjectKey]:
        return [service.key for service in self._services.list()]


def is_other_endpoint(old: Pod, new: Pod) -> bool:
    """Say whether a change of a pod can change an endpoint."""
    return _facts(old) != _facts(new)


def _facts(pod: Pod) -> tuple[object, ...]:
    return (
        pod.metadata.labels,
        pod.metadata.is_terminating,
        pod.is_ready,
        pod.is_finished,
        pod.status.pod_ip,
        pod.spec.node_name,
    )


def _zone(node: Node) -> str:
    return node.metadata.labels.get(ZONE, "")
