"""What the controller of a kind of cache may do at the API server. Pure."""

from __future__ import annotations

from pybrix.api.markers import CustomResource
from pybrix.kube.permissions import Permission


def permissions_of(kind: type[CustomResource]) -> tuple[Permission, ...]:
    """Return the rights, but for Secrets."""
    group, plural = kind.gvk.group, kind.gvk.plural
    return (
        Permission(group, (plural,), ("list", "watch", "patch")),
        Permission(group, (f"{plural}/status",), ("patch",)),
        # Owner references with blockOwnerDeletion need it where OwnerReferencesPermissionEnforcement is on.
        Permission(group, (f"{plural}/finalizers",), ("update",)),
        # One child is read by name when it cannot be created: is it the cache's?
        Permission("apps", ("statefulsets",), ("get", "list", "watch", "create", "patch", "delete")),
        Permission("", ("services",), ("get", "list", "watch", "create", "patch", "delete")),
        Permission("", ("configmaps",), ("get", "list", "watch", "create", "patch")),
        Permission("", ("pods",), ("list", "watch")),
    )
