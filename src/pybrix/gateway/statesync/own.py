"""What this gateway tells the others: what changed since it last spoke, and snapshots of everything. Pure.

Loads, flows and blocks of prompts are told at once. Every `BEAT_S` come what changes slowly, all loads that are not
zero, and the sums as they are seen here: a sign of life that also mends what was lost.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.backlog import PrefillBacklogs
from pybrix.gateway.indexes.learnt import LearntModel, Sums, fade
from pybrix.gateway.indexes.load import NO_SHARE, Load, LoadTable, Share
from pybrix.gateway.indexes.usertokens import FORGET_S, TAU_S, Scope
from pybrix.gateway.scheduling.registry import Indexes
from pybrix.gateway.statesync.wire import (
    BLOCK_BYTES,
    MAX_BLOCKS,
    MAX_ENDPOINTS,
    MAX_MESSAGE_BYTES,
    MAX_MODELS,
    MAX_NAME_CHARS,
    MAX_SNAPSHOT_BYTES,
    MAX_USERS,
    Message,
    Positions,
    encode,
    pack_blocks,
)
from pybrix.gateway.view.facts import ModelKey

BEAT_S = 1.0
ALL_KINDS = "ltrmu"
MAX_PENDING_BLOCKS = 131_072
"""Blocks of prompts that wait to be told; beyond that they are left to the snapshot."""
_SMALL = 1e-3
"""Relative change of faded sums below which they are as they were."""
_MIN_TOKENS = 1.0
"""Tokens of a user below which nobody needs to know."""

UserKey = tuple[Scope, str]


class OwnState:
    """
    Args:
        name: of this instance.
        incarnation: greater than any that it had before.
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
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self.sequence = 0
        self._table = loads
        self._indexes = indexes
        self._sizes = sizes
        self._loads: dict[EndpointId, Share] = {}
        """As last told; so are the others."""
        self._flows: dict[EndpointId, tuple[int, int, int, int]] = {}
        self._outcomes: dict[EndpointId, int] = {}
        self._models: dict[ModelKey, tuple[float, Sums]] = {}
        self._users: dict[UserKey, tuple[float, float]] = {}
        """Own tokens and when they were that; the least recently changed first."""
        self._touched: set[UserKey] = set()
        self._beat_s = float("-inf")
        self._is_all_due = True
        self._has_lost = False
        self._blocks: list[tuple[EndpointId, list[int]]] = []
        self._amounts: dict[UserKey, float] = {}
        indexes.prefix.journal, indexes.users.journal = self._blocks, self._amounts

    def mute(self) -> None:
        """Write nothing down to be told: there is nobody to tell it to. Snapshots can still be made."""
        self._blocks = []
        self._indexes.prefix.journal = None

    def begin_again(self, incarnation: int, name: str | None = None) -> None:
        """Speak from now on as another incarnation, or under another name."""
        self.name = name or self.name
        self.incarnation = incarnation
        self.sequence = 0
        self.tell_all()

    def tell_all(self) -> None:
        """Say everything with the next message: what was said may have got lost. Blocks are left to the snapshot."""
        self._is_all_due = True
        self._has_lost = True

    def restore_user(self, scope: Scope, user: str, amount: float, now_s: float) -> None:
        """Take in what a user was served before this gateway was started again."""
        self._users[scope, user] = (amount, now_s)
        self._indexes.users.shift(scope, user, amount, now_s)

    def bound(self, now_s: float) -> None:
        """Keep what waits to be told within bounds, while nothing can be told."""
        self._fold_users(now_s)
        if sum([len(blocks) for _, blocks in self._blocks]) > MAX_PENDING_BLOCKS:
            self._blocks.clear()
            self._has_lost = True

    def messages(
        self,
        now_s: float,
        *,
        is_asking: bool = False,
        snapshot_sequence: int = 0,
        is_leaving: bool = False,
    ) -> list[bytes]:
        """Return what is to be said now, in order; nothing when nothing is new and no sign of life is due."""
        is_beat = now_s - self._beat_s >= BEAT_S or self._is_all_due or is_leaving
        positions = Positions()
        message = Message(instance=self.name, incarnation=self.incarnation, sequence=0)
        self._tell_loads(message, positions, is_beat)
        self._tell_flows(message, positions, now_s)
        if is_beat:
            self._beat_s = now_s
            self._tell_slow(message, positions, now_s)
            message.totals = [
                (positions.of(key), load.requests)
                for key, load in self._table
                if load.requests and _has_room(positions)
            ]
        if self._is_all_due and _has_room(positions):
            message.whole = ALL_KINDS
        message.has_lost, self._has_lost = self._has_lost, False
        message.is_asking, message.snapshot_sequence, message.is_leaving = is_asking, snapshot_sequence, is_leaving
        self._is_all_due = False
        rest = self._take_blocks(message, positions)
        is_said = is_beat or is_asking or snapshot_sequence or message.has_lost
        if not (is_said or message.loads or message.flows or message.blocks):
            return []
        message.endpoints = positions.table()
        return [*self._number(message), *(data for more in rest for data in self._number(more))]

    def _number(self, message: Message) -> list[bytes]:
        self.sequence += 1
        message.sequence = self.sequence
        data = encode(message)
        if len(data) <= MAX_MESSAGE_BYTES:
            return [data]
        # Very many endpoints: in parts, none of which can say that it names them all.
        self.sequence -= 1
        message.whole = message.whole.replace("l", "").replace("t", "").replace("r", "").replace("u", "")
        other = Message(instance=self.name, incarnation=self.incarnation, sequence=0, endpoints=message.endpoints)
        for field in ("loads", "flows", "rates", "models", "users", "blocks", "totals"):
            cells = getattr(message, field)
            setattr(message, field, cells[: len(cells) // 2])
            setattr(other, field, cells[len(cells) // 2 :])
        other.totals = []
        message.totals = []
        _narrow(message)
        _narrow(other)
        return self._number(message) + self._number(other)

    def _tell_loads(self, message: Message, positions: Positions, is_beat: bool) -> None:
        told, known = message.loads, self._loads
        current = {}
        for key, load in self._table:
            own = load.own if load.elsewhere is not NO_SHARE else _plain(load)
            if own.requests:
                current[key] = own
                if (is_beat or known.get(key) != own) and _has_room(positions):
                    told.append((positions.of(key), list(own)))
        told += [(positions.of(gone), []) for gone in known if gone not in current and _has_room(positions)]
        if is_beat and len(current) <= MAX_ENDPOINTS - len(positions):
            message.whole = "l"
        self._loads = current

    def _tell_flows(self, message: Message, positions: Positions, now_s: float) -> None:
        backlogs, history, known = self._indexes.backlogs, self._indexes.history, self._flows
        for key in {*backlogs, *history}:
            counts = (backlogs.routed(key), *history.own(key))
            if (known.get(key) != counts or self._is_all_due) and _has_room(positions):
                known[key] = counts
                message.flows.append((positions.of(key), _flow(counts, backlogs, self._indexes, key, now_s)))
        for gone in [key for key in known if key not in backlogs and not any(history.own(key))]:
            del known[gone]

    def _tell_slow(self, message: Message, positions: Positions, now_s: float) -> None:
        for key, load in self._table:
            ended = sum(load.outcomes.by_status_class.values()) + load.outcomes.failed_attempts
            if (ended != self._outcomes.get(key, 0) or self._is_all_due) and _has_room(positions):
                self._outcomes[key] = ended
                sums = load.learnt.own(now_s) + self._indexes.backlogs.own_rate(key, now_s)
                if any(sums):
                    message.rates.append((positions.of(key), list(sums)))
        for key in [key for key in self._outcomes if key not in self._table]:
            del self._outcomes[key]
        for model, learnt in list(self._sizes.items())[:MAX_MODELS]:
            own = learnt.own(now_s)
            at_s, before = self._models.get(model, (now_s, ()))
            if self._is_all_due or _differ(own, fade(before, now_s - at_s)):
                self._models[model] = (now_s, own)
                if any(own) and _is_name(model.namespace) and _is_name(model.model):
                    message.models.append((model.namespace, model.model, list(own)))
        for model in [model for model in self._models if model not in self._sizes]:
            del self._models[model]
        self._fold_users(now_s)
        touched = list(self._users)[-MAX_USERS:] if self._is_all_due else list(self._touched)[:MAX_USERS]
        self._touched.difference_update(touched)
        message.users = [self._user(key, now_s) for key in touched if key in self._users]

    def _user(self, key: UserKey, now_s: float) -> tuple[str, str, str, list[float]]:
        (namespace, model), user = key
        amount, at_s = self._users[key]
        (left,) = fade((amount,), now_s - at_s, TAU_S)
        return namespace, model, user, [max(0.0, left)]

    def _fold_users(self, now_s: float) -> None:
        for key, amount in self._amounts.items():
            if not all(map(_is_name, (*key[0], key[1]))):
                continue
            before, at_s = self._users.pop(key, (0.0, now_s))
            (left,) = fade((before,), now_s - at_s, TAU_S)
            self._users[key] = (max(0.0, left + amount), now_s)
            self._touched.add(key)
        self._amounts.clear()
        while self._users:
            oldest = next(iter(self._users))
            if len(self._users) <= MAX_USERS and now_s - self._users[oldest][1] <= FORGET_S:
                break
            del self._users[oldest]
            self._touched.discard(oldest)

    def _take_blocks(self, message: Message, positions: Positions) -> list[Message]:
        """Put blocks into the message, and into as many more as it takes; return these."""
        if not self._blocks:
            return []
        pending, self._blocks = self._blocks, []
        self._indexes.prefix.journal = self._blocks
        more: list[Message] = []
        room = MAX_BLOCKS
        for endpoint, blocks in pending:
            for at in range(0, len(blocks), MAX_BLOCKS):
                part = blocks[at : at + MAX_BLOCKS]
                if len(part) > room or not _has_room(positions):
                    message.endpoints = positions.table()
                    message = Message(instance=self.name, incarnation=self.incarnation, sequence=0)
                    more.append(message)
                    positions, room = Positions(), MAX_BLOCKS
                room -= len(part)
                message.blocks.append((positions.of(endpoint), pack_blocks(part)))
        if more:
            message.endpoints = positions.table()
        return more

    # Snapshots.

    def snapshot(self, now_s: float) -> Message:
        """Return everything but the blocks of prompts."""
        positions = Positions()
        message = Message(instance=self.name, incarnation=self.incarnation, sequence=self.sequence, whole=ALL_KINDS)
        backlogs, history = self._indexes.backlogs, self._indexes.history
        self._fold_users(now_s)
        for key, load in self._table:
            if not _has_room(positions):
                break
            if (share := load.own).requests:
                message.loads.append((positions.of(key), list(share)))
            sums = load.learnt.own(now_s) + backlogs.own_rate(key, now_s)
            if any(sums):
                message.rates.append((positions.of(key), list(sums)))
        for key in {*backlogs, *history}:
            if _has_room(positions):
                counts = (backlogs.routed(key), *history.own(key))
                message.flows.append((positions.of(key), _flow(counts, backlogs, self._indexes, key, now_s)))
        message.models = [
            (model.namespace, model.model, list(own))
            for model, learnt in list(self._sizes.items())[:MAX_MODELS]
            if any(own := learnt.own(now_s)) and _is_name(model.namespace) and _is_name(model.model)
        ]
        message.users = [
            each for key in list(self._users)[-MAX_USERS:] if (each := self._user(key, now_s))[-1][0] >= _MIN_TOKENS
        ]
        message.capacities = [
            (positions.of(key), capacity) for key, capacity in self._indexes.prefix.capacities() if _has_room(positions)
        ]
        message.endpoints = positions.table()
        return message

    def snapshot_blocks(self) -> tuple[Message, Iterator[None]]:
        """Return a message of the blocks of prompts, and the work of filling it, in slices: there may be millions."""
        message = Message(instance=self.name, incarnation=self.incarnation, sequence=self.sequence)
        return message, self._fill(message)

    def _fill(self, message: Message) -> Iterator[None]:
        prefix, positions = self._indexes.prefix, Positions()
        known = [endpoint for endpoint, _ in prefix.capacities()][:MAX_ENDPOINTS]
        # A tenth is left for everything that is not blocks.
        limit = MAX_SNAPSHOT_BYTES * 9 // 10 // BLOCK_BYTES // max(1, len(known))
        for endpoint in known:
            if blocks := prefix.blocks(endpoint, limit):
                message.blocks.append((positions.of(endpoint), pack_blocks(blocks)))
            yield
        message.endpoints = positions.table()


def _has_room(positions: Positions) -> bool:
    return len(positions) < MAX_ENDPOINTS


def _is_name(text: str) -> bool:
    """Say whether others would take it: it is what a client wrote."""
    if not 0 < len(text) <= MAX_NAME_CHARS:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(load: Load) -> Share:
    return Share(load.requests, load.prompt_tokens, load.uncached_tokens, load.decode_tokens)


def _flow(
    counts: tuple[int, ...], backlogs: PrefillBacklogs, indexes: Indexes, key: EndpointId, now_s: float
) -> list[int]:
    return [*counts, round(backlogs.tokens(key, now_s)), *indexes.history.of(key, now_s)]


def _differ(now: Sums, before: Sums) -> bool:
    if len(now) != len(before):
        return any(now)
    return any(abs(a - b) > _SMALL * max(a, b) for a, b in zip(now, before, strict=True))


def _narrow(message: Message) -> None:
    """Leave out endpoints that the message does not mention any more."""
    positions = Positions()
    for field in ("loads", "flows", "rates", "blocks", "totals"):
        setattr(message, field, [(positions.of(message.endpoint(at)), what) for at, what in getattr(message, field)])
    message.endpoints = positions.table()
