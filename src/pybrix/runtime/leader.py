"""Leader election on a Lease: of several processes one works, and another takes over when it is gone.

The protocol is client-go's: whoever sees a holder's record unchanged for the lease's whole duration may take it. Only
the local monotonic clock counts, so clocks that differ between machines do no harm. A leader that cannot renew stops
working at `renew_deadline_s`, before anyone else may begin.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from pybrix.api.core import Lease, LeaseSpec
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import ObjectMeta
from pybrix.base.clock import Clock, format_rfc3339_micro
from pybrix.kube.errors import Conflict, KubeError, NotFound
from pybrix.kube.interface import Client
from pybrix.runtime.errors import LeadershipLost
from pybrix.runtime.metrics import LEADING

RELEASE_TIMEOUT_S = 2.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LeaderConfig:
    """Which lease, under which name, and how patiently."""

    key: ObjectKey
    """The Lease; its namespace must exist."""
    identity: str
    """Unique to the process, such as host name and a random part."""
    lease_duration_s: int = 15
    """How long a silent leader keeps others waiting; 15."""
    renew_deadline_s: float = 10.0
    """When a leader without a successful renewal gives up; less than the duration; 10."""
    retry_period_s: float = 2.0
    """Time between attempts, of leader and candidates; 2."""


class LeaderElector:
    """Take part in the election for one lease."""

    def __init__(self, client: Client, config: LeaderConfig, *, clock: Clock, chance: random.Random) -> None:
        if not 0 < config.retry_period_s < config.renew_deadline_s < config.lease_duration_s:
            raise ValueError("leader election needs retry period < renew deadline < lease duration")
        self.is_leader = False
        self._client = client
        self._config = config
        self._clock = clock
        self._chance = chance
        self._seen: Lease | None = None
        self._seen_at_s = 0.0
        self._renewed_at_s = 0.0
        self._log = _log.bind(lease=str(config.key), identity=config.identity)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Compete for the lease and do `work` while it is held; return when the work does.

        Leadership that is lost cancels the work, and the competition begins anew.
        """
        is_finished = False
        while not is_finished:
            await self._acquire()
            self._set_leading(True)
            try:
                is_finished = await self._work_while_leading(work)
            finally:
                self._set_leading(False)
                await self._release()

    async def _acquire(self) -> None:
        self._log.info("waiting for leadership")
        while not await self._attempt(self._config.renew_deadline_s):  # noqa: ASYNC110 The event is on a server.
            # Jitter keeps candidates from meeting at every attempt.
            await asyncio.sleep(self._config.retry_period_s * self._chance.uniform(1.0, 1.2))
        self._log.info("leading")

    async def _work_while_leading(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Return whether the work came to its end, and not the leadership."""
        is_finished = False
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renew(), name="leader-renewal")
                await work()
                is_finished = True
                renewing.cancel()
        except* LeadershipLost as lost:
            self._log.warning("leadership lost", why=str(lost.exceptions[0]))
        return is_finished

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, min(self._config.retry_period_s, self._left_s())))
            # Asked again after the sleep: the whole process may have been stopped meanwhile.
            if (left_s := self._left_s()) <= 0:
                raise LeadershipLost(f"not renewed for {self._config.renew_deadline_s} s")
            if not await self._attempt(left_s) and self._is_held_by_another():
                raise LeadershipLost("somebody else holds the lease")

    def _left_s(self) -> float:
        """Return how long the last renewal still holds."""
        return self._renewed_at_s + self._config.renew_deadline_s - self._clock.monotonic_s()

    async def _attempt(self, timeout_s: float) -> bool:
        """Take or renew the lease; return whether we hold it. Failures are logged and tried again by the caller."""
        began_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(timeout_s):
                is_held = await self._take_or_renew()
        except (KubeError, TimeoutError) as err:
            self._log.warning("lease not written", error=str(err) or "no answer in time")
            return False
        if is_held:
            self._renewed_at_s = began_s
        return is_held

    async def _take_or_renew(self) -> bool:
        key, identity = self._config.key, self._config.identity
        try:
            lease = await self._client.get(Lease, key)
        except NotFound:
            spec = msgspec.convert(self._claim(LeaseSpec()), LeaseSpec)
            lease = Lease(metadata=ObjectMeta(namespace=key.namespace, name=key.name), spec=spec)
            try:
                self._observe(await self._client.create(lease))
            except Conflict:
                return False
            return True
        self._observe(lease)
        holder = lease.spec.holder_identity
        if holder and holder != identity:
            duration_s = lease.spec.lease_duration_seconds or self._config.lease_duration_s
            if self._clock.monotonic_s() < self._seen_at_s + duration_s:
                return False
        return await self._write(lease, self._claim(lease.spec))

    async def _write(self, lease: Lease, spec: dict[str, Any]) -> bool:
        """Patch the lease as it was read; False when somebody was faster."""
        key, version = self._config.key, lease.metadata.resource_version
        try:
            self._observe(await self._client.patch(Lease, key, {"spec": spec}, resource_version=version))
        except Conflict:
            return False
        return True

    async def _release(self) -> None:
        """Let the next candidate begin at once, if the lease is ours still."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                lease = await self._client.get(Lease, self._config.key)
                if lease.spec.holder_identity == self._config.identity:
                    now = format_rfc3339_micro(self._clock.now())
                    spec = {"holderIdentity": None, "leaseDurationSeconds": 1, "renewTime": now}
                    await self._write(lease, spec)
                    self._log.info("lease released")
        except (KubeError, TimeoutError) as err:
            self._log.info("lease not released; it expires by itself", error=str(err) or "no answer in time")

    def _claim(self, previous: LeaseSpec) -> dict[str, Any]:
        """Return the record that says that we hold the lease."""
        now = format_rfc3339_micro(self._clock.now())
        claim = {
            "holderIdentity": self._config.identity,
            "leaseDurationSeconds": self._config.lease_duration_s,
            "renewTime": now,
        }
        if previous.holder_identity == self._config.identity:
            return claim
        # Transitions count changes of the holder, a first holder is none.
        is_first = previous.holder_identity is None and previous.acquire_time is None
        transitions = previous.lease_transitions + (0 if is_first else 1)
        return claim | {"acquireTime": now, "leaseTransitions": transitions}

    def _observe(self, lease: Lease) -> None:
        """Note when the record last changed, by the local clock."""
        if self._seen is None or self._seen.metadata.resource_version != lease.metadata.resource_version:
            self._seen_at_s = self._clock.monotonic_s()
        self._seen = lease

    def _is_held_by_another(self) -> bool:
        holder = self._seen.spec.holder_identity if self._seen is not None else None
        return holder is not None and holder != self._config.identity

    def _set_leading(self, is_leader: bool) -> None:
        self.is_leader = is_leader
        LEADING.labels(str(self._config.key)).set(int(is_leader))
