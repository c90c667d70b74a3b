"""The stored objects as the API's resources: read and shown in any served version, written in the one that is stored.

What follows from a write is told to whoever set `aftermath`.
"""

from __future__ import annotations

from typing import Any, Protocol

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.failures import no_such_path, not_found, too_large
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.errors import ObjectTooLarge
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store

Data = dict[str, Any]


class Aftermath(Protocol):
    """Does what follows from a write."""

    def after_write(self, served: ResourceType, stored: Stored) -> None: ...

    def after_removal(self, served: ResourceType, gone: Stored) -> None: ...


class Records:
    """Objects of a store, addressed by the resources of a catalog."""

    def __init__(self, store: Store, catalog: Catalog, clock: Clock) -> None:
        self.store = store
        self.catalog = catalog
        self.clock = clock
        self.aftermath: Aftermath | None = None

    def now(self) -> str:
        """Return the time as objects hold it."""
        return format_rfc3339(self.clock.now())

    def served(self, resource: str) -> ResourceType:
        """Return the storage version of `plural.group`. Raises `NotFound`."""
        found = self.catalog.by_storage(resource)
        if found is None:
            raise no_such_path()
        return found

    def read(self, served: ResourceType, key: ObjectKey) -> Stored:
        """Return the object. Raises `NotFound`."""
        stored = self.store.get(served.storage, key)
        if stored is None:
            raise not_found(served.plural, served.group, key.name)
        return stored

    def view(self, served: ResourceType, data: Data) -> Data:
        """Return the stored form in a served version: its name, and of a custom resource its fields and defaults."""
        if served.custom is not None and int(data["metadata"].get("resourceVersion") or 0) <= served.settled_revision:
            data = served.custom.as_read(data)
        if data.get("apiVersion") == served.api_version:
            return data
        if served.conversion is not None:
            return served.conversion.from_stored(data, served.api_version)
        return {**data, "apiVersion": served.api_version}

    def add(self, served: ResourceType, key: ObjectKey, data: Data) -> Data:
        """Store a new object and return it as stored, in the served version."""
        try:
            stored = self.store.create(served.storage, key, self._storage_form(served, data))
        except ObjectTooLarge as err:
            raise too_large(err.limit_bytes) from err
        return self._written(served, stored)

    def change(self, served: ResourceType, before: Stored, data: Data) -> Data:
        """Store an object's next state and return it, in the served version."""
        try:
            stored = self.store.update(
                served.storage, before.key, self._storage_form(served, data), expected=before.revision
            )
        except ObjectTooLarge as err:
            raise too_large(err.limit_bytes) from err
        return self._written(served, stored)

    def remove(self, served: ResourceType, before: Stored, data: Data) -> Data:
        """Remove an object whose last form is `data`; return that, in the served version."""
        gone = self.store.delete(
            served.storage, before.key, expected=before.revision, data=self._storage_form(served, data)
        )
        if self.aftermath is not None:
            self.aftermath.after_removal(served, gone)
        return self.view(served, gone.data)

    def _written(self, served: ResourceType, stored: Stored) -> Data:
        if self.aftermath is not None:
            self.aftermath.after_write(served, stored)
        return self.view(served, stored.data)

    def _storage_form(self, served: ResourceType, data: Data) -> Data:
        return self.view(self.catalog.by_storage(served.storage) or served, data)
