"""Creations: what a client sends becomes a complete, checked, stored object."""

from __future__ import annotations

import copy
import functools
import random
import uuid
from ipaddress import IPv4Network
from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.base.hashing import random_suffix
from pybrix.cluster.apiserver import admission, managed
from pybrix.cluster.apiserver.chain import AdmissionChain
from pybrix.cluster.apiserver.failures import already_exists, bad_request, forbidden, invalid, required
from pybrix.cluster.apiserver.kinds.addresses import kubernetes_address
from pybrix.cluster.apiserver.kinds.definitions import definition_status
from pybrix.cluster.apiserver.matching import Change
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.podadmission import account_name, use_account, use_priority
from pybrix.cluster.apiserver.preconditions import check_definition_is_alive, check_namespace, check_size, place
from pybrix.cluster.apiserver.records import Data, Records
from pybrix.cluster.apiserver.resources import CRD_RESOURCE, ResourceType

KUBERNETES_SERVICE = ObjectKey("default", "kubernetes")
_GENERATED_ATTEMPTS = 8


class Creation:
    """Creates objects. `chance` is the source of uids and generated names; Services get addresses of `network`."""

    def __init__(self, records: Records, chain: AdmissionChain, chance: random.Random, network: IPv4Network) -> None:
        self.network = network
        self._records = records
        self._store = records.store
        self._chain = chain
        self._chance = chance

    def create(
        self, served: ResourceType, namespace: str, sent: Any, options: WriteOptions, *, is_apply: bool = False
    ) -> Data:
        """Create and return an object; with `is_apply`, its writer owns what it sent and nothing more.

        Raises:
            AlreadyExists, BadRequest, Invalid, Forbidden, NotFound (the namespace)
        """
        data = admission.decode(served, sent, options)
        place(served, namespace, data)
        # What is filled in later belongs to nobody.
        sent_fields = copy.deepcopy(data) if is_apply else {}
        metadata = data["metadata"]
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if not metadata.get("name"):
            metadata["name"] = self._generated_name(served, namespace, metadata.get("generateName", ""))
        key = ObjectKey(namespace if served.is_namespaced else "", metadata["name"])
        check_namespace(self._store, served, namespace, key.name)
        check_definition_is_alive(self._store, served)
        if served.storage == "pods":
            self._admit_pod(data)
        now = self._records.now()
        admission.complete_new(served, data, uid=str(uuid.UUID(int=self._chance.getrandbits(128), version=4)), now=now)
        change = Change(served, "CREATE", key, data, None, is_dry_run=options.is_dry_run, user=options.user)
        data = self._chain.mutate(change, functools.partial(admission.settle, served, ""))
        metadata = data["metadata"]
        admission.check_new(served, data)
        self._chain.judge(change.showing(data, None), options.warnings)
        if self._store.get(served.storage, key) is not None:
            raise already_exists(served.plural, served.group, key.name)
        if served.storage == "services":
            admission.assign_address(served, data, None, self.addresses(besides=key), self.network)
        if served.storage == CRD_RESOURCE:
            data["status"] = definition_status(data, self.names_taken(data), now)
        operation = managed.APPLY if is_apply else managed.UPDATE
        by = managed.Manager(options.field_manager, operation, served.api_version)
        owners = managed.own_update({}, None, sent_fields if is_apply else data, by, served.shape)
        metadata["managedFields"] = managed.print_owners(owners, (), now)
        if options.is_dry_run:
            check_size(data)
            return data
        return self._records.add(served, key, data)

    def addresses(self, *, besides: ObjectKey) -> set[str]:
        """Return the cluster addresses that are not free."""
        reserved = set() if besides == KUBERNETES_SERVICE else {kubernetes_address(self.network)}
        return {
            s.data["spec"].get("clusterIP", "") for s in self._store.list("services") if s.key != besides
        } | reserved

    def names_taken(self, crd: Data) -> dict[str, str]:
        """Return the names that a definition cannot have, and who has them."""
        return self._records.catalog.names_taken(crd["spec"]["group"], besides=crd["metadata"]["name"])

    def _generated_name(self, served: ResourceType, namespace: str, prefix: str) -> str:
        if not prefix:
            raise invalid(
                served.kind, served.group, "", [required("metadata.name", "name or generateName is required")]
            )
        # Long prefixes lose their end, so that the suffix fits.
        for _ in range(_GENERATED_ATTEMPTS):
            name = prefix[: 63 - 5] + random_suffix(self._chance)
            if self._store.get(served.storage, ObjectKey(namespace, name)) is None:
                return name
        raise already_exists(served.plural, served.group, prefix)

    def _admit_pod(self, pod: Data) -> None:
        metadata = pod["metadata"]
        key = ObjectKey(metadata["namespace"], account_name(pod))
        account = self._store.get("serviceaccounts", key)
        if account is None:
            why = f'error looking up service account {key}: serviceaccount "{key.name}" not found'
            raise forbidden("pods", "", metadata["name"], why)
        use_account(pod, account.data, random_suffix(self._chance))
        problem = use_priority(pod, [c.data for c in self._store.list("priorityclasses.scheduling.k8s.io")])
        if problem:
            raise forbidden("pods", "", metadata["name"], problem)
