"""Collect what its owners leave behind: the shell around `plan`, on the cluster's own store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from pybrix.api.identity import Uid
from pybrix.api.scheme import kind_class
from pybrix.cluster.store.history import Change, ChangeType
from pybrix.cluster.store.store import Store
from pybrix.cluster.workloads.garbage.plan import Finish, Move, Remove, Unblock, Unlink, plan
from pybrix.cluster.workloads.garbage.state import Graph, Node, read_node
from pybrix.cluster.workloads.storeloop import Objects, StoreLoop
from pybrix.kube.errors import NotFound

CRDS = "customresourcedefinitions.apiextensions.k8s.io"

_log = structlog.get_logger(controller="garbage")


class GarbageCollector:
    """Keep the ownership graph of the whole store and act on it. Nothing is kept that a restart would lose."""

    def __init__(self, store: Store, objects: Objects) -> None:
        self._store = store
        self._objects = objects
        self._graph = Graph()

    def start(self) -> Iterable[Uid]:
        self._graph = Graph(read_node(stored.resource, stored.data) for stored in self._store.iterate())
        return self._graph.uids()

    def observe(self, change: Change) -> Iterable[Uid]:
        if change.type is ChangeType.DELETED:
            return self._graph.affected(self._graph.drop(change.object.uid), None)
        new = read_node(change.object.resource, change.object.data)
        return self._graph.affected(self._graph.put(new), new)

    def work(self, key: Uid) -> float | None:
        for move in plan(self._graph, key, self._is_cluster_kind):
            node = move.node
            try:
                self._apply(move)
            except NotFound:
                # The store is newer than the graph within one pass; the change that says so is on its way.
                continue
            _log.info(type(move).__name__.lower(), kind=node.kind, key=str(node.key), why=move.why)
        return None

    def _apply(self, move: Move) -> None:
        node = move.node
        match move:
            case Remove():
                self._objects.delete(node.resource, node.key, uid=node.uid, propagation=move.propagation)
            case Unlink():
                references = self._read(node, "ownerReferences")
                self._write(node, {"ownerReferences": [r for r in references if r.get("uid") not in move.owners]})
            case Unblock():
                references = self._read(node, "ownerReferences")
                self._write(node, {"ownerReferences": [{**r, "blockOwnerDeletion": False} for r in references]})
            case Finish():
                finalizers = self._read(node, "finalizers")
                self._write(node, {"finalizers": [f for f in finalizers if f != move.finalizer]})

    def _read(self, node: Node, field: str) -> list[Any]:
        stored = self._store.by_uid(node.uid)
        return list((stored.data["metadata"].get(field) or ()) if stored is not None else ())

    def _write(self, node: Node, metadata: Mapping[str, Any]) -> None:
        # With its UID a patch can meet no other object of the name.
        if self._store.by_uid(node.uid) is not None:
            self._objects.patch(node.resource, node.key, {"metadata": {"uid": node.uid, **metadata}})

    def _is_cluster_kind(self, group: str, kind: str) -> bool:
        for crd in self._store.list(CRDS):
            spec = crd.data.get("spec") or {}
            if spec.get("group") == group and (spec.get("names") or {}).get("kind") == kind:
                return bool(spec.get("scope") == "Cluster")
        # Built-in kinds have one served version each.
        cls = kind_class(f"{group}/v1" if group else "v1", kind)
        return cls is not None and not cls.gvk.is_namespaced


def garbage_loop(store: Store, objects: Objects) -> StoreLoop[Uid]:
    """Return the loop that collects garbage."""
    return StoreLoop("garbage", store, GarbageCollector(store, objects))
