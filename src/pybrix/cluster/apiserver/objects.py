"""Operations on objects, as a Kubernetes API has them: create, replace, patch, delete, scale, bind.

Synchronous and complete in themselves: nothing else happens between reading and writing, so a patch never conflicts
with anyone but the client's own stale resourceVersion. HTTP routes and neighbours in the process share this one path.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from pybrix.api.identity import ObjectKey, Uid
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.base.hashing import random_suffix
from pybrix.cluster.apiserver import admission, managed
from pybrix.cluster.apiserver.deletion import is_removable, plan_deletion
from pybrix.cluster.apiserver.failures import (
    already_exists,
    bad_request,
    conflict,
    failure,
    forbidden,
    invalid,
    invalid_value,
    modified,
    no_such_path,
    not_found,
    required,
    too_large,
)
from pybrix.cluster.apiserver.kinds.addresses import KUBERNETES_ADDRESS
from pybrix.cluster.apiserver.kinds.definitions import CLEANUP_FINALIZER, definition_status, is_established
from pybrix.cluster.apiserver.options import DeleteOptions, ListOptions, WriteOptions
from pybrix.cluster.apiserver.patching import patched
from pybrix.cluster.apiserver.policies import Change, Policies
from pybrix.cluster.apiserver.resources import CRD_RESOURCE, Catalog, ResourceType
from pybrix.cluster.apiserver.subresources import bound, parse_scale, print_scale, with_replicas
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store
from pybrix.kube.errors import StatusError
from pybrix.kube.interface import PatchType

_log = structlog.get_logger()
Data = dict[str, Any]
MAX_OBJECT_BYTES = 3 * 1024 * 1024 // 2
PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
KUBERNETES_SERVICE = ObjectKey("default", "kubernetes")
_GENERATED_ATTEMPTS = 8


class Objects:
    """The cluster's objects behind the rules of its API."""

    def __init__(self, store: Store, catalog: Catalog, *, clock: Clock, chance: random.Random) -> None:
        self.store = store
        self.catalog = catalog
        self._clock = clock
        self._chance = chance
        self._policies = Policies(store)
        for crd in store.list(CRD_RESOURCE):
            if is_established(crd.data):
                catalog.serve_definition(crd.data)

    # Access by resource name, for neighbours in the process.

    def served(self, resource: str) -> ResourceType:
        """Return the storage version of `plural.group`. Raises `NotFound`."""
        found = self.catalog.by_storage(resource)
        if found is None:
            raise no_such_path()
        return found

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
        return {**data, "apiVersion": served.api_version}

    def create_object(
        self, served: ResourceType, namespace: str, sent: Any, options: WriteOptions, *, is_apply: bool = False
    ) -> Data:
        """Create and return an object; with `is_apply`, its writer owns what it sent and nothing more.

        Raises:
            AlreadyExists, BadRequest, Invalid, Forbidden, NotFound (the namespace)
        """
        data = admission.decode(served, sent, options)
        self._place(served, namespace, data)
        # What is filled in later belongs to nobody.
        sent_fields = {**data, "metadata": dict(data["metadata"])}
        metadata = data["metadata"]
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        prefix = metadata.get("generateName", "")
        if not metadata.get("name"):
            if not prefix:
                raise invalid(
                    served.kind, served.group, "", [required("metadata.name", "name or generateName is required")]
                )
            metadata["name"] = self._generate(served, namespace, prefix)
        key = ObjectKey(namespace if served.is_namespaced else "", metadata["name"])
        self._check_namespace(served, namespace, key.name)
        self._check_definition_is_alive(served)
        now = self._now()
        admission.complete_new(served, data, uid=str(uuid.UUID(int=self._chance.getrandbits(128), version=4)), now=now)
        admission.check_new(served, data)
        self._judge(Change(served, "CREATE", key, data, None, is_dry_run=options.is_dry_run), options.warnings)
        if self.store.get(served.storage, key) is not None:
            raise already_exists(served.plural, served.group, key.name)
        if served.storage == "services":
            admission.assign_address(served, data, None, self._addresses(besides=key))
        if served.storage == CRD_RESOURCE:
            data["status"] = definition_status(data, self._names_taken(data), now)
        operation = managed.APPLY if is_apply else managed.UPDATE
        by = managed.Manager(options.field_manager, operation, served.api_version)
        owners = managed.own_update({}, None, sent_fields if is_apply else data, by, served.shape)
        metadata["managedFields"] = managed.print_owners(owners, (), now)
        self._check_size(data)
        if options.is_dry_run:
            return data
        stored = self.store.create(served.storage, key, self._storage_form(served, data))
        self._after_write(served, stored)
        return self.view(served, stored.data)

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
        self._place(served, key.namespace, data)
        name = data["metadata"].setdefault("name", key.name)
        if name != key.name:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({key.name})")
        stored = self.read(served, key)
        if not data["metadata"].get("resourceVersion") and not served.may_update_blindly:
            cause = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(served.kind, served.group, key.name, [cause])
        return self._write_update(served, stored, data, options, subresource, None)

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
        if patch_type is PatchType.APPLY:
            return self._apply(served, key, patch, options, subresource)
        stored = self.read(served, key)
        if subresource == "scale":
            scale = patched(served, self.scale_of(served, stored.data), patch_type, patch)
            return self._write_scale(served, key, scale, options)
        if subresource == "finalize":
            return self._finalize_namespace(served, key, patched(served, stored.data, patch_type, patch), options)
        result = patched(served, self.view(served, stored.data), patch_type, patch)
        data = admission.decode(served, result, options)
        metadata = data["metadata"]
        for name, value in (("name", key.name), ("namespace", key.namespace)):
            if metadata.get(name, "") != value:
                cause = invalid_value(f"metadata.{name}", metadata.get(name, ""), "field is immutable")
                raise invalid(served.kind, served.group, key.name, [cause])
        return self._write_update(served, stored, data, options, subresource, None)

    def _write_update(
        self,
        served: ResourceType,
        stored: Stored,
        data: Data,
        options: WriteOptions,
        subresource: str,
        owners: dict[managed.Manager, Any] | None,
        *,
        door: str = "",
    ) -> Data:
        old = self.view(served, stored.data)
        self._check_preconditions(served, stored, data["metadata"].get("uid"), data["metadata"].get("resourceVersion"))
        gives_up_ownership = subresource == "" and data["metadata"].get("managedFields") in ([], [{}])
        new = admission.complete_update(served, old, data, subresource)
        if served.storage == "services":
            admission.assign_address(served, new, old, self._addresses(besides=stored.key))
        admission.check_update(served, old, new, subresource)
        seen = (self.scale_of(served, new), self.scale_of(served, old)) if door == "scale" else (new, old)
        change = Change(served, "UPDATE", stored.key, *seen, subresource or door, options.is_dry_run)
        self._judge(change, options.warnings)
        admission.bump_generation(served, old, new)
        if served.storage == CRD_RESOURCE and subresource == "":
            new["status"] = definition_status(new, self._names_taken(new), self._now())
        before = old["metadata"].get("managedFields", [])
        if owners is None:
            by = managed.Manager(options.field_manager, managed.UPDATE, served.api_version, subresource or door)
            owners = managed.own_update(managed.parse_owners(before), old, new, by, served.shape)
        entries = [] if gives_up_ownership else managed.print_owners(owners, before, self._now())
        new["metadata"] = {k: v for k, v in new["metadata"].items() if k != "managedFields"}
        if entries:
            new["metadata"]["managedFields"] = entries
        self._check_size(new)
        if options.is_dry_run or new == old:
            return new
        if is_removable(new):
            gone = self.store.delete(
                served.storage, stored.key, expected=stored.revision, data=self._storage_form(served, new)
            )
            self._after_removal(served, gone)
            return self.view(served, gone.data)
        written = self.store.update(
            served.storage, stored.key, self._storage_form(served, new), expected=stored.revision
        )
        self._after_write(served, written)
        return self.view(served, written.data)

    def _apply(
        self, served: ResourceType, key: ObjectKey, config: Any, options: WriteOptions, subresource: str
    ) -> Data:
        if subresource not in ("", "status"):
            raise bad_request(f"server-side apply to the {subresource} subresource is not supported: use a merge patch")
        data = admission.decode(served, config, options)
        self._place(served, key.namespace, data)
        metadata = data["metadata"]
        if metadata.setdefault("name", key.name) != key.name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({key.name})"
            )
        if metadata.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        by = managed.Manager(options.field_manager, managed.APPLY, served.api_version, subresource)
        stored = self.store.get(served.storage, key)
        if stored is None:
            if subresource:
                raise not_found(served.plural, served.group, key.name)
            if metadata.get("uid") or metadata.get("resourceVersion"):
                raise conflict(served.plural, served.group, key.name, "the object does not exist")
            return self.create_object(served, key.namespace, config, options, is_apply=True)
        self._check_preconditions(served, stored, metadata.get("uid"), metadata.get("resourceVersion"))
        live = self.view(served, stored.data)
        part = {
            k: v for k, v in data.items() if k != ("metadata" if subresource else "status") or not served.has_status
        }
        part.setdefault("metadata", {})
        owners = managed.parse_owners(live["metadata"].get("managedFields"))
        if not owners:
            before = managed.Manager("before-first-apply", managed.UPDATE, served.api_version)
            owners = managed.own_update({}, None, live, before, served.shape)
        applied = managed.apply(owners, live, part, by, served.shape, force=options.force)
        if applied.conflicts and managed.are_from_last_applied(applied.conflicts, live, by, served.shape):
            applied = managed.apply(owners, live, part, by, served.shape, force=True)
        if applied.conflicts:
            raise self._apply_conflict(served, applied.conflicts)
        merged = admission.decode(served, applied.data, options)
        merged["metadata"].pop("resourceVersion", None)
        return self._write_update(served, stored, merged, options, subresource, applied.owners)

    def _apply_conflict(self, served: ResourceType, conflicts: tuple[managed.FieldConflict, ...]) -> StatusError:
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{c.manager.name}"'
                + (f" with subresource {c.manager.subresource!r}" if c.manager.subresource else "")
                + f" using {c.manager.api_version}",
                "field": c.path,
            }
            for c in conflicts
        ]
        several = "conflicts" if len(conflicts) > 1 else "conflict"
        text = "; ".join(f"{c['message']}: {c['field']}" for c in causes)
        message = f"Apply failed with {len(conflicts)} {several}: {text}"
        return failure(409, "Conflict", message, {"causes": causes})

    def delete_object(self, served: ResourceType, key: ObjectKey, options: DeleteOptions) -> tuple[Data, bool]:
        """Delete an object, or mark it where something must happen first; return its last form and whether it is gone.

        Raises:
            NotFound, Conflict (a precondition), Forbidden (a namespace that always exists)
        """
        stored = self.read(served, key)
        self._check_preconditions(served, stored, options.uid, options.resource_version)
        if served.storage == "namespaces" and key.name in PROTECTED_NAMESPACES:
            raise forbidden("namespaces", "", key.name, "this namespace may not be deleted")
        change = Change(served, "DELETE", key, None, self.view(served, stored.data), is_dry_run=options.is_dry_run)
        self._judge(change, [])
        doom = plan_deletion(
            "" if served.is_custom else served.kind,
            stored.data,
            self._clock.now(),
            propagation=options.propagation,
            grace_period_s=options.grace_period_s,
        )
        if options.is_dry_run:
            return self.view(served, doom.data), doom.is_removed
        if doom.is_removed:
            gone = self.store.delete(served.storage, key, expected=stored.revision, data=doom.data)
            self._after_removal(served, gone)
            return self.view(served, gone.data), True
        if doom.data != stored.data:
            stored = self.store.update(served.storage, key, doom.data, expected=stored.revision)
            self._after_write(served, stored)
        return self.view(served, stored.data), False

    def delete_collection(
        self, served: ResourceType, namespace: str | None, selected: ListOptions, options: DeleteOptions
    ) -> list[Data]:
        """Delete what is selected, each object by itself."""
        doomed = [s for s in self.store.list(served.storage, namespace) if selected.selects(s.data)]
        return [
            self.delete_object(served, stored.key, options)[0]
            for stored in doomed
            if self.store.get(served.storage, stored.key) is not None
        ]

    # Subresources.

    def scale_of(self, served: ResourceType, data: Data) -> Data:
        """Return the `autoscaling/v1` Scale of an object. Raises `NotFound` for a kind without."""
        return print_scale(served, data)

    def _write_scale(self, served: ResourceType, key: ObjectKey, sent: Any, options: WriteOptions) -> Data:
        stored = self.read(served, key)
        scale = parse_scale(served, key, sent)
        metadata = scale.get("metadata", {})
        self._check_preconditions(served, stored, metadata.get("uid"), metadata.get("resourceVersion"))
        data = with_replicas(served, self.view(served, stored.data), scale)
        data["metadata"] = {k: v for k, v in data["metadata"].items() if k != "resourceVersion"}
        written = self._write_update(served, stored, data, options, "", None, door="scale")
        return self.scale_of(served, written)

    def bind(self, key: ObjectKey, sent: Any, options: WriteOptions) -> None:
        """Bind a pod to a node.

        Raises:
            Conflict: it is bound already, or being deleted.
        """
        served = self.served("pods")
        binding = admission.decode(self.served("bindings"), sent, options)
        stored = self.read(served, key)
        metadata, target = binding["metadata"], binding.get("target", {})
        self._check_preconditions(served, stored, metadata.get("uid"), metadata.get("resourceVersion"))
        if target.get("kind", "Node") not in ("Node", "") or not target.get("name"):
            cause = (
                required("target.name")
                if not target.get("name")
                else invalid_value("target.kind", target["kind"], "must be Node")
            )
            raise invalid("Binding", "", key.name, [cause])
        if stored.data["metadata"].get("deletionTimestamp"):
            raise conflict(
                "pods/binding", "", key.name, f"pod {key.name} is being deleted, cannot be assigned to a host"
            )
        assigned = stored.data["spec"].get("nodeName")
        if assigned:
            raise conflict("pods/binding", "", key.name, f'pod {key.name} is already assigned to node "{assigned}"')
        if options.is_dry_run:
            return
        written = self.store.update("pods", key, bound(stored.data, binding, self._now()), expected=stored.revision)
        self._after_write(served, written)

    def _finalize_namespace(self, served: ResourceType, key: ObjectKey, sent: Any, options: WriteOptions) -> Data:
        if served.storage != "namespaces":
            raise no_such_path()
        data = admission.decode(served, sent, options)
        stored = self.read(served, key)
        metadata = data["metadata"]
        self._check_preconditions(served, stored, metadata.get("uid"), metadata.get("resourceVersion"))
        new = {**stored.data, "spec": {"finalizers": data.get("spec", {}).get("finalizers", [])}}
        if options.is_dry_run:
            return new
        if is_removable(new):
            gone = self.store.delete(served.storage, key, expected=stored.revision, data=new)
            self._after_removal(served, gone)
            return gone.data
        return self.store.update(served.storage, key, new, expected=stored.revision).data

    # What every write needs.

    def _judge(self, change: Change, warnings: list[str]) -> None:
        verdict = self._policies.judge(change)
        warnings.extend(verdict.warnings)
        for text in verdict.audits:
            _log.info("policy not fulfilled", object=str(change.key), resource=change.served.storage, policy=text)

    def _now(self) -> str:
        return format_rfc3339(self._clock.now())

    def _storage_form(self, served: ResourceType, data: Data) -> Data:
        kept = self.catalog.by_storage(served.storage) or served
        return self.view(kept, data)

    def _place(self, served: ResourceType, namespace: str, data: Data) -> None:
        metadata = data["metadata"]
        if not served.is_namespaced:
            return
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")

    def _generate(self, served: ResourceType, namespace: str, prefix: str) -> str:
        # Long prefixes lose their end, so that the suffix fits.
        for _ in range(_GENERATED_ATTEMPTS):
            name = prefix[: 63 - 5] + random_suffix(self._chance)
            if self.store.get(served.storage, ObjectKey(namespace, name)) is None:
                return name
        raise already_exists(served.plural, served.group, prefix)

    def _check_namespace(self, served: ResourceType, namespace: str, name: str) -> None:
        if not served.is_namespaced:
            return
        found = self.store.get("namespaces", ObjectKey("", namespace))
        if found is None:
            raise not_found("namespaces", "", namespace)
        if found.data["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            raise forbidden(served.plural, served.group, name, why, [cause])

    def _check_definition_is_alive(self, served: ResourceType) -> None:
        crd = self.store.get(CRD_RESOURCE, ObjectKey("", served.storage)) if served.is_custom else None
        if crd is not None and crd.data["metadata"].get("deletionTimestamp"):
            raise failure(405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating")

    def _check_preconditions(
        self, served: ResourceType, stored: Stored, uid: str | None, resource_version: str | None
    ) -> None:
        if uid and uid != stored.uid:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {stored.uid}"
            raise conflict(served.plural, served.group, stored.key.name, why)
        if resource_version and resource_version != str(stored.revision):
            raise modified(served.plural, served.group, stored.key.name)

    def _check_size(self, data: Data) -> None:
        if len(msgspec.json.encode(data)) > MAX_OBJECT_BYTES:
            raise too_large(MAX_OBJECT_BYTES)

    def _addresses(self, *, besides: ObjectKey) -> set[str]:
        services = self.store.list("services")
        reserved = set() if besides == KUBERNETES_SERVICE else {KUBERNETES_ADDRESS}
        return {s.data["spec"].get("clusterIP", "") for s in services if s.key != besides} | reserved

    def _names_taken(self, crd: Data) -> dict[str, str]:
        return self.catalog.names_taken(crd["spec"]["group"], besides=crd["metadata"]["name"])

    # What follows from a write.

    def _after_write(self, served: ResourceType, stored: Stored) -> None:
        if served.storage == "namespaces" and self.store.get(*_service_account(stored.key.name)) is None:
            if not stored.data["metadata"].get("deletionTimestamp"):
                self.create("serviceaccounts", {"metadata": {"name": "default", "namespace": stored.key.name}})
        elif served.storage == CRD_RESOURCE:
            if is_established(stored.data):
                self.catalog.serve_definition(stored.data)
            if stored.data["metadata"].get("deletionTimestamp"):
                self.clean_definition(stored)

    def _after_removal(self, served: ResourceType, gone: Stored) -> None:
        if served.storage == CRD_RESOURCE:
            self.catalog.withdraw_definition(gone.key.name)
        elif served.is_custom:
            crd = self.store.get(CRD_RESOURCE, ObjectKey("", served.storage))
            if crd is not None and crd.data["metadata"].get("deletionTimestamp"):
                self.clean_definition(crd)

    def clean_definition(self, crd: Stored) -> None:
        """Delete the objects of a definition that is being deleted; with the last of them it goes itself."""
        served = self.catalog.by_storage(crd.key.name)
        if served is not None:
            for stored in self.store.list(crd.key.name):
                if not stored.data["metadata"].get("deletionTimestamp"):
                    self.delete_object(served, stored.key, DeleteOptions())
        current = self.store.get(CRD_RESOURCE, crd.key)
        if current is None or self.store.count(crd.key.name):
            return
        finalizers = [f for f in current.data["metadata"].get("finalizers", []) if f != CLEANUP_FINALIZER]
        if len(finalizers) != len(current.data["metadata"].get("finalizers", [])):
            self.patch(CRD_RESOURCE, crd.key, {"metadata": {"finalizers": finalizers}})


def _service_account(namespace: str) -> tuple[str, ObjectKey]:
    return "serviceaccounts", ObjectKey(namespace, "default")
