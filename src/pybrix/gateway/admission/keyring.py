"""The API keys that Envoy lets in, and when it is told of a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from pybrix.gateway.admission.users import ApiKey

Publish = Callable[[Mapping[str, str]], None]

_log = structlog.get_logger()


class Keyring:
    """What is known of all keys.

    Args:
        publish: called with names of users by the hash of their key, whenever these change.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._keys: dict[str, ApiKey] = {}
        self.is_known = False
        """Whether anyone has said which keys there are; none at all is an answer too."""

    def replace(self, keys: Sequence[ApiKey]) -> bool:
        """Take in all keys; return whether something changed."""
        found = {key.hash: key for key in keys}
        if found == self._keys and self.is_known:
            return False
        self._keys, self.is_known = found, True
        self._publish({each: key.user for each, key in found.items()})
        _log.info("API keys read", keys=len(found))
        return True

    @property
    def keys(self) -> list[ApiKey]:
        return list(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)
