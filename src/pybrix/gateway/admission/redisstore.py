"""Redis as this gateway talks to it: leases of limits, users, API keys. Thin; what it answers is checked here.

Nothing here is awaited by a request.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import NoScriptError, RedisError

from pybrix.api.config import RedisConfiguration
from pybrix.gateway.admission.counter import Ask, Reply
from pybrix.gateway.admission.ratelimit import CounterKey
from pybrix.gateway.admission.users import MAX_KEYS, MAX_NAME_CHARS, ApiKey, User, read_key, read_user
from pybrix.gateway.admission.window import SLICES
from pybrix.gateway.errors import AccountsUnavailable

USERS_PREFIX = "aibrix-users/"
"""As AIBrix has it, whatever the installation's own prefix."""
MAX_USERS_LISTED = 100_000
_SCAN_COUNT = 1000
_MOST = 2**53
UNREACHABLE = (RedisError, OSError, TimeoutError)
"""What every call of a client may raise."""


class _PasswordFile(CredentialProvider):
    def __init__(self, username: str, path: Path) -> None:
        self._username = username
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._path.read_text(encoding="utf-8").strip()
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        # A small local file, once per connection; the inherited method logs a warning each time.
        return self.get_credentials()


def connect(config: RedisConfiguration) -> Redis:
    """Return a client; it connects when it is used, and again whenever it has to."""
    timeout_s = config.timeout_ms / 1000
    options: dict[str, Any] = {
        "db": config.database,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # Who asks decides what a failure means, at once.
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "client_name": "pybrix-gateway",
    }
    if config.password_path:
        options["credential_provider"] = _PasswordFile(config.username, Path(config.password_path))
    elif config.username:
        options["username"] = config.username
    if config.is_tls:
        options |= {"ssl": True, "ssl_ca_certs": config.tls_ca_path or None}
    if config.address.startswith("/"):
        return Redis(unix_socket_path=config.address, **options)
    host, _, port = config.address.rpartition(":")
    return Redis(host=host, port=int(port), **options)


