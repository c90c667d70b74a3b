"""Users and their API keys: what is stored of them, and what an instance remembers of users in Redis. Pure.

A user is the JSON string that AIBrix keeps at `aibrix-users/NAME`. Of an API key only the SHA-256 hash is stored: a key
is 32 random bytes, so that nobody finds it from its hash, and a slow hash would protect nothing more.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from pybrix.envoy.wire import API_KEY_PREFIX

MAX_NAME_CHARS = 256
MAX_USERS_REMEMBERED = 20_000
MAX_USERS_WANTED = 1024
"""Names that are looked up at the same time; what comes on top is unknown."""
UNKNOWN_S = 1.0
"""How long a name counts as unknown before it is looked up again."""
MAX_KEYS = 20_000
_SECRET_BYTES = 32
_MOST = 2**53 - 1

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[!-~]([ -~]*[!-~])?$")]
Amount = Annotated[int, Meta(ge=0, le=_MOST)]


class User(msgspec.Struct, frozen=True):
    """A user as AIBrix stores it; 0 stands for a default."""

    name: Name
    rpm: Amount = 0
    tpm: Amount = 0


class ApiKey(msgspec.Struct, frozen=True):
    """What is stored of an API key. `id` names it to people; its user's name travels in a header."""

    hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}$")]
    user: HeaderName
    created_at: str = ""


_USERS = msgspec.json.Decoder(User)
_KEYS = msgspec.json.Decoder(ApiKey)


def read_user(text: bytes, name: str) -> User | None:
    """Return the stored user of that name; None when the text is none, whoever wrote it."""
    try:
        found = _USERS.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.name == name else User(name, found.rpm, found.tpm)


def read_key(text: bytes) -> ApiKey | None:
    """Return what is stored of a key; None when the text is none."""
    try:
        return _KEYS.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def make_key(user: str, created_at: str, draw: Callable[[int], bytes]) -> tuple[str, ApiKey]:
    """Return a new key, which nobody can show again, and what is stored of it.

    Args:
        draw: returns that many random bytes, fit for secrets.

    Raises:
        msgspec.ValidationError: the name cannot be in a header.
    """
    key = API_KEY_PREFIX + base64.urlsafe_b64encode(draw(_SECRET_BYTES)).decode().rstrip("=")
    stored = {"hash": hash_key(key), "id": draw(4).hex(), "user": user, "created_at": created_at}
    return key, msgspec.convert(stored, ApiKey)


def hash_key(key: str) -> str:
    """Return what Envoy looks up: the SHA-256 hash in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


class Absent(Enum):
    """Why no user is returned."""

    UNKNOWN = "unknown"
    """Nobody has created a user of that name."""
    NOT_READ = "not_read"
    """Nobody has looked yet; it is being done."""


class UserCache:
    """Users by name, as an instance remembers them; bounded, and never waited for.

    Args:
        ttl_s: how old a user may be; an older one is still used, and read again meanwhile.
        wake: called when `wanted` has something to return.
    """

    def __init__(self, ttl_s: float, wake: Callable[[], None] | None = None) -> None:
        self._ttl_s = ttl_s
        self._wake = wake
        # Oldest reading first.
        self._known: dict[str, tuple[User | None, float]] = {}
        self._wanted: dict[str, None] = {}

    def find(self, name: str, now_s: float) -> User | Absent:
        """Return what is known, and have read again what is old."""
        if not name or len(name) > MAX_NAME_CHARS:
            return Absent.UNKNOWN
        known = self._known.get(name)
        if known is None:
            return Absent.NOT_READ if self._want(name) else Absent.UNKNOWN
        user, read_s = known
        if now_s - read_s > (self._ttl_s if user is not None else min(self._ttl_s, UNKNOWN_S)):
            self._want(name)
        return user if user is not None else Absent.UNKNOWN

    def _want(self, name: str) -> bool:
        if name not in self._wanted:
            if len(self._wanted) >= MAX_USERS_WANTED:
                return False
            self._wanted[name] = None
            if self._wake is not None:
                self._wake()
        return True

    def put(self, name: str, user: User | None, now_s: float) -> None:
        """Take in what was read; None: there is no such user."""
        self._wanted.pop(name, None)
        self._known.pop(name, None)
        self._known[name] = (user, now_s)
        while len(self._known) > MAX_USERS_REMEMBERED:
            del self._known[next(iter(self._known))]

    def wanted(self, most: int) -> list[str]:
        """Return names to read, oldest wish first; they stay wanted until `put`."""
        return list(self._wanted)[:most]

    def forget_wanted(self) -> None:
        """Drop all wishes: nobody can be asked now."""
        self._wanted.clear()

    def __len__(self) -> int:
        return len(self._known)
