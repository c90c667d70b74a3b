"""What every namespace has: the account that pods run as, and the authority by which they trust the API server.

https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.podadmission import DEFAULT_ACCOUNT, ROOT_CA_CONFIGMAP
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store

FURNITURE = {"serviceaccounts": DEFAULT_ACCOUNT, "configmaps": ROOT_CA_CONFIGMAP}
"""Resource and name of what comes back when it is deleted."""


class Writer(Protocol):
    """Whoever creates objects and patches them."""

    store: Store

    def create(self, resource: str, data: Mapping[str, Any]) -> dict[str, Any]: ...

    def patch(self, resource: str, key: ObjectKey, patch: Any) -> dict[str, Any]: ...


def furnish(writer: Writer, namespace: Stored, root_ca: str) -> None:
    """Create or mend what a namespace should have; one that is being deleted gets nothing.

    Args:
        root_ca: PEM of the authority; empty: there is none.
    """
    if namespace.data["metadata"].get("deletionTimestamp"):
        return
    name = namespace.key.name
    if writer.store.get("serviceaccounts", ObjectKey(name, DEFAULT_ACCOUNT)) is None:
        writer.create("serviceaccounts", {"metadata": {"name": DEFAULT_ACCOUNT, "namespace": name}})
    if not root_ca:
        return
    key, content = ObjectKey(name, ROOT_CA_CONFIGMAP), {"ca.crt": root_ca}
    found = writer.store.get("configmaps", key)
    if found is None:
        writer.create("configmaps", {"metadata": {"name": key.name, "namespace": name}, "data": content})
    elif found.data.get("data") != content:
        writer.patch("configmaps", key, {"data": content})
