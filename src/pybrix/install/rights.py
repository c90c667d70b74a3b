"""Collect what the components say that they do at the API server."""

from __future__ import annotations

from pybrix.controllers.registry import REGISTRY, lease_permissions, permissions_of
from pybrix.gateway.view.collector import PERMISSIONS as GATEWAY_PERMISSIONS
from pybrix.install.manifests import Rights
from pybrix.install.names import CONTROLLERS, REDIS
from pybrix.install.password import permissions_to_fill


def collect_rights() -> Rights:
    """Return the rights of all components of this version."""
    return Rights(
        controllers=permissions_of(REGISTRY),
        election=lease_permissions(CONTROLLERS),
        gateway=GATEWAY_PERMISSIONS,
        password=permissions_to_fill(REDIS),
    )
