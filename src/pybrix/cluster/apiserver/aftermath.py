"""What follows from a write: a namespace is furnished, a definition is served, and withdrawn when it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.furniture import FURNITURE, furnish
from pybrix.cluster.apiserver.kinds.definitions import CLEANUP_FINALIZER, is_established
from pybrix.cluster.apiserver.options import DeleteOptions
from pybrix.cluster.apiserver.resources import CRD_RESOURCE, ResourceType
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store


class Writer(Protocol):
    """Whoever creates, patches and deletes objects."""

    store: Store
    catalog: Catalog

    def create(self, resource: str, data: Mapping[str, Any]) -> dict[str, Any]: ...

    def patch(self, resource: str, key: ObjectKey, patch: Any) -> dict[str, Any]: ...

    def delete_object(self, served: ResourceType, key: ObjectKey, options: DeleteOptions) -> Any: ...


class Aftermath:
    """Does what follows from writes. `root_ca` is what every namespace is furnished with; empty: nothing."""

    def __init__(self, writer: Writer, root_ca: str) -> None:
        self._writer = writer
        self._store = writer.store
        self._catalog = writer.catalog
        self._root_ca = root_ca

    def after_write(self, served: ResourceType, stored: Stored) -> None:
        if served.storage == "namespaces":
            self.furnish(stored)
        elif served.storage == CRD_RESOURCE:
            if is_established(stored.data):
                self._catalog.serve_definition(stored.data)
            if stored.data["metadata"].get("deletionTimestamp"):
                self.clean_definition(stored)

    def after_removal(self, served: ResourceType, gone: Stored) -> None:
        if FURNITURE.get(served.storage) == gone.key.name:
            namespace = self._store.get("namespaces", ObjectKey("", gone.key.namespace))
            if namespace is not None:
                self.furnish(namespace)
        elif served.storage == CRD_RESOURCE:
            self._catalog.withdraw_definition(gone.key.name)
        elif served.is_custom:
            crd = self._store.get(CRD_RESOURCE, ObjectKey("", served.storage))
            if crd is not None and crd.data["metadata"].get("deletionTimestamp"):
                self.clean_definition(crd)

    def furnish(self, namespace: Stored) -> None:
        """Give a namespace what every one has."""
        furnish(self._writer, namespace, self._root_ca)

    def clean_definition(self, crd: Stored) -> None:
        """Delete the objects of a definition that is being deleted; with the last of them it goes itself."""
        served = self._catalog.by_storage(crd.key.name)
        if served is not None:
            for stored in self._store.list(crd.key.name):
                if not stored.data["metadata"].get("deletionTimestamp"):
                    self._writer.delete_object(served, stored.key, DeleteOptions())
        current = self._store.get(CRD_RESOURCE, crd.key)
        if current is None or self._store.count(crd.key.name):
            return
        finalizers = [f for f in current.data["metadata"].get("finalizers", []) if f != CLEANUP_FINALIZER]
        if len(finalizers) != len(current.data["metadata"].get("finalizers", [])):
            self._writer.patch(CRD_RESOURCE, crd.key, {"metadata": {"finalizers": finalizers}})
