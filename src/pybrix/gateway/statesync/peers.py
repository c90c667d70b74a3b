"""The other gateways: what each said last, whether anything of it is missing, whether it is still there. Pure.

A message that fails to come is noticed by the next one's number, and mended by a snapshot. Numbers that come early are
remembered, so that messages in another order are no gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.statesync.registers import NEVER, Cell, Registers, Values, Version
from pybrix.gateway.statesync.wire import (
    FLOW_WIDTH,
    LOAD_WIDTH,
    MAX_ENDPOINTS,
    MAX_MODELS,
    MAX_USERS,
    MODEL_WIDTH,
    RATE_WIDTH,
    USER_WIDTH,
    Message,
)

MAX_PEERS = 64
FORGET_S = 1500.0
"""How long after its last message an instance is forgotten: what it taught has faded by then."""
_MAX_EARLY = 1024

ModelName = tuple[str, str]
"""Namespace and name."""
UserName = tuple[str, str, str]
"""Namespace and name of a model, user."""


@dataclass(slots=True)
class Flow:
    """How an instance's counts at an endpoint went on. `before` None: nobody knows what they were."""

    endpoint: EndpointId
    before: Values | None
    after: Values


@dataclass(slots=True)
class Changes:
    """What is new after a message."""

    loads: set[EndpointId] = field(default_factory=set)
    flows: list[Flow] = field(default_factory=list)
    rates: set[EndpointId] = field(default_factory=set)
    models: set[ModelName] = field(default_factory=set)
    users: set[UserName] = field(default_factory=set)


class Peer:
    """What is known of one other instance. Times are of this machine's monotonic clock.

    Attributes:
        heard_s: when the newest of its messages was made.
        complete_to: number of the message up to which nothing is missing.
        sequence: the highest number seen.
        delay_s: how long its newest message was on its way.
        divergence_ratio: how far its view of loads was from this one's, at its last word on it; None before.
    """

    def __init__(self, name: str, now_s: float) -> None:
        self.name = name
        self.incarnation = -1
        self.format = 0
        self.heard_s = float("-inf")
        self.known_since_s = now_s
        self.delay_s = 0.0
        self.sequence = 0
        self.complete_to = 0
        self.is_leaving = False
        self.is_counted = False
        """Whether its loads are part of the sums now; see `Peers.expire`."""
        self.divergence_ratio: float | None = None
        self.asked_s = float("-inf")
        """When its snapshot was last fetched."""
        self._early: set[int] = set()
        self.loads: Registers[EndpointId] = Registers()
        self.flows: Registers[EndpointId] = Registers()
        self.rates: Registers[EndpointId] = Registers()
        self.models: Registers[ModelName] = Registers()
        self.users: Registers[UserName] = Registers()
        self.made_s: dict[EndpointId | ModelName | UserName, float] = {}
        """When sums that fade were told."""

    @property
    def is_behind(self) -> bool:
        """Whether something that it said is missing here."""
        return self.complete_to < self.sequence

    def take(self, message: Message, made_s: float, *, is_snapshot: bool = False) -> Changes:
        """Merge what it says.

        Args:
            made_s: when the message was made.
            is_snapshot: whether it holds all that was said up to its number.
        """
        version = (message.incarnation, message.sequence)
        self._note(message, made_s, is_snapshot)
        changes = Changes()
        at = message.endpoint
        loads = {at(place): _cell(version, numbers, LOAD_WIDTH) for place, numbers in message.loads}
        changes.loads = self.loads.merge(Registers(self._base(message, "l", version), loads))
        changes.loads |= self.loads.trim(MAX_ENDPOINTS)
        if message.flows or "t" in message.whole:
            changes.flows = self._take_flows(message, version)
        rates = {at(place): _cell(version, sums, RATE_WIDTH) for place, sums in message.rates}
        changes.rates = self.rates.merge(Registers(self._base(message, "r", version), rates))
        changes.rates |= self.rates.trim(MAX_ENDPOINTS)
        models = {(ns, name): _cell(version, sums, MODEL_WIDTH) for ns, name, sums in message.models}
        changes.models = self.models.merge(Registers(self._base(message, "m", version), models))
        changes.models |= self.models.trim(MAX_MODELS)
        users = {(ns, name, who): _cell(version, sums, USER_WIDTH) for ns, name, who, sums in message.users}
        changes.users = self.users.merge(Registers(self._base(message, "u", version), users))
        changes.users |= self.users.trim(MAX_USERS)
        self._note_times(changes, made_s)
        return changes

    @staticmethod
    def _base(message: Message, kind: str, version: Version) -> Version:
        return version if kind in message.whole else NEVER

    def _take_flows(self, message: Message, version: Version) -> list[Flow]:
        told = {message.endpoint(at): _cell(version, numbers, FLOW_WIDTH) for at, numbers in message.flows}
        cells, base = self.flows.cells, self.flows.base
        known = {}
        for endpoint in told:
            cell = cells.get(endpoint, (base, ()))
            # Counts of an earlier incarnation do not go on. They begin at zero, before the first message.
            is_known = cell[0][0] == version[0] or version[1] == 1
            known[endpoint] = (cell[1] or (0,) * FLOW_WIDTH) if is_known else None
        changed = self.flows.merge(Registers(self._base(message, "t", version), told))
        self.flows.trim(MAX_ENDPOINTS)
        return [Flow(each, known[each], told[each][1]) for each in told if each in changed and told[each][1]]

    def _note_times(self, changes: Changes, made_s: float) -> None:
        for registers, keys in (
            (self.rates, changes.rates),
            (self.models, changes.models),
            (self.users, changes.users),
        ):
            for key in keys:
                if key in registers.cells:
                    self.made_s[key] = made_s
                else:
                    self.made_s.pop(key, None)

    def _note(self, message: Message, made_s: float, is_snapshot: bool) -> None:
        incarnation, sequence = message.incarnation, message.sequence
        if incarnation < self.incarnation:
            return
        if incarnation > self.incarnation:
            self.incarnation, self.sequence, self.complete_to, self.is_leaving = incarnation, 0, 0, False
            self._early.clear()
        if made_s > self.heard_s:
            self.heard_s = made_s
        if sequence >= self.sequence:
            self.sequence, self.format = sequence, message.format
            self.is_leaving = message.is_leaving
        early = self._early
        if is_snapshot:
            self.complete_to = max(self.complete_to, sequence)
        elif sequence > self.complete_to and not message.has_lost and len(early) < _MAX_EARLY:
            early.add(sequence)
        while self.complete_to + 1 in early:
            self.complete_to += 1
            early.discard(self.complete_to)
        if is_snapshot and early:
            self._early = {each for each in early if each > self.complete_to}


