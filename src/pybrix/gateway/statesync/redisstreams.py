"""Messages through one Redis stream, bounded in size; snapshots in one key per instance, which end by themselves.

An entry's id is the time of Redis at which it was added, so ages are by one clock however the gateways' own are set.
Nothing here is awaited by a request.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast

import msgspec
from redis.exceptions import RedisError

from pybrix.api.config import RedisConfiguration
from pybrix.base.clock import Clock
from pybrix.gateway.admission.redisstore import UNREACHABLE, connect
from pybrix.gateway.statesync.transport import MAX_NAMES, Received, Snapshot, Unreachable
from pybrix.gateway.statesync.wire import MAX_SNAPSHOT_BYTES

STREAM_BYTES = 16 * 1024 * 1024
"""About how large the stream may become."""
MOST_ENTRIES, LEAST_ENTRIES = 1024, 64
AT_ONCE = 128
SNAPSHOT_TTL_S = 900.0
_FIELD = b"d"
_START = b"0-0"
_SNAPSHOT_ALLOWANCE_S = 2.0
"""What a large value may take beyond the usual."""
_parts = msgspec.msgpack.Decoder(list[bytes])
T = TypeVar("T")


def scope_of(namespaces: Sequence[str]) -> str:
    """Return the part of keys that gateways share which route to the same namespaces."""
    if not namespaces:
        return "all"
    text = ",".join(sorted(namespaces))
    return text if len(text) <= 64 else hashlib.sha256(text.encode()).hexdigest()[:16]


class RedisStreams:
    """Implements `Transport`.

    Args:
        scope: of `scope_of`.
    """

    kind = "redis"

    def __init__(self, config: RedisConfiguration, scope: str, clock: Clock) -> None:
        self._timeout_s = config.timeout_ms / 1000
        # A read waits for the next message, so what bounds an answer is not the socket's own timeout.
        self._client = connect(msgspec.structs.replace(config, timeout_ms=10_000))
        self._clock = clock
        base = f"{config.key_prefix}statesync:{scope}:"
        self._stream = f"{base}messages"
        self._names = f"{base}instances"
        self._snapshot = f"{base}snapshot:"
        self._cursor = _START
        self._echoes: deque[bytes] = deque(maxlen=AT_ONCE)
        """Entries of this gateway's own that are still to be read."""
        self._ahead_s = 0.0
        """Redis's clock less this machine's monotonic one."""
        self._mean_bytes = 4096.0
        self.operations = 0
        """Commands sent to Redis."""

    async def _ask(self, answer: Awaitable[T], timeout_s: float, commands: int = 1) -> T:
        self.operations += commands
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except UNREACHABLE as err:
            raise Unreachable(f"Redis: {err or type(err).__name__}") from err

    async def open(self) -> None:
        seconds, micros = await self._ask(cast(Any, self._client.time()), self._timeout_s)
        self._ahead_s = seconds + micros / 1e6 - self._clock.monotonic_s()
        last = await self._ask(cast(Any, self._client.xrevrange(self._stream, count=1)), self._timeout_s)
        # Redis may have lost everything, and its clock may be an earlier one now: ids below the cursor are new then.
        if not last or _order(last[0][0]) < _order(self._cursor):
            self._cursor = _START

    async def publish(self, messages: Sequence[bytes]) -> None:
        if not messages:
            return
        for data in messages:
            self._mean_bytes += (len(data) - self._mean_bytes) / 32
        entries = int(min(MOST_ENTRIES, max(LEAST_ENTRIES, STREAM_BYTES / self._mean_bytes)))
        async with self._client.pipeline(transaction=False) as pipeline:
            for data in messages:
                pipeline.xadd(self._stream, {_FIELD: data}, maxlen=entries, approximate=True)
            ids = await self._ask(pipeline.execute(), self._timeout_s, len(messages))
        self._echoes += ids
        self._ahead_s = _seconds(ids[-1]) - self._clock.monotonic_s()

    async def receive(self, wait_s: float) -> Sequence[Received]:
        block_ms = max(1, round(wait_s * 1000)) if wait_s else None
        read = self._client.xread({self._stream: self._cursor}, count=AT_ONCE, block=block_ms)
        answer = await self._ask(cast(Any, read), wait_s + self._timeout_s)
        entries = _entries(answer)
        now_s = self._clock.monotonic_s() + self._ahead_s
        found = []
        for entry, fields in entries:
            self._cursor = entry
            if entry in self._echoes:
                continue
            if isinstance(data := fields.get(_FIELD), bytes):
                found.append(Received(data, max(0.0, now_s - _seconds(entry))))
        return found

    async def put_snapshot(self, name: str, parts: Sequence[bytes]) -> None:
        now_s = self._clock.monotonic_s() + self._ahead_s
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(self._snapshot + name, msgspec.msgpack.encode(list(parts)), px=round(SNAPSHOT_TTL_S * 1000))
            pipeline.zadd(self._names, {name: now_s})
            pipeline.zremrangebyscore(self._names, "-inf", now_s - SNAPSHOT_TTL_S)
            pipeline.zremrangebyrank(self._names, 0, -4 * MAX_NAMES)
            pipeline.pexpire(self._names, round(SNAPSHOT_TTL_S * 1000))
            await self._ask(pipeline.execute(), self._timeout_s + _SNAPSHOT_ALLOWANCE_S, 5)

    async def get_snapshot(self, name: str) -> Snapshot | None:
        key = self._snapshot + name
        size = await self._ask(cast(Any, self._client.strlen(key)), self._timeout_s)
        if not 0 < size <= 2 * MAX_SNAPSHOT_BYTES:
            return None
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.get(key)
            pipeline.pttl(key)
            text, left_ms = await self._ask(pipeline.execute(), self._timeout_s + _SNAPSHOT_ALLOWANCE_S, 2)
        if not isinstance(text, bytes):
            return None
        try:
            parts = _parts.decode(text)
        except msgspec.DecodeError:
            return None
        age_s = SNAPSHOT_TTL_S - left_ms / 1000 if isinstance(left_ms, int) and left_ms >= 0 else SNAPSHOT_TTL_S
        return Snapshot(parts[:4], max(0.0, age_s))

    async def names(self) -> Sequence[str]:
        found = await self._ask(cast(Any, self._client.zrevrange(self._names, 0, MAX_NAMES - 1)), self._timeout_s)
        return [name.decode(errors="replace") for name in found if isinstance(name, bytes) and len(name) <= 128]

    async def aclose(self) -> None:
        try:
            await self._client.aclose()
        except (RedisError, OSError):
            # It was not connected any more.
            return


def _entries(answer: object) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Return the entries of the one stream that was read; none where there is nothing, or something else."""
    if isinstance(answer, dict):
        found = list(answer.values())
    elif isinstance(answer, list):
        found = [each[1] for each in answer if len(each) == 2]
    else:
        return []
    # The protocol's newer version wraps them once more.
    entries = found[0] if found else []
    if entries and isinstance(entries[0], list):
        entries = entries[0]
    return [(entry, fields) for entry, fields in entries if isinstance(entry, bytes) and isinstance(fields, dict)]


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or b"0")


def _seconds(entry: bytes) -> float:
    return _order(entry)[0] / 1000
