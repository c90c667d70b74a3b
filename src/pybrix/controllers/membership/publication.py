"""Publish which members a cache has, as one of several controllers that may try at once.

    outcome = await publisher.publish("uid-1", wanted)       # every pass, and before the leases end
    await publisher.leave("uid-1", before, wanted)           # once, when it goes to another server
    await publisher.retract(wanted)                          # once, when the cache is deleted

The record is written only if it still is what was read (compare and set), so of two controllers one finds that it was
late and begins anew with what the other one wrote: versions only grow, and none is overwritten. The record stays until
somebody changes it, because engines go on with it while no controller is there. Beside it every member has a key of its
own with a lease: who wants to know what is alive looks at these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from pybrix.base.clock import Clock
from pybrix.controllers.membership.errors import KeyTaken, StoreError, no_membership
from pybrix.controllers.membership.metrics import METADATA_SECONDS, MOVED_SLOTS, PUBLICATIONS
from pybrix.controllers.membership.outcome import Outcome, Wanted
from pybrix.controllers.membership.records import Record, decode, encode, next_record
from pybrix.controllers.membership.ring import moved
from pybrix.controllers.membership.servers import Connections
from pybrix.controllers.membership.store import Store, Stored

_ATTEMPTS = 20
"""Races that are lost before a pass gives up; each is somebody else's success."""

_log = structlog.get_logger()


class RaceLost(StoreError):
    """Others wrote each time; the next pass tries again."""

    reason = "RaceLost"
    is_reachable = True


class Publisher:
    """Remembers what was published last, for servers that lose it."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock
        self._known: dict[str, Record] = {}

    def last(self, user: str) -> Record | None:
        return self._known.get(user)

    def remember(self, user: str, record: Record) -> None:
        """Take over what another process published last."""
        self._known[user] = record

    async def publish(
        self, user: str, wanted: Wanted, before_writing: Callable[[], Awaitable[None]] | None = None
    ) -> Outcome:
        """Make the record right and prolong the leases of the members.

        Args:
            before_writing: called when it is certain that the key is free or this cache's own.
        """
        outcome = await self._publish(user, wanted, before_writing)
        kind, error = wanted.server.kind, outcome.error
        PUBLICATIONS.labels(kind, error.reason if error is not None else "success").inc()
        if outcome.latency_s is not None:
            METADATA_SECONDS.labels(kind).observe(outcome.latency_s)
        return outcome

    async def _publish(
        self, user: str, wanted: Wanted, before_writing: Callable[[], Awaitable[None]] | None
    ) -> Outcome:
        latency_s: float | None = None
        is_changed = False
        try:
            store = await self._connections.of(user, wanted.server)
            began_s = self._clock.monotonic_s()
            stored = (await store.read([wanted.keys.record])).get(wanted.keys.record)
            latency_s = self._clock.monotonic_s() - began_s
            read_record(stored, wanted)
            if before_writing is not None:
                await before_writing()
            known = self._known.get(user)
            record, is_changed = await self._settle(store, stored, wanted, known)
            if is_changed:
                count = moved(known.owners, record.owners) if known is not None else 0
                MOVED_SLOTS.inc(count)
                _log.info("membership published", owner=wanted.owner, version=record.version, moved_slots=count)
            self._known[user] = record
            entries = {wanted.keys.member(m.name): msgspec.json.encode(m) for m in wanted.members}
            await store.keep(wanted.keys.members, entries, wanted.ttl_s)
        except StoreError as err:
            return Outcome(self._known.get(user), err, latency_s, is_changed)
        return Outcome(record, None, latency_s, is_changed)

    async def _settle(
        self, store: Store, stored: Stored | None, wanted: Wanted, known: Record | None
    ) -> tuple[Record, bool]:
        """Return the record that is there at the end, and whether it was changed here."""
        for _ in range(_ATTEMPTS):
            before = read_record(stored, wanted)
            after = next_record(
                before,
                wanted.members,
                owner=wanted.owner,
                slots=wanted.slots,
                known=known,
                least_version=wanted.least_version,
                virtual_nodes=wanted.virtual_nodes,
            )
            if after is before:
                return after, False
            if await store.swap(wanted.keys.record, encode(after), stored):
                return after, True
            stored = (await store.read([wanted.keys.record])).get(wanted.keys.record)
        raise RaceLost(f"others wrote {wanted.keys.record} {_ATTEMPTS} times meanwhile")

    async def leave(self, user: str, before: Wanted, now: Wanted) -> None:
        """Remove what was published where the spec pointed before.

        Raises:
            StoreError: it is still there, or not known to be gone.
        """
        async with self._connections.borrow(before.server) as store:
            stored = (await store.read([before.keys.record])).get(before.keys.record)
            # The same server may have another address by now: what was published last is there.
            is_same = stored is not None and decode(stored.content) == self._known.get(user)
            if before.keys != now.keys or not is_same:
                await self._clear(store, before)

    async def retract(self, wanted: Wanted) -> None:
        """Remove all that was published, unless another object has taken the key.

        Raises:
            StoreError: it is still there, or not known to be gone.
        """
        async with self._connections.borrow(wanted.server) as store:
            await self._clear(store, wanted)

    async def _clear(self, store: Store, wanted: Wanted) -> None:
        names = {member.name for member in wanted.members}
        for _ in range(_ATTEMPTS):
            stored = (await store.read([wanted.keys.record])).get(wanted.keys.record)
            record = decode(stored.content) if stored is not None else None
            if stored is not None and (record is None or record.owner != wanted.owner):
                # Nothing was published from here, and all that begins alike may be theirs.
                return
            if record is None:
                break
            names |= {node.name for node in record.nodes}
            if await store.swap(wanted.keys.record, None, stored):
                break
        else:
            raise RaceLost(f"others wrote {wanted.keys.record} {_ATTEMPTS} times meanwhile")
        await store.remove([wanted.keys.member(name) for name in sorted(names)], wanted.keys.prefixes)

    async def forget(self, user: str) -> None:
        """Forget a cache, without touching what is published of it."""
        self._known.pop(user, None)
        await self._connections.leave(user)


def read_record(stored: Stored | None, wanted: Wanted) -> Record | None:
    """Return the record that is stored; None when nothing is.

    Raises:
        KeyTaken: it is somebody else's, or something else.
    """
    if stored is None or not stored.content:
        return None
    record = decode(stored.content)
    if record is None:
        raise KeyTaken(no_membership(wanted.keys.record))
    if record.owner not in ("", wanted.owner):
        raise KeyTaken(
            f"{wanted.keys.record} is published by {record.owner}: give one of both another server, database or prefix"
        )
    return record