def _cell(version: Version, numbers: list[int] | list[float], width: int) -> Cell:
    # What a newer format says beyond that is not understood here.
    return version, tuple(numbers[:width])


class Peers:
    """All other instances.

    Args:
        lifetime_s: how long the requests of an instance count that is not heard of.
    """

    def __init__(self, lifetime_s: float) -> None:
        self.lifetime_s = lifetime_s
        self._peers: dict[str, Peer] = {}

    def find(self, name: str, now_s: float) -> Peer | None:
        """Return an instance, making it if need be; None: there are too many to remember one more."""
        found = self._peers.get(name)
        if found is None:
            if len(self._peers) >= MAX_PEERS:
                return None
            found = self._peers[name] = Peer(name, now_s)
        return found

    def get(self, name: str) -> Peer | None:
        return self._peers.get(name)

    def is_live(self, peer: Peer, now_s: float) -> bool:
        """Say whether an instance is there, as far as is known."""
        return now_s - peer.heard_s <= self.lifetime_s

    def recount(self, now_s: float) -> list[Peer]:
        """Note whose loads count from now on, or no longer; return those that changed."""
        turned = []
        for peer in self._peers.values():
            is_live = self.is_live(peer, now_s)
            if is_live != peer.is_counted:
                peer.is_counted = is_live
                turned.append(peer)
        return turned

    def drop_forgotten(self, now_s: float) -> list[Peer]:
        """Take out those that were not heard of for long; return them.

        When many more than there can be were heard of, the silent ones go at once.
        """
        is_full = len(self._peers) >= MAX_PEERS
        gone = []
        for peer in list(self._peers.values()):
            silent_s = now_s - max(peer.heard_s, peer.known_since_s)
            if silent_s > FORGET_S or (is_full and silent_s > self.lifetime_s):
                del self._peers[peer.name]
                gone.append(peer)
        return gone

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))
