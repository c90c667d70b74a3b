"""Operations on objects, as a Kubernetes API has them: create, replace, patch, delete, scale, bind.

Synchronous and complete in themselves: nothing else happens between reading and writing, so a patch never conflicts
with anyone but the client's own stale resourceVersion. HTTP routes and neighbours in the process share this one path.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from pybrix.api.identity import ObjectKey, Uid
from pybrix.base.clock import Clock
from pybrix.cluster.apiserver import admission
from pybrix.cluster.apiserver.access.authorizer import AllowAll, Authorizer
from pybrix.cluster.apiserver.aftermath import Aftermath
from pybrix.cluster.apiserver.application import Application
from pybrix.cluster.apiserver.bindings import bind
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.chain import AdmissionChain
from pybrix.cluster.apiserver.creation import Creation
from pybrix.cluster.apiserver.eviction import evict
from pybrix.cluster.apiserver.kinds.addresses import SERVICE_NETWORK
from pybrix.cluster.apiserver.kinds.definitions import is_established
from pybrix.cluster.apiserver.options import DeleteOptions, ListOptions, WriteOptions
from pybrix.cluster.apiserver.patching import patched
from pybrix.cluster.apiserver.records import Data, Records
from pybrix.cluster.apiserver.removal import Removal
from pybrix.cluster.apiserver.resources import CRD_RESOURCE, ResourceType
from pybrix.cluster.apiserver.subresources import print_scale
from pybrix.cluster.apiserver.updates import Updates
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store
from pybrix.kube.interface import PatchType


class Objects:
    """The cluster's objects behind the rules of its API.

    Args:
        root_ca: PEM by which pods trust the API server; every namespace has it in a ConfigMap. Empty: none has.
        service_network: the addresses that Services get.
        authorizer: what writers of roles may give; None: everything.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        *,
        clock: Clock,
        chance: random.Random,
        root_ca: str = "",
        service_network: IPv4Network = SERVICE_NETWORK,
        authorizer: Authorizer | None = None,
    ) -> None:
        self.store = store
        self.catalog = catalog
        self.service_network = service_network
        self.records = Records(store, catalog, clock)
        chain = AdmissionChain(store, authorizer or AllowAll())
        self._creation = Creation(self.records, chain, chance, service_network)
        self._updates = Updates(self.records, chain, self._creation)
        self._application = Application(self.records, self._creation, self._updates)
        self._removal = Removal(self.records, chain)
        self._aftermath = self.records.aftermath = Aftermath(self, root_ca)
        for crd in store.list(CRD_RESOURCE):
            if is_established(crd.data):
                catalog.serve_definition(crd.data)

    # Access by resource name, for neighbours in the process.

    def served(self, resource: str) -> ResourceType:
        """Return the storage version of `plural.group`. Raises `NotFound`."""
        return self.records.served(resource)

    def get(self, resource: str, key: ObjectKey) -> Data:
        return self.read(self.served(resource), key).data

    def create(self, resource: str, data: Mapping[str, Any], *, field_manager: str = "pybrix") -> Data:
        served = self.served(resource)
        namespace = str(data.get("metadata", {}).get("namespace", "")) if served.is_namespaced else ""
        return self.create_object(served, namespace, data, WriteOptions(field_manager))

    def update(
        self, resource: str, data: Mapping[str, Any], *, subresource: str = "", field_manager: str = "pybrix"
    ) -> Data:
        served = self.served(resource)
        metadata = data["metadata"]
        key = ObjectKey(metadata.get("namespace", "") if served.is_namespaced else "", metadata["name"])
        return self.replace(served, key, data, WriteOptions(field_manager), subresource)

    def patch(
        self,
        resource: str,
        key: ObjectKey,
        patch: Any,
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "pybrix",
    ) -> Data:
        served = self.served(resource)
        return self.patch_object(served, key, patch_type, patch, WriteOptions(field_manager), subresource)

    def delete(
        self,
        resource: str,
        key: ObjectKey,
        *,
        uid: Uid | None = None,
        propagation: str = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        options = DeleteOptions(uid=uid, propagation=propagation, grace_period_s=grace_period_seconds)
        self.delete_object(self.served(resource), key, options)

    # Operations on a served version.

    def read(self, served: ResourceType, key: ObjectKey) -> Stored:
        """Return the object. Raises `NotFound`."""
        return self.records.read(served, key)

    def view(self, served: ResourceType, data: Data) -> Data:
        """Return the stored form in a served version."""
        return self.records.view(served, data)

    def create_object(self, served: ResourceType, namespace: str, sent: Any, options: WriteOptions) -> Data:
        """Create and return an object. Raises AlreadyExists, BadRequest, Invalid, Forbidden, NotFound."""
        if served.conversion is not None:
            data = admission.decode(served, sent, options)
            causes = served.conversion.faults_of_new(data)
            if causes:
                raise admission.refuse(served, data["metadata"].get("name", ""), causes)
            kept = self.served(served.storage)
            return self.view(served, self._creation.create(kept, namespace, served.conversion.to_stored(data), options))
        return self._creation.create(served, namespace, sent, options)

    def replace(
        self, served: ResourceType, key: ObjectKey, sent: Any, options: WriteOptions, subresource: str = ""
    ) -> Data:
        """Replace an object, its status or its scale. Raises Conflict, BadRequest, Invalid, NotFound."""
        if served.conversion is not None:
            stored_form = served.conversion.to_stored(admission.decode(served, sent, options))
            replaced = self._updates.replace(self.served(served.storage), key, stored_form, options, subresource)
            return self.view(served, replaced)
        return self._updates.replace(served, key, sent, options, subresource)

    def patch_object(
        self,
        served: ResourceType,
        key: ObjectKey,
        patch_type: PatchType,
        patch: Any,
        options: WriteOptions,
        subresource: str = "",
    ) -> Data:
        """Patch an object, its status or its scale; `APPLY` creates what is not there.

        Raises:
            Conflict, BadRequest, Invalid, NotFound
        """
        if served.conversion is not None and patch_type is PatchType.APPLY:
            stored_form = served.conversion.to_stored(admission.decode(served, patch, options))
            kept = self.served(served.storage)
            return self.view(served, self._application.apply(kept, key, stored_form, options, subresource))
        if served.conversion is not None:
            before = self.view(served, self.read(served, key).data)
            return self.replace(served, key, patched(served, before, patch_type, patch), options, subresource)
        if patch_type is PatchType.APPLY:
            return self._application.apply(served, key, patch, options, subresource)
        return self._updates.patch(served, key, patch_type, patch, options, subresource)

    def delete_object(self, served: ResourceType, key: ObjectKey, options: DeleteOptions) -> tuple[Data, bool]:
        """Delete an object or mark it; return its last form and whether it is gone. See `Removal.delete`."""
        return self._removal.delete(served, key, options)

    def delete_collection(
        self, served: ResourceType, namespace: str | None, selected: ListOptions, options: DeleteOptions
    ) -> list[Data]:
        """Delete what is selected, each object by itself."""
        return self._removal.delete_collection(served, namespace, selected, options)

    def scale_of(self, served: ResourceType, data: Data) -> Data:
        """Return the `autoscaling/v1` Scale of an object. Raises `NotFound` for a kind without."""
        return print_scale(served, data)

    def evict(self, key: ObjectKey, sent: Any, options: DeleteOptions) -> None:
        """Delete a pod if its disruption budget allows it. Raises TooManyRequests, NotFound, BadRequest, Conflict."""
        evict(self.records, self._removal, key, sent, options)

    def bind(self, key: ObjectKey, sent: Any, options: WriteOptions) -> None:
        """Bind a pod to a node. Raises Conflict when it is bound already or being deleted."""
        bind(self.records, key, sent, options)

    def now(self) -> str:
        """Return the time as objects hold it."""
        return self.records.now()

    # What a starting server goes on with.

    def furnish(self, namespace: Stored) -> None:
        """Give a namespace what every one has."""
        self._aftermath.furnish(namespace)

    def clean_definition(self, crd: Stored) -> None:
        """Delete the objects of a definition that is being deleted; with the last of them it goes itself."""
        self._aftermath.clean_definition(crd)
