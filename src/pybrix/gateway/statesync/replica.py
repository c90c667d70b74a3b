"""One gateway's part in the exchange: what to say, what to make of what is heard, which snapshots to fetch. Pure.

    a message comes out of turn    -> that instance is "behind" here, until a snapshot says all up to there
    one is behind                  -> its snapshot is fetched; when that is too old, everyone is asked for new ones
    someone asks                   -> a snapshot is due
    nothing is heard of an instance for the lifetime of a reservation -> its loads count no longer
    the own name is heard          -> the own past: a greater incarnation; someone else: another name

Nothing here is ever an error: what cannot be read is counted and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping

from pybrix.gateway.errors import BadMessage
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.learnt import LearntModel
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.scheduling.registry import Indexes
from pybrix.gateway.statesync.blend import FRESH_S, Blend
from pybrix.gateway.statesync.own import OwnState
from pybrix.gateway.statesync.peers import Peer, Peers
from pybrix.gateway.statesync.wire import MAX_MESSAGE_BYTES, MAX_SNAPSHOT_BYTES, Message, decode
from pybrix.gateway.view.facts import ModelKey

ASK_S = 1.0
"""Least time between two fetches of one instance's snapshot, and between two calls for snapshots."""
MAX_INCARNATION = 2**52
EARLY_S = 60.0
"""How often what was said of endpoints that nobody knows here is forgotten."""


