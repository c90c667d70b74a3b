"""Admission, put together: users, keys and limits in Redis where there is one, else in a file and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pybrix.api.config import GatewayConfiguration
from pybrix.base.cancellation import run_cancellable
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.gateway.admission.accounts import Accounts, AccountsFile
from pybrix.gateway.admission.gate import FindUser, Gate
from pybrix.gateway.admission.keyring import Keyring, Publish
from pybrix.gateway.admission.ratelimit import Limiter
from pybrix.gateway.admission.redisstore import RedisAccounts, RedisLeases, connect
from pybrix.gateway.admission.sharing import Sharing
from pybrix.gateway.admission.users import Absent, ApiKey, User, UserCache, make_key

ACCOUNTS_FILE = "accounts.json"
KEPT_KEYS_FILE = "api-keys.json"
FIRST_ANSWER_S = 1.0
"""How long a brain waits for Redis before it starts with limits of its own."""


class Admission:
    """What a brain has of users, keys and limits.

    Args:
        data_dir: of the gateway.
        draw: returns that many random bytes, fit for secrets.
        publish: see `Keyring`.

    Raises:
        AccountsUnavailable: the file of users and keys cannot be read.
    """

    def __init__(
        self,
        config: GatewayConfiguration,
        *,
        data_dir: Path,
        clock: Clock,
        draw: Callable[[int], bytes],
        publish: Publish,
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._limits = config.limits
        self.is_key_required = config.identity.is_api_key_required
        """Whether clients need an API key; where they do not, nobody looks at one."""
        self.keyring = Keyring(publish)
        self.limiter = Limiter(config.limits.lease_ratio, self._wake)
        self._sharing: Sharing | None = None
        self.first_answer = asyncio.Event()
        """Set when Redis has answered for the first time; at once where there is none."""
        self._client = None
        self.accounts: Accounts
        if config.redis.address:
            self._client = connect(config.redis)
            self._users = UserCache(config.limits.user_cache_s, self._wake)
            kept = AccountsFile(data_dir / KEPT_KEYS_FILE)
            if kept.is_there:
                self.keyring.replace(kept.keys)
            self.accounts = accounts = RedisAccounts(self._client, config.redis.key_prefix)
            self._sharing = Sharing(
                leases=RedisLeases(self._client, config.redis.key_prefix),
                accounts=accounts,
                limiter=self.limiter,
                users=self._users,
                keyring=self.keyring,
                kept=kept,
                clock=clock,
                first_answer=self.first_answer,
                timeout_s=2 * config.redis.timeout_ms / 1000,
            )
            self.find_user: FindUser = self._users.find
        else:
            self.accounts = self._file = AccountsFile(data_dir / ACCOUNTS_FILE)
            self.keyring.replace(self._file.keys)
            self.first_answer.set()
            self.find_user = self._find_in_file
        self.gate = Gate(config, self.find_user, self.limiter)

    def _find_in_file(self, name: str, now_s: float) -> User | Absent:
        return self._file.find_user(name) or Absent.UNKNOWN

    def _wake(self) -> None:
        if self._sharing is not None:
            self._sharing.wake()

    async def run(self) -> None:
        """Keep in touch with Redis until cancelled; returns at once where there is none."""
        if self._sharing is not None:
            await run_cancellable(self._sharing.run())

    async def aclose(self) -> None:
        """Tell Redis what it does not know yet, and close what is open to it."""
        if self._sharing is not None:
            await self._sharing.say_goodbye()
        if self._client is not None:
            await self._client.aclose()

    # Users and keys, for the API.

    async def put_user(self, user: User) -> None:
        await self.accounts.put_user(user)
        self._remember(user.name, user)

    async def delete_user(self, name: str) -> bool:
        was_there = await self.accounts.delete_user(name)
        self._remember(name, None)
        await self._read_keys()
        return was_there

    def _remember(self, name: str, user: User | None) -> None:
        if self._sharing is not None:
            self._users.put(name, user, self._clock.monotonic_s())

    async def create_key(self, user: str) -> tuple[str, ApiKey]:
        """Return a new key of a user; it is in Envoy's files within a second."""
        key, stored = make_key(user, format_rfc3339(self._clock.now()), self._draw)
        await self.accounts.add_key(stored)
        await self._read_keys()
        return key, stored

    async def revoke_keys(self, key_id: str) -> list[ApiKey]:
        """Take the keys of that id away; return them."""
        doomed = [key for key in await self.accounts.list_keys() if key.id == key_id]
        await self.accounts.delete_keys([key.hash for key in doomed])
        await self._read_keys()
        return doomed

    async def _read_keys(self) -> None:
        if self._sharing is not None:
            self._sharing.read_keys_soon()
        else:
            self.keyring.replace(await self.accounts.list_keys())

    @property
    def problem(self) -> str:
        """Why limits are of this instance alone; "" when they are shared, or when there is no Redis."""
        return self._sharing.problem if self._sharing is not None else ""

    @property
    def exchanges(self) -> int:
        """How often Redis was asked."""
        return self._sharing.exchanges if self._sharing is not None else 0

    @property
    def failures(self) -> int:
        """How often Redis did not answer."""
        return self._sharing.failures if self._sharing is not None else 0

    def describe(self) -> dict[str, Any]:
        """Return what `/debug/view` says of limits."""
        return {
            "limits": "off" if not self._limits.is_enabled else "shared" if self.limiter.is_shared else "per-instance",
            "redis": "none" if self._sharing is None else self.problem or "ok",
            "apiKeys": len(self.keyring),
            "requestsCharged": self.limiter.kept,
            "counters": self.limiter.counters,
        }
