"""Read the Secrets that objects name, each at most once in a while however many objects name it.

One by one and by name, so that the controller needs no right to list or watch Secrets.
"""

from __future__ import annotations

import base64
import binascii

from pybrix.api.core import Secret
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.controllers.credentials import Credentials
from pybrix.kube.errors import Forbidden, NotFound
from pybrix.kube.interface import Client

FRESH_S = 30.0
"""How old what is known of a Secret may be: the delay after which a changed one takes effect."""
RETRY_S = 5.0
"""The same for one that could not be read."""


class CredentialsReader:
    """Secrets as they were read last."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[ObjectKey, tuple[Credentials, float]] = {}

    async def read(self, namespace: str, name: str, field: str = "credentialsSecretRef") -> Credentials:
        """Return what a Secret holds.

        Args:
            field: where it is named, for people.

        Raises:
            KubeError: the API server gave no answer; what was known before is too old.
        """
        key = ObjectKey(namespace, name)
        now_s = self._clock.monotonic_s()
        known = self._known.get(key)
        if known is not None and now_s < known[1]:
            return known[0]
        found = await self._fetch(key, field)
        self._known[key] = (found, now_s + (FRESH_S if found.values is not None else RETRY_S))
        return found

    def forget(self, namespace: str, name: str) -> None:
        self._known.pop(ObjectKey(namespace, name), None)

    async def _fetch(self, key: ObjectKey, field: str) -> Credentials:
        try:
            secret = await self._client.get(Secret, key)
        except NotFound:
            return Credentials(None, f"Secret {key.name} of {field} does not exist", is_missing=True)
        except Forbidden:
            return Credentials(None, f"the controller may not read Secret {key.name} of {field}")
        try:
            return Credentials({name: base64.b64decode(v, validate=True).decode() for name, v in secret.data.items()})
        except (binascii.Error, UnicodeDecodeError):
            return Credentials(None, f"Secret {key.name} of {field} holds something other than text")
