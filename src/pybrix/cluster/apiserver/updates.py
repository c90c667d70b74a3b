"""Updates and patches: an object's next state, by whichever door it is asked for."""

from __future__ import annotations

import functools
from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver import admission, managed
from pybrix.cluster.apiserver.chain import AdmissionChain
from pybrix.cluster.apiserver.creation import Creation
from pybrix.cluster.apiserver.deletion import is_removable
from pybrix.cluster.apiserver.equality import is_same_json
from pybrix.cluster.apiserver.failures import bad_request, invalid, invalid_value, no_such_path
from pybrix.cluster.apiserver.kinds.definitions import definition_status
from pybrix.cluster.apiserver.matching import Change
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.patching import patched
from pybrix.cluster.apiserver.preconditions import check_size, check_version, place
from pybrix.cluster.apiserver.records import Data, Records
from pybrix.cluster.apiserver.resources import CRD_RESOURCE, ResourceType
from pybrix.cluster.apiserver.subresources import parse_scale, print_scale, with_replicas
from pybrix.cluster.store.history import Stored
from pybrix.kube.interface import PatchType

Owners = dict[managed.Manager, Any]


class Updates:
    """Replaces and patches objects, their status and their scale."""

    def __init__(self, records: Records, chain: AdmissionChain, creation: Creation) -> None:
        self._records = records
        self._chain = chain
        self._creation = creation

    def replace(
        self, served: ResourceType, key: ObjectKey, sent: Any, options: WriteOptions, subresource: str = ""
    ) -> Data:
        """Replace an object, its status or its scale.

        Raises:
            Conflict: it has another resourceVersion or uid than the one sent.
            BadRequest, Invalid, NotFound
        """
        if subresource == "scale":
            return self._write_scale(served, key, sent, options)
        if subresource == "finalize":
            return self._finalize_namespace(served, key, sent, options)
        data = admission.decode(served, sent, options)
        place(served, key.namespace, data)
        name = data["metadata"].setdefault("name", key.name)
        if name != key.name:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({key.name})")
        stored = self._records.read(served, key)
        if not data["metadata"].get("resourceVersion") and not served.may_update_blindly:
            cause = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(served.kind, served.group, key.name, [cause])
        return self.write(served, stored, data, options, subresource)

    def patch(
        self,
        served: ResourceType,
        key: ObjectKey,
        patch_type: PatchType,
        patch: Any,
        options: WriteOptions,
        subresource: str = "",
    ) -> Data:
        """Apply a JSON, merge or strategic merge patch to an object, its status or its scale.

        Raises:
            Conflict, BadRequest, Invalid, NotFound
        """
        stored = self._records.read(served, key)
        if subresource == "scale":
            scale = patched(served, print_scale(served, stored.data), patch_type, patch)
            return self._write_scale(served, key, scale, options)
        if subresource == "finalize":
            return self._finalize_namespace(served, key, patched(served, stored.data, patch_type, patch), options)
        before = self._records.view(served, stored.data)
        result = patched(served, before, patch_type, patch)
        # Through this door nothing else changes, so that what the patch left alone needs no second look.
        data = admission.decode(served, result, options, trusted=before if subresource == "status" else None)
        metadata = data["metadata"]
        for name, value in (("name", key.name), ("namespace", key.namespace)):
            if metadata.get(name, "") != value:
                cause = invalid_value(f"metadata.{name}", metadata.get(name, ""), "field is immutable")
                raise invalid(served.kind, served.group, key.name, [cause])
        return self.write(served, stored, data, options, subresource)

    def write(
        self,
        served: ResourceType,
        stored: Stored,
        data: Data,
        options: WriteOptions,
        subresource: str,
        owners: Owners | None = None,
        *,
        door: str = "",
    ) -> Data:
        """Check and store what a client wants an object to be, decoded; one that nothing holds back any more goes.

        Args:
            owners: of the fields afterwards; None: what changes belongs to the writer.
            door: a subresource that shows the object in another form: `scale`.
        """
        old = self._records.view(served, stored.data)
        check_version(served, stored, data["metadata"].get("uid"), data["metadata"].get("resourceVersion"))
        gives_up_ownership = subresource == "" and data["metadata"].get("managedFields") in ([], [{}])
        new = admission.complete_update(served, old, data, subresource)
        if served.storage == "services":
            taken = self._creation.addresses(besides=stored.key)
            admission.assign_address(served, new, old, taken, self._creation.network)
        change = Change(
            served, "UPDATE", stored.key, new, old, subresource or door, options.is_dry_run, user=options.user
        )
        if not door:
            new = self._chain.mutate(change, functools.partial(admission.settle, served, subresource))
        admission.check_update(served, old, new, subresource)
        seen = (print_scale(served, new), print_scale(served, old)) if door == "scale" else (new, old)
        self._chain.judge(change.showing(*seen), options.warnings)
        admission.bump_generation(served, old, new)
        if served.storage == CRD_RESOURCE and subresource == "":
            new["status"] = definition_status(new, self._creation.names_taken(new), self._records.now())
        before = old["metadata"].get("managedFields", [])
        if owners is None:
            by = managed.Manager(options.field_manager, managed.UPDATE, served.api_version, subresource or door)
            owners = managed.own_update(managed.parse_owners(before), old, new, by, served.shape)
        entries = [] if gives_up_ownership else managed.print_owners(owners, before, self._records.now())
        new["metadata"] = {k: v for k, v in new["metadata"].items() if k != "managedFields"}
        if entries:
            new["metadata"]["managedFields"] = entries
        if options.is_dry_run or is_same_json(new, old):
            check_size(new)
            return new
        if is_removable(new):
            return self._records.remove(served, stored, new)
        return self._records.change(served, stored, new)

    def _write_scale(self, served: ResourceType, key: ObjectKey, sent: Any, options: WriteOptions) -> Data:
        stored = self._records.read(served, key)
        scale = parse_scale(served, key, sent)
        metadata = scale.get("metadata", {})
        check_version(served, stored, metadata.get("uid"), metadata.get("resourceVersion"))
        data = with_replicas(served, self._records.view(served, stored.data), scale)
        data["metadata"] = {k: v for k, v in data["metadata"].items() if k != "resourceVersion"}
        return print_scale(served, self.write(served, stored, data, options, "", door="scale"))

    def _finalize_namespace(self, served: ResourceType, key: ObjectKey, sent: Any, options: WriteOptions) -> Data:
        if served.storage != "namespaces":
            raise no_such_path()
        data = admission.decode(served, sent, options)
        stored = self._records.read(served, key)
        metadata = data["metadata"]
        check_version(served, stored, metadata.get("uid"), metadata.get("resourceVersion"))
        new = {**stored.data, "spec": {"finalizers": data.get("spec", {}).get("finalizers", [])}}
        if options.is_dry_run:
            return new
        if is_removable(new):
            return self._records.remove(served, stored, new)
        return self._records.change(served, stored, new)
