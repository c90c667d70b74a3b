"""The admin token: who has it may ask what others may not see. Pure."""

from __future__ import annotations

import hashlib
import hmac


class AdminToken:
    """Compares by hash, in the same time for any wrong token. Without a token nothing matches."""

    def __init__(self, token: str = "") -> None:
        self._digest = b""
        self.replace(token)

    def replace(self, token: str) -> None:
        """Take another token; "" for none."""
        self._digest = hashlib.sha256(token.encode(errors="surrogateescape")).digest() if token else b""

    def matches(self, given: bytes) -> bool:
        """Say whether this is the token, as it came over the wire; white space around it does not count."""
        found = hashlib.sha256(given.strip()).digest()
        return bool(self._digest) and hmac.compare_digest(found, self._digest)
