"""State that is shared and kept, put together: the loops that speak, listen, write snapshots and the state file.

No request waits for any of it. While nothing can be sent or received, this gateway decides by what it knows itself;
what others had in flight stops to count after a while, and everything is told anew once it can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from pybrix.api.config import GatewayConfiguration
from pybrix.base.cancellation import cancel_until_ended
from pybrix.base.clock import Clock
from pybrix.gateway.indexes.learnt import LearntModel
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.scheduling.registry import Indexes
from pybrix.gateway.statesync import statefile
from pybrix.gateway.statesync.localpeers import LocalPeers, check_peers_dir
from pybrix.gateway.statesync.redisstreams import RedisStreams, scope_of
from pybrix.gateway.statesync.replica import Replica
from pybrix.gateway.statesync.statefile import BlocksDocument, Restorer, StateDocument
from pybrix.gateway.statesync.transport import Received, Transport, Unreachable
from pybrix.gateway.statesync.wire import encode
from pybrix.gateway.view.facts import ModelKey
from pybrix.gateway.view.snapshot import ClusterView

MERGE_PATIENCE_S = 1.5
"""How long a brain waits for what the others know before it starts without."""
SAVE_S = 2.0
HOUSEKEEPING_S = 0.5
SNAPSHOT_ON_DEMAND_S = 1.0
"""Least time between two snapshots that others ask for."""
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 2.0
WAIT_S = 0.5
"""How long a read waits for the next message."""
GOODBYE_S = 2.0
_SLICE = 16
"""Messages that are taken in at once."""

_log = structlog.get_logger()


class StateSync:
    """
    Args:
        data_dir: of the gateway: state files.
        draw: returns that many random bytes.
        sizes: of requests, by model.
        activity: returns a number that changes when something has happened that is worth saving.

    Raises:
        UsageError: the directory of `statesync.peersDir` does not do.
    """

    def __init__(
        self,
        config: GatewayConfiguration,
        *,
        data_dir: Path,
        clock: Clock,
        draw: Callable[[int], bytes],
        loads: LoadTable,
        indexes: Indexes,
        sizes: MutableMapping[ModelKey, LearntModel],
        reservations: Reservations,
        activity: Callable[[], int],
    ) -> None:
        self._config = config.statesync
        self._data_dir = data_dir
        self._clock = clock
        self._loads = loads
        self._indexes = indexes
        self._sizes = sizes
        self._reservations = reservations
        self._activity = activity
        self._transport: RedisStreams | LocalPeers | None = None
        if not config.statesync.is_enabled:
            pass
        elif config.redis.address:
            self._transport = RedisStreams(config.redis, scope_of(config.namespaces), clock)
        elif config.statesync.peers_dir:
            check_peers_dir(Path(config.statesync.peers_dir))
            self._transport = LocalPeers(Path(config.statesync.peers_dir))
        self._saved = statefile.load_state(data_dir) if config.statesync.is_enabled else None
        name = config.statesync.instance or (self._saved[0].name if self._saved else "") or f"gw-{draw(4).hex()}"
        before = self._saved[0].incarnation if self._saved else 0
        self.replica = Replica(
            name,
            max(self._now_ms(), before + 1),
            loads=loads,
            indexes=indexes,
            sizes=sizes,
            lifetime_s=reservations.patience_s,
            draw_suffix=lambda: draw(2).hex(),
        )
        if self._transport is None:
            self.replica.own.mute()
        if not config.statesync.is_enabled:
            indexes.users.journal = None
        self.merged = asyncio.Event()
        """Set when what others know has been taken in, or there is nobody to ask."""
        self._snapshot_wanted = asyncio.Event()
        self._is_open = False
        self._is_begun = False
        """Whether what was saved is in use; what would be saved before that is nothing."""
        self._saved_activity = -1
        self._told_problem = ""
        self.problem = ""
        """Why nothing can be sent or received now; "" while it can."""
        self.restored = 0
        """Requests in flight that were counted again at the start."""
        self.sent = self.sent_bytes = self.received_bytes = self.failures = self.snapshots = 0

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    @property
    def transport_kind(self) -> str:
        """`redis`, `peers`, or `none`."""
        return self._transport.kind if self._transport is not None else "none"

    @property
    def operations(self) -> int:
        """Commands sent to Redis, or datagrams to peers."""
        return self._transport.operations if self._transport is not None else 0

    def follow(self, view: ClusterView) -> None:
        """Take in which endpoints and models there are now."""
        self.replica.follow(view.endpoint_ids(), view.models, self._clock.monotonic_s())

    async def run(self, view: ClusterView) -> None:
        """Begin with what was saved, then keep in step with the others, until cancelled. `view` is the first one."""
        if not self._config.is_enabled:
            self.merged.set()
            return
        self.follow(view)
        await self._restore(view)
        self._is_begun = True
        loops = [self._keep_house, self._save, self._write_snapshots]
        if self._transport is None:
            self.merged.set()
        else:
            loops += [partial(self._listen, self._transport), partial(self._speak, self._transport)]
        tasks = {asyncio.ensure_future(self._go_on(loop)) for loop in loops}
        try:
            await asyncio.wait(tasks)
        finally:
            await cancel_until_ended(*tasks)

    async def _go_on(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop again whenever it fails: requests are decided all the same."""
        while True:
            try:
                await loop()
            except Exception:  # noqa: BLE001 - the loop of a worker
                self.failures += 1
                _log.exception("gateways' shared state")
                await asyncio.sleep(LONGEST_BACKOFF_S)

    async def finish(self) -> None:
        """Hand over: say goodbye, write a last snapshot and the state files. Takes a bounded time and never fails."""
        transport = self._transport
        try:
            if not self._is_begun:
                return
            async with asyncio.timeout(GOODBYE_S):
                parts = await self._render()
                await self._save_now(parts[1])
                if transport is not None and self._is_open:
                    await transport.put_snapshot(self.replica.name, parts)
                    await transport.publish(self.replica.messages(self._clock.monotonic_s(), is_leaving=True))
        except (Unreachable, TimeoutError) as err:
            _log.warning("others were not told goodbye", error=str(err) or type(err).__name__)
        finally:
            if transport is not None:
                await transport.aclose()

    # What was saved.

    async def _restore(self, view: ClusterView) -> None:
        if self._saved is None:
            return
        (document, message), self._saved = self._saved, None
        age_s = max(0.0, self._clock.now().timestamp() - document.saved_at_s)
        restorer = Restorer(
            self.replica.own,
            loads=self._loads,
            indexes=self._indexes,
            sizes=self._sizes,
            live=frozenset(view.endpoint_ids()),
            models=frozenset(view.models),
        )
        now_s = self._clock.monotonic_s()
        restorer.restore(message, now_s, age_s)
        find = statefile.endpoint_finder(view)
        self.restored = statefile.restore_held(document.held, self._reservations, find, now_s, age_s)
        blocks = await asyncio.to_thread(statefile.load_blocks, self._data_dir)
        for place in range(len(blocks.blocks) if blocks is not None else 0):
            assert blocks is not None
            restorer.restore_blocks(blocks, place)
            await asyncio.sleep(0)
        _log.info("saved state in use", age_s=round(age_s, 1), requests=self.restored, blocks=len(self._indexes.prefix))

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            if self._activity() != self._saved_activity:
                await self._save_now()

    async def _save_now(self, blocks: bytes | None = None) -> None:
        self._saved_activity = self._activity()
        now_s, saved_at_s = self._clock.monotonic_s(), self._clock.now().timestamp()
        own = self.replica.own
        held = statefile.render_held(self._reservations, now_s)
        state = encode(own.snapshot(now_s))
        documents: list[StateDocument | BlocksDocument] = [
            StateDocument(saved_at_s, own.name, own.incarnation, state, held)
        ]
        if blocks is not None:
            documents.append(BlocksDocument(saved_at_s, blocks))
        try:
            for document in documents:
                await asyncio.to_thread(statefile.save, self._data_dir, document)
        except OSError as err:
            self._saved_activity = -1
            _log.warning("state not saved", directory=str(self._data_dir), error=str(err))

    # Snapshots.

    async def _render(self) -> list[bytes]:
        """Return the parts of a snapshot; others get their turn between the blocks of two endpoints."""
        state, blocks, work = self.replica.snapshot(self._clock.monotonic_s())
        for _ in work:
            await asyncio.sleep(0)
        return [encode(state), encode(blocks)]

    async def _write_snapshots(self) -> None:
        saved_activity = -1
        while True:
            try:
                async with asyncio.timeout(self._config.snapshot_interval_s):
                    await self._snapshot_wanted.wait()
            except TimeoutError:
                if self._activity() == saved_activity and self._transport is None:
                    continue
            self._snapshot_wanted.clear()
            saved_activity = self._activity()
            sequence = self.replica.own.sequence
            parts = await self._render()
            await self._save_now(parts[1])
            if self._transport is not None and self._is_open:
                try:
                    await self._transport.put_snapshot(self.replica.name, parts)
                    self.replica.note_written(sequence)
                    self.snapshots += 1
                except Unreachable as err:
                    self._lost(err)
            await asyncio.sleep(SNAPSHOT_ON_DEMAND_S)

    # The others.

    async def _speak(self, transport: Transport) -> None:
        interval_s = self._config.interval_ms / 1000
        while True:
            await asyncio.sleep(interval_s)
            if not self._is_open:
                continue
            messages = self.replica.messages(self._clock.monotonic_s())
            if not messages:
                continue
            try:
                await transport.publish(messages)
            except Unreachable as err:
                self._lost(err)
                continue
            self.sent += len(messages)
            self.sent_bytes += sum(map(len, messages))

    async def _listen(self, transport: Transport) -> None:
        backoff_s = FIRST_BACKOFF_S
        pause_s = self._config.interval_ms / 1000 / 2
        while True:
            try:
                if not self._is_open:
                    await self._join(transport)
                    backoff_s = FIRST_BACKOFF_S
                await self._take(await transport.receive(WAIT_S))
                for name in self.replica.wanted(self._clock.monotonic_s()):
                    await self._fetch(transport, name)
            except Unreachable as err:
                self._lost(err)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
                continue
            if self.replica.take_snapshot_due():
                self._snapshot_wanted.set()
            # What comes meanwhile is read together.
            await asyncio.sleep(pause_s)

    async def _join(self, transport: Transport) -> None:
        """Connect, and take in all that is there: snapshots, then messages. Others learn what this gateway knows."""
        await transport.open()
        for name in await transport.names():
            if name != self.replica.name:
                await self._fetch(transport, name)
        while messages := await transport.receive(0):
            await self._take(messages)
        self.problem = ""
        if self._told_problem:
            self._told_problem = ""
            _log.info("gateways share their state again", transport=transport.kind)
            self.replica.own.tell_all()
        self.replica.ask()
        self._snapshot_wanted.set()
        self._is_open = True
        self.merged.set()

    async def _fetch(self, transport: Transport, name: str) -> None:
        found = await transport.get_snapshot(name)
        if found is not None:
            self.received_bytes += sum(map(len, found.parts))
            for _ in self.replica.take_snapshot(found.parts, found.age_s, self._clock.monotonic_s()):
                await asyncio.sleep(0)

    async def _take(self, messages: Sequence[Received]) -> None:
        for place, (data, age_s) in enumerate(messages):
            self.received_bytes += len(data)
            self.replica.take(data, age_s, self._clock.monotonic_s())
            if place % _SLICE == _SLICE - 1:
                # Requests get their turn.
                await asyncio.sleep(0)

    def _lost(self, err: Unreachable) -> None:
        self.failures += 1
        self.problem = str(err)
        self._is_open = False
        if not self._told_problem:
            self._told_problem = self.problem
            _log.warning("gateways do not share their state: this one decides by its own", problem=self.problem)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            now_s = self._clock.monotonic_s()
            for peer in self.replica.keep_house(now_s):
                state = "joined" if peer.is_counted else "left" if peer.is_leaving else "is not heard of any more"
                _log.info(f"gateway {state}", instance=peer.name)

    # What is told about it.

    def describe(self) -> dict[str, Any]:
        """Return what `/debug/view` says of it."""
        now_s, replica = self._clock.monotonic_s(), self.replica
        mine = sum(load.own.requests for _, load in self._loads)
        instances = [
            {
                "name": peer.name,
                "state": "behind"
                if peer.is_counted and peer.is_behind
                else "live"
                if peer.is_counted
                else "left"
                if peer.is_leaving
                else "silent",
                "lagS": round(now_s - peer.heard_s, 3),
                "delayS": round(peer.delay_s, 4),
                "requestsInFlight": sum(int(cell[1][0]) for cell in peer.loads.cells.values() if cell[1]),
                "divergenceRatio": None if peer.divergence_ratio is None else round(peer.divergence_ratio, 4),
                "format": peer.format,
            }
            for peer in sorted(replica.peers, key=lambda each: each.name)
            if peer.heard_s > float("-inf")
        ]
        return {
            "enabled": self._config.is_enabled,
            "instance": replica.name,
            "transport": self.transport_kind,
            "problem": self.problem or replica.problem or None,
            "requestsInFlight": mine,
            "divergenceRatio": replica.divergence_ratio(now_s),
            "instances": instances,
            "restoredRequests": self.restored,
            "refusedMessages": replica.refused,
            "refusedLast": replica.refused_last or None,
        }
