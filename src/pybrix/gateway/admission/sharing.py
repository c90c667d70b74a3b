"""What this instance and Redis tell each other, in the background: leases of limits, users, API keys.

No request waits for any of it. While Redis does not answer, limits are of this instance alone, users are those it
remembers, and keys those it last read.
"""

from __future__ import annotations

import asyncio

import structlog
from redis.exceptions import RedisError

from pybrix.base.clock import Clock
from pybrix.gateway.admission.accounts import AccountsFile
from pybrix.gateway.admission.counter import Ask, Reply
from pybrix.gateway.admission.keyring import Keyring
from pybrix.gateway.admission.ratelimit import CounterKey, Limiter
from pybrix.gateway.admission.redisstore import UNREACHABLE, RedisAccounts, RedisLeases
from pybrix.gateway.admission.users import UserCache
from pybrix.gateway.errors import AccountsUnavailable

MOST_AT_ONCE = 256
PAUSE_S = 0.001
"""Between two exchanges: what comes meanwhile goes together."""
KEYS_READ_EVERY_S = 1.0
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0

_PROBE = CounterKey("rps", "")

_log = structlog.get_logger()


class Sharing:
    """The one conversation with Redis of this instance.

    Args:
        kept: file in which keys outlive this process, for a start without Redis.
        first_answer: set when Redis has answered for the first time.
        timeout_s: how long one exchange may take.
    """

    def __init__(
        self,
        *,
        leases: RedisLeases,
        accounts: RedisAccounts,
        limiter: Limiter,
        users: UserCache,
        keyring: Keyring,
        kept: AccountsFile,
        clock: Clock,
        first_answer: asyncio.Event,
        timeout_s: float,
    ) -> None:
        self._leases = leases
        self._accounts = accounts
        self._limiter = limiter
        self._users = users
        self._keyring = keyring
        self._kept = kept
        self._clock = clock
        self._timeout_s = timeout_s
        self._something_due = asyncio.Event()
        self._revision: bytes | None = None
        self._has_read_keys = False
        self._keys_read_s = float("-inf")
        self._first_answer = first_answer
        self.problem = "not asked yet"
        """Why Redis cannot be used; "" while it can."""
        self.failures = 0
        self.exchanges = 0

    def wake(self) -> None:
        """Something is due."""
        self._something_due.set()

    def read_keys_soon(self) -> None:
        """Read keys again now, not at their turn."""
        self._keys_read_s = float("-inf")
        self.wake()

    async def run(self) -> None:
        """Exchange what is due, until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._exchange()
            except (AccountsUnavailable, *UNREACHABLE) as err:
                self._lost(err)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
                continue
            backoff_s = FIRST_BACKOFF_S
            self._found()
            await asyncio.sleep(PAUSE_S)
            await self._wait()

    async def say_goodbye(self) -> None:
        """Tell Redis what was spent and is not told yet, once; a lease that is held ends by itself."""
        if not self._limiter.is_shared:
            return
        self._limiter.look_around(self._clock.monotonic_s())
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._tell_leases()
        except UNREACHABLE as err:
            _log.warning("Redis was not told of the last requests", error=str(err) or type(err).__name__)

    async def _wait(self) -> None:
        if self._limiter.is_due:
            return
        wait_s = self._keys_read_s + KEYS_READ_EVERY_S - self._clock.monotonic_s()
        try:
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._something_due.wait()
        except TimeoutError:
            return

    async def _exchange(self) -> None:
        self._something_due.clear()
        if not self._limiter.is_shared:
            await self._rejoin()
        await self._tell_leases()
        await self._read_users()
        if self._clock.monotonic_s() - self._keys_read_s >= KEYS_READ_EVERY_S:
            await self._read_keys()
        self.exchanges += 1

    async def _rejoin(self) -> None:
        """Find out whether Redis takes writes, and tell it what was spent alone; limits are shared after that only."""
        now_s = self._clock.monotonic_s()
        if (await self._leases.tell([(_PROBE, Ask(1.0, 1, 1, 0, 0, (), now_s))]))[0] is None:
            raise RedisError("it answers a script with something else")
        self._limiter.mark_due(now_s)
        while self._limiter.is_due:
            await self._tell_leases()

    async def _tell_leases(self) -> None:
        asks = self._limiter.plan(self._clock.monotonic_s(), MOST_AT_ONCE)
        if not asks:
            return
        replies: list[Reply | None] = [None] * len(asks)
        try:
            replies = await self._leases.tell(asks)
        finally:
            now_s = self._clock.monotonic_s()
            for (key, _), reply in zip(asks, replies, strict=True):
                self._limiter.apply(key, reply, now_s)

    async def _read_users(self) -> None:
        names = self._users.wanted(MOST_AT_ONCE)
        if not names:
            return
        found = await self._accounts.read_users(names)
        for name, user in zip(names, found, strict=True):
            self._users.put(name, user, self._clock.monotonic_s())
        if self._users.wanted(1):
            self.wake()

    async def _read_keys(self) -> None:
        revision = await self._accounts.revision()
        if revision is None and self._has_read_keys and len(self._keyring):
            # Redis has lost everything (keys that were taken away leave a revision). What it had is known here.
            _log.warning("Redis has lost the API keys: writing them again", keys=len(self._keyring))
            await self._accounts.add_keys(self._keyring.keys)
        elif revision is None and self._keyring.is_known and len(self._keyring):
            self._has_read_keys = False
        elif revision != self._revision or not self._has_read_keys:
            keys = await self._accounts.list_keys()
            self._revision, self._has_read_keys = revision, True
            if self._keyring.replace(keys):
                await self._kept.keep_keys(keys)
        self._keys_read_s = self._clock.monotonic_s()

    def _lost(self, err: BaseException) -> None:
        self.failures += 1
        self._limiter.is_shared = False
        self._users.forget_wanted()
        problem = str(err) or type(err).__name__
        if problem != self.problem:
            _log.warning("Redis does not answer: limits are of this gateway alone", error=problem)
        self.problem = problem

    def _found(self) -> None:
        if self.problem:
            _log.info("Redis answers: limits are of all gateways together")
            self.problem = ""
        self._first_answer.set()
        if not self._limiter.is_shared:
            self._limiter.is_shared = True
            # What was spent meanwhile is told now.
            self._limiter.look_around(self._clock.monotonic_s())
