"""Empty namespaces that are being deleted: the shell around `plan`, on the cluster's own store."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import structlog

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.cluster.store.history import Change, ChangeType
from pybrix.cluster.store.store import Store
from pybrix.cluster.workloads.namespaces.plan import FINALIZER, Item, observe, plan, read_item
from pybrix.cluster.workloads.storeloop import Objects, StoreLoop
from pybrix.kube.errors import NotFound

NAMESPACES = "namespaces"

_log = structlog.get_logger(controller="namespaces")


class NamespaceDeletion:
    """Delete what is in a terminating namespace, then its finalizer."""

    def __init__(self, store: Store, objects: Objects, clock: Clock) -> None:
        self._store = store
        self._objects = objects
        self._clock = clock
        self._terminating: set[str] = set()

    def start(self) -> Iterable[str]:
        self._terminating = {
            stored.key.name for stored in self._store.list(NAMESPACES) if "deletionTimestamp" in stored.data["metadata"]
        }
        return sorted(self._terminating)

    def observe(self, change: Change) -> Iterable[str]:
        stored = change.object
        if stored.resource != NAMESPACES:
            return [stored.key.namespace] if stored.key.namespace in self._terminating else []
        if change.type is ChangeType.DELETED or "deletionTimestamp" not in stored.data["metadata"]:
            self._terminating.discard(stored.key.name)
            return []
        self._terminating.add(stored.key.name)
        return [stored.key.name]

    def work(self, key: str) -> float | None:
        stored = self._store.get(NAMESPACES, ObjectKey("", key))
        if stored is None:
            return None
        decided = plan(observe(stored.data, self._items(key)), self._clock.now())
        for item in decided.remove:
            self._remove(item)
        if decided.conditions is not None:
            status = {"status": {"conditions": msgspec.to_builtins(list(decided.conditions))}}
            self._objects.patch(NAMESPACES, stored.key, status, subresource="status")
        if decided.is_done:
            spec = {**stored.data.get("spec", {})}
            spec["finalizers"] = [f for f in spec.get("finalizers", ()) if f != FINALIZER]
            self._objects.update(NAMESPACES, {**stored.data, "spec": spec}, subresource="finalize")
            _log.info("namespace is empty and gone", key=key)
        return None

    def _items(self, namespace: str) -> tuple[Item, ...]:
        return tuple(
            read_item(resource, stored.data)
            for resource in self._store.resources()
            for stored in self._store.list(resource, namespace)
        )

    def _remove(self, item: Item) -> None:
        try:
            self._objects.delete(item.resource, item.key, uid=item.uid)
        except NotFound:
            return
        _log.info("remove", resource=item.resource, key=str(item.key), why=f"{item.key.namespace} is being deleted")


def namespace_loop(store: Store, objects: Objects, clock: Clock) -> StoreLoop[str]:
    """Return the loop that deletes namespaces."""
    return StoreLoop("namespaces", store, NamespaceDeletion(store, objects, clock))
