"""Put a random password into a Secret that has none: once, whoever comes first."""

from __future__ import annotations

import base64
import secrets

from pybrix.api.core import Secret
from pybrix.api.identity import ObjectKey
from pybrix.kube.errors import Conflict
from pybrix.kube.interface import Client
from pybrix.kube.permissions import Permission

PASSWORD_BYTES = 32


def permissions_to_fill(name: str) -> tuple[Permission, ...]:
    """Return what `fill_password` takes for a Secret of that name."""
    return (Permission("", ("secrets",), ("get", "patch"), names=(name,)),)


async def fill_password(client: Client, secret: ObjectKey, key: str) -> bool:
    """Fill a key of a Secret, unless it has a value.

    Returns:
        Whether it was empty.

    Raises:
        NotFound: there is no such Secret.
    """
    while True:
        found = await client.get(Secret, secret)
        if found.data.get(key):
            return False
        password = base64.b64encode(secrets.token_urlsafe(PASSWORD_BYTES).encode()).decode()
        try:
            await client.patch(
                Secret,
                secret,
                {"data": {key: password}},
                resource_version=found.metadata.resource_version,
                # A manager of its own: who applies the manifests again does not own the field.
                field_manager="pybrix-password",
            )
        except Conflict:
            continue
        return True