class Replica:
    """
    Args:
        name: of this instance.
        incarnation: greater than any it had before, as far as is known.
        lifetime_s: see `Peers`.
        draw_suffix: makes another name out of one that is taken.
        sizes: of requests, by model.
    """

    def __init__(
        self,
        name: str,
        incarnation: int,
        *,
        loads: LoadTable,
        indexes: Indexes,
        sizes: MutableMapping[ModelKey, LearntModel],
        lifetime_s: float,
        draw_suffix: Callable[[], str],
    ) -> None:
        self.own = OwnState(name, incarnation, loads=loads, indexes=indexes, sizes=sizes)
        self.peers = Peers(lifetime_s)
        self.blend = Blend(self.peers, loads=loads, indexes=indexes, sizes=sizes)
        self._given_name = name
        self._draw_suffix = draw_suffix
        self._asked_s = float("-inf")
        self._early_s = float("-inf")
        self._turned: list[Peer] = []
        self._is_snapshot_due = False
        self._written_sequence = 0
        self.taken = 0
        """Messages that were taken in; so are the other counts."""
        self.refused = 0
        self.refused_last = ""
        """Why the last one was not."""
        self.resynced = 0
        """Snapshots that were taken in."""
        self.problem = ""
        """What someone should look after; "" for nothing."""

    @property
    def name(self) -> str:
        """What this instance is called now."""
        return self.own.name

    def follow(self, live: Iterable[EndpointId], models: Iterable[ModelKey], now_s: float) -> None:
        """Take in which endpoints and models there are now."""
        self.blend.follow(live, models, now_s)

    def messages(self, now_s: float, *, is_leaving: bool = False) -> list[bytes]:
        """Return what is to be said now."""
        is_asking = any(self._is_wanting(peer, now_s) for peer in self.peers) and now_s - self._asked_s >= ASK_S
        if is_asking:
            self._asked_s = now_s
        written, self._written_sequence = self._written_sequence, 0
        return self.own.messages(now_s, is_asking=is_asking, snapshot_sequence=written, is_leaving=is_leaving)

    def _is_wanting(self, peer: Peer, now_s: float) -> bool:
        """Say whether a snapshot of the instance was fetched and did not do."""
        return peer.is_behind and peer.asked_s > float("-inf") and self.peers.is_live(peer, now_s)

    def ask(self) -> None:
        """Ask everyone for a snapshot with the next message."""
        self._asked_s = float("-inf")
        for peer in self.peers:
            peer.asked_s = float("-inf")

    def take(self, data: bytes, age_s: float, now_s: float) -> None:
        """Take in a message that was sent `age_s` ago."""
        message = self._read(data, MAX_MESSAGE_BYTES)
        if message is None or self._is_own(message, age_s):
            return
        peer = self._peer(message, now_s)
        if peer is None:
            return
        self.taken += 1
        changes = peer.take(message, now_s - age_s)
        if not peer.is_counted:
            self._recount(now_s)
        self.blend.apply(changes, now_s, age_s)
        for place in range(len(message.blocks)):
            self.blend.absorb(message, place)
        peer.delay_s = age_s
        if message.totals and age_s <= FRESH_S:
            peer.divergence_ratio = self.blend.divergence(message)
        if message.is_asking and age_s <= FRESH_S:
            self._is_snapshot_due = True
        if message.snapshot_sequence and peer.is_behind:
            peer.asked_s = min(peer.asked_s, now_s - ASK_S)

    def wanted(self, now_s: float) -> list[str]:
        """Return the instances whose snapshots are to be fetched now; it is noted that they are."""
        names = []
        for peer in self.peers:
            if peer.is_behind and now_s - peer.asked_s >= ASK_S:
                peer.asked_s = now_s
                names.append(peer.name)
        return names

    def take_snapshot(self, parts: Iterable[bytes], age_s: float, now_s: float) -> Iterator[None]:
        """Take in the parts of a snapshot, as `snapshot` and `snapshot_blocks` made them, written `age_s` ago.

        Yields between slices of the work, for there may be millions of blocks; it is done when there are no more.
        """
        messages = [each for data in parts if (each := self._read(data, MAX_SNAPSHOT_BYTES)) is not None]
        messages = [each for each in messages if not self._is_own(each, age_s)]
        for message in messages:
            self.blend.note_capacities(message)
        # Blocks come first, so that nothing is called complete before.
        for message in sorted(messages, key=lambda each: bool(each.whole)):
            for place in range(len(message.blocks)):
                self.blend.absorb(message, place)
                yield
            peer = self._peer(message, now_s) if message.whole else None
            if peer is None:
                continue
            # A part that is missing makes it no snapshot.
            changes = peer.take(message, now_s - age_s, is_snapshot=len(messages) > 1)
            if not peer.is_counted:
                self._recount(now_s)
            self.blend.apply(changes, now_s, age_s)
            self.resynced += 1

    def take_snapshot_due(self) -> bool:
        """Say whether someone asked for a snapshot since this was last called."""
        is_due, self._is_snapshot_due = self._is_snapshot_due, False
        return is_due

    def note_written(self, sequence: int) -> None:
        """Note that a snapshot was written that knows everything up to a message: the next one says so."""
        self._written_sequence = sequence

    def snapshot(self, now_s: float) -> tuple[Message, Message, Iterator[None]]:
        """Return the parts of a snapshot, and the work after which the second is whole."""
        return self.own.snapshot(now_s), *self.own.snapshot_blocks()

    def keep_house(self, now_s: float) -> list[Peer]:
        """Let go of what is too old; return the instances that came or went since this was last called."""
        self._recount(now_s)
        turned, self._turned = self._turned, []
        if now_s - self._early_s > EARLY_S:
            self.blend.drop_early()
            self._early_s = now_s
        for peer in self.peers.drop_forgotten(now_s):
            self.blend.forget(peer, now_s)
        self.own.bound(now_s)
        return turned

    def _recount(self, now_s: float) -> None:
        turned = self.peers.recount(now_s)
        self.blend.recount(turned)
        self._turned += turned

    def divergence_ratio(self, now_s: float) -> float | None:
        """Return the greatest divergence of all instances that are there; None when none of them said."""
        told = [
            peer.divergence_ratio
            for peer in self.peers
            if peer.divergence_ratio is not None and self.peers.is_live(peer, now_s)
        ]
        return max(told, default=None)

    def _read(self, data: bytes, limit_bytes: int) -> Message | None:
        try:
            return decode(data, limit_bytes)
        except BadMessage as err:
            self._refuse(str(err))
            return None

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self.refused_last = why

    def _peer(self, message: Message, now_s: float) -> Peer | None:
        peer = self.peers.find(message.instance, now_s)
        if peer is None:
            self._refuse(f"{message.instance}: too many instances")
        return peer

    def _is_own(self, message: Message, age_s: float) -> bool:
        own = self.own
        if message.instance != own.name:
            return False
        if message.incarnation <= own.incarnation:
            return True
        if message.incarnation > MAX_INCARNATION:
            self._refuse(f"{message.instance}: an incarnation out of bounds")
        elif age_s <= FRESH_S and own.sequence:
            own.begin_again(own.incarnation, f"{self._given_name}~{self._draw_suffix()}")
            self.problem = (
                f"another gateway is called {self._given_name}: this one goes by {own.name} until it has its own name"
            )
        else:
            # This instance before it was started again, while the machine's clock was ahead.
            own.begin_again(message.incarnation + 1)
        return True