class RedisLeases:
    """Runs `lease.lua`, for many counters in one round trip."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._script = resources.files("pybrix.gateway.admission").joinpath("lease.lua").read_text(encoding="utf-8")
        self._sha = ""

    async def tell(self, asks: Sequence[tuple[CounterKey, Ask]]) -> list[Reply | None]:
        """Return what Redis says to each; None where that one failed.

        Raises:
            RedisError, OSError, TimeoutError: nothing can be asked now.
        """
        if not self._sha:
            self._sha = str(await self._client.script_load(self._script))
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, ask in asks:
                pipeline.evalsha(self._sha, 1, self._name(key), *_arguments(ask))
            answers = await pipeline.execute(raise_on_error=False)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            # Redis was restarted. What it has not run it has not counted.
            self._sha = ""
            raise next(answer for answer in answers if isinstance(answer, NoScriptError))
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        if len(failed) == len(asks):
            raise failed[0]
        return [_read_reply(answer, ask) for answer, (_, ask) in zip(answers, asks, strict=True)]

    def _name(self, key: CounterKey) -> str:
        return f"{self._prefix}limits:{key.kind}:{key.scope}"


def _arguments(ask: Ask) -> list[int]:
    head = [round(ask.span_s * 1000), SLICES, ask.limit, ask.charge, ask.want, ask.need]
    return head + [number for pair in ask.returns for number in pair]


def _read_reply(answer: object, ask: Ask) -> Reply | None:
    """Return the reply, if it is one that the script can have made."""
    if not isinstance(answer, list) or len(answer) != 4 or not all(type(each) is int for each in answer):
        return None
    number, granted, used, frees_in_ms = answer
    if not (0 <= number < _MOST and 0 <= granted <= ask.want and 0 <= used < _MOST and frees_in_ms >= 0):
        return None
    return Reply(number, granted, used, min(frees_in_ms / 1000, 2 * ask.span_s))


class RedisAccounts:
    """Implements `Accounts`. Users are where AIBrix keeps them; keys are a hash of their own, with a revision."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._keys = f"{prefix}api-keys"
        self._revision = f"{prefix}api-keys:revision"

    async def get_user(self, name: str) -> User | None:
        return (await self.read_users([name]))[0]

    async def read_users(self, names: Sequence[str]) -> list[User | None]:
        """Return the user of each name, or None."""
        try:
            found = await self._client.mget([USERS_PREFIX + name for name in names])
        except UNREACHABLE as err:
            raise _unavailable(err) from err
        return [
            read_user(text, name) if isinstance(text, bytes) else None for name, text in zip(names, found, strict=True)
        ]

    async def put_user(self, user: User) -> None:
        try:
            await self._client.set(USERS_PREFIX + user.name, msgspec.json.encode(user))
        except UNREACHABLE as err:
            raise _unavailable(err) from err

    async def delete_user(self, name: str) -> bool:
        # Keys first: a user that is half deleted must not be able to come in.
        await self.delete_keys([key.hash for key in await self.list_keys() if key.user == name])
        try:
            return bool(await self._client.delete(USERS_PREFIX + name))
        except UNREACHABLE as err:
            raise _unavailable(err) from err

    async def list_users(self) -> list[User]:
        names: set[str] = set()
        try:
            async for key in self._client.scan_iter(match=f"{USERS_PREFIX}*", count=_SCAN_COUNT):
                name = cast(bytes, key)[len(USERS_PREFIX) :].decode(errors="replace")
                if 0 < len(name) <= MAX_NAME_CHARS:
                    names.add(name)
                if len(names) >= MAX_USERS_LISTED:
                    break
        except UNREACHABLE as err:
            raise _unavailable(err) from err
        found: list[User] = []
        ordered = sorted(names)
        for at in range(0, len(ordered), _SCAN_COUNT):
            found += [user for user in await self.read_users(ordered[at : at + _SCAN_COUNT]) if user is not None]
        return found

    async def revision(self) -> bytes | None:
        """Return what changes with every change of keys; None: nothing was ever written, or Redis has lost it."""
        try:
            return cast(bytes | None, await self._client.get(self._revision))
        except UNREACHABLE as err:
            raise _unavailable(err) from err

    async def list_keys(self) -> list[ApiKey]:
        try:
            stored = await cast(Any, self._client.hgetall(self._keys))
        except UNREACHABLE as err:
            raise _unavailable(err) from err
        keys = [key for text in list(stored.values())[:MAX_KEYS] if (key := read_key(text)) is not None]
        return [key for key in keys if key.hash.encode() in stored]

    async def add_key(self, key: ApiKey) -> None:
        await self.add_keys([key])

    async def add_keys(self, keys: Sequence[ApiKey]) -> None:
        """Add keys in one step."""
        try:
            if await cast(Any, self._client.hlen(self._keys)) + len(keys) > MAX_KEYS:
                raise AccountsUnavailable(f"there are {MAX_KEYS} API keys already: revoke some")
            async with self._client.pipeline(transaction=True) as pipeline:
                for key in keys:
                    pipeline.hset(self._keys, key.hash, msgspec.json.encode(key))
                pipeline.set(self._revision, secrets.token_hex(8))
                await pipeline.execute()
        except UNREACHABLE as err:
            raise _unavailable(err) from err

    async def delete_keys(self, hashes: Sequence[str]) -> None:
        if not hashes:
            return
        try:
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.hdel(self._keys, *hashes)
                pipeline.set(self._revision, secrets.token_hex(8))
                await pipeline.execute()
        except UNREACHABLE as err:
            raise _unavailable(err) from err


def _unavailable(err: BaseException) -> AccountsUnavailable:
    return AccountsUnavailable(f"Redis: {err or type(err).__name__}")
