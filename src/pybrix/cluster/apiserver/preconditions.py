"""What must hold before a write: the right object in the right place, of a bearable size."""

from __future__ import annotations

from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.failures import bad_request, conflict, failure, forbidden, modified, not_found, too_large
from pybrix.cluster.apiserver.resources import CRD_RESOURCE, ResourceType
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import MAX_OBJECT_BYTES, Store


def place(served: ResourceType, namespace: str, data: dict[str, Any]) -> None:
    """Set the namespace of an object. Raises `BadRequest` when it names another."""
    metadata = data["metadata"]
    if not served.is_namespaced:
        return
    metadata["namespace"] = metadata.get("namespace") or namespace
    if metadata["namespace"] != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def check_namespace(store: Store, served: ResourceType, namespace: str, name: str) -> None:
    """Raise `NotFound` or `Forbidden` when nothing can be created in a namespace."""
    if not served.is_namespaced:
        return
    found = store.get("namespaces", ObjectKey("", namespace))
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


def check_definition_is_alive(store: Store, served: ResourceType) -> None:
    """Raise when the definition of a custom resource is being deleted."""
    crd = store.get(CRD_RESOURCE, ObjectKey("", served.storage)) if served.is_custom else None
    if crd is not None and crd.data["metadata"].get("deletionTimestamp"):
        raise failure(405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating")


def check_version(served: ResourceType, stored: Stored, uid: str | None, resource_version: str | None) -> None:
    """Raise `Conflict` when a client means another object, or an older state of it."""
    if uid and uid != stored.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {stored.uid}"
        raise conflict(served.plural, served.group, stored.key.name, why)
    if resource_version and resource_version != str(stored.revision):
        raise modified(served.plural, served.group, stored.key.name)


def check_size(data: dict[str, Any]) -> None:
    """Refuse what the store would not take."""
    if len(msgspec.json.encode(data)) > MAX_OBJECT_BYTES:
        raise too_large(MAX_OBJECT_BYTES)
