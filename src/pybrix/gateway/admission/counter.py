"""One limit of one user or model in one instance: what may be spent here, and what is settled with the others. Pure.

Alone (without Redis, or while it is away), an instance counts by itself: spent in the window <= limit.

Shared, the instances count in Redis (`lease.lua`), in a sliding window of all that was granted or charged:

- a *lease* is an amount that Redis has granted and counted in advance. It is spent here without asking anyone; what is
  unspent after `LEASE_S` goes back.
- *credit* is what an instance spends beyond its leases and tells Redis at once. It is open as long as Redis has last
  said that something is left, or nothing is known yet.

Each is at most `lease_limit(limit)`, or one single request if that is larger. So in any window, with k instances,

    spent <= limit + 2 * k * max(lease_limit(limit), largest request)

Why: all that counts at the last moment in which Redis allows anything is within the limit. After it an instance can
spend the lease that it holds, and the credit that was opened to it, once. Beyond the bound goes only what engines
report above the estimates, which nobody knows before; it counts from then on.

A message to Redis without an answer counts as not charged and as having returned nothing: the doubt is against the
user, for a window at most, never against the limit.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import msgspec

from pybrix.gateway.admission.window import SlidingWindow

LEASE_RATIO = 0.1
SMALL_BURST = 10
"""Of a small limit, what may be spent at once, up to half of the limit."""
LEASE_S = 2.0
"""How long a lease may be spent; at most a fifth of the window."""
MAX_RETURNS = 32
"""Amounts that one message gives back."""
_MAX_RETURNS_HELD = 256


def lease_limit(limit: int, ratio: float = LEASE_RATIO) -> int:
    """Return how much an instance holds in advance at most, and how much it may spend before Redis has answered.

    Of a small limit it is more than the ratio: a few requests at once are not to be refused while Redis is asked.
    """
    return max(1, int(limit * ratio), min(SMALL_BURST, limit // 2))


class Batch:
    """An amount that Redis counts in one slice.

    `slice` is Redis's number, None until Redis has counted it. `left` and `expires_s` are of a lease: what may still be
    spent, and until when.
    """

    __slots__ = ("expires_s", "is_told", "left", "slice")

    def __init__(self, left: int = 0, slice_number: int | None = None, expires_s: float = 0.0) -> None:
        self.left = left
        self.slice = slice_number
        self.expires_s = expires_s
        self.is_told = slice_number is not None


class Hold(msgspec.Struct):
    """What one request spent of a counter. `amount` is what of it still counts."""

    amount: int
    local_slice: int
    pieces: tuple[tuple[Batch, int], ...]


class Denied(NamedTuple):
    """Nothing was spent. `retry_after_s` is when there may be enough."""

    retry_after_s: float


class Ask(msgspec.Struct, frozen=True):
    """One message to Redis about one counter.

    `charge` was spent already; `want` is for a lease; `need` is what was denied, to learn when it fits; `returns` are
    amounts by the slice in which Redis counted them.
    """

    span_s: float
    limit: int
    charge: int
    want: int
    need: int
    returns: tuple[tuple[int, int], ...]
    asked_s: float


class Reply(msgspec.Struct, frozen=True):
    """What Redis said: the slice in which charge and grant count, and all that counts after them."""

    slice: int
    granted: int
    used: int
    frees_in_s: float


class Counter:
    """Spends one limit.

    Args:
        span_s: the window.
        ratio: share of the limit that a lease is at most.
    """

    __slots__ = (
        "_ask",
        "_ask_batches",
        "_denied",
        "_leases",
        "_limit",
        "_local",
        "_open",
        "_ratio",
        "_remaining",
        "_retry_at_s",
        "_returns",
        "_spent",
        "_synced_s",
        "_target",
        "_uncharged",
        "_used_s",
        "span_s",
    )

    def __init__(self, span_s: float, ratio: float = LEASE_RATIO) -> None:
        self.span_s = span_s
        self._local = SlidingWindow(span_s)
        self._ratio = ratio
        self._limit = 0
        self._leases: deque[Batch] = deque()
        # What Redis was not told, and the batches that it is in.
        self._uncharged = 0
        self._open: list[Batch] = []
        self._ask: Ask | None = None
        self._ask_batches: list[Batch] = []
        self._returns: list[tuple[Batch, int]] = []
        # What Redis last said to be left; None: it never answered.
        self._remaining: int | None = None
        self._synced_s = float("-inf")
        self._retry_at_s = 0.0
        # What a lease is to be, at the rate of late.
        self._target = 0
        # Since the last answer.
        self._spent = 0
        self._denied = 0
        self._used_s = 0.0

    def take(self, amount: int, limit: int, now_s: float, *, is_shared: bool) -> Hold | Denied:
        """Spend an amount, all of it or nothing. It must be at most `limit`, else it never fits."""
        self._limit = limit
        self._used_s = now_s
        over = self._local.total(now_s) + amount - limit
        if over > 0:
            self._denied = max(self._denied, amount)
            return Denied(self._local.frees_in_s(over, now_s))
        pieces: tuple[tuple[Batch, int], ...]
        if is_shared:
            self._drop_leases(now_s)
            short = amount - self._leased
            if short > 0 and short > self._credit_room(short):
                self._denied = max(self._denied, amount)
                return Denied(max(0.0, self._retry_at_s - now_s))
            pieces = self._spend(amount)
        else:
            pieces = (self._spend_on_credit(amount),)
        self._spent += amount
        return Hold(amount, self._local.add(amount, now_s), pieces)

    @property
    def _leased(self) -> int:
        return sum([lease.left for lease in self._leases])

    @property
    def _owed(self) -> int:
        return self._uncharged + (self._ask.charge if self._ask is not None else 0)

    def _credit_room(self, short: int) -> int:
        """Return how much may be spent before Redis has answered, if `short` is asked for."""
        owed = self._owed
        most = lease_limit(self._limit, self._ratio)
        if not owed:
            # A request that is larger than all credit goes through when it is alone.
            most = max(most, short)
        if self._remaining is not None:
            most = min(most, self._remaining)
        return most - owed

    def _spend(self, amount: int) -> tuple[tuple[Batch, int], ...]:
        pieces: list[tuple[Batch, int]] = []
        for lease in self._leases:
            part = min(lease.left, amount)
            if part:
                lease.left -= part
                amount -= part
                pieces.append((lease, part))
            if not amount:
                return tuple(pieces)
        return (*pieces, self._spend_on_credit(amount))

    def _spend_on_credit(self, amount: int) -> tuple[Batch, int]:
        if not self._open or self._open[-1].is_told:
            self._open.append(Batch())
        self._uncharged += amount
        return self._open[-1], amount

    def give_back(self, hold: Hold, amount: int, now_s: float) -> None:
        """Undo a part of what a hold spent, the last spent first; at most what still counts of it."""
        amount = min(amount, hold.amount)
        if amount <= 0:
            return
        hold.amount -= amount
        self._local.take_back(hold.local_slice, amount, now_s)
        kept = list(hold.pieces)
        while amount:
            batch, part = kept.pop()
            undone = min(part, amount)
            amount -= undone
            if part > undone:
                kept.append((batch, part - undone))
            self._undo(batch, undone, now_s)
        hold.pieces = tuple(kept)

    def _undo(self, batch: Batch, amount: int, now_s: float) -> None:
        if not batch.is_told:
            self._uncharged = max(0, self._uncharged - amount)
        elif batch.expires_s > now_s:
            batch.left += amount
        elif len(self._returns) < _MAX_RETURNS_HELD:
            self._returns.append((batch, amount))

    def charge(self, amount: int, now_s: float) -> None:
        """Count what was spent without being taken: usage above the estimate."""
        if amount > 0:
            self._used_s = now_s
            self._local.add(amount, now_s)
            self._spend_on_credit(amount)

    def remaining(self, limit: int, now_s: float, *, is_shared: bool) -> int:
        """Return what is left, as far as this instance knows."""
        left = limit - self._local.total(now_s)
        if is_shared and self._remaining is not None and now_s - self._synced_s < self.span_s:
            left = min(left, self._remaining + self._leased - self._owed)
        return max(0, left)

    def resets_in_s(self, now_s: float) -> float:
        """Return the seconds until all that was spent here has left the window."""
        return self._local.empties_in_s(now_s)

    # Between this instance and Redis.

    def is_due(self, now_s: float) -> bool:
        """Whether Redis should hear of this counter now."""
        if self._ask is not None:
            return False
        if self._uncharged or self._is_low():
            return True
        if self._denied or self._returns:
            # Nobody waits for these: not at the pace of a client that asks again and again.
            return now_s - self._synced_s >= self.span_s / 600
        return bool(self._leases) and self._leases[0].expires_s <= now_s

    def _is_low(self) -> bool:
        return self._spent > 0 and self._leased <= self._target // 3

    def plan(self, now_s: float) -> Ask | None:
        """Return what to tell Redis now; None when there is nothing to say, or an answer is awaited."""
        if self._ask is not None or not self._limit:
            return None
        self._drop_leases(now_s)
        want, need, returns = self._want(now_s), self._denied, self._take_returns()
        # What left the window while Redis was away is not worth telling.
        charge = min(self._uncharged, self._local.total(now_s))
        self._uncharged = 0
        if not (charge or want or need or returns):
            return None
        self._ask = Ask(self.span_s, self._limit, charge, want, need, returns, now_s)
        self._ask_batches, self._open = self._open, []
        for batch in self._ask_batches:
            batch.is_told = True
        self._denied = 0
        return self._ask

    def _want(self, now_s: float) -> int:
        """Return the size of a lease: what its time takes at the present rate, less what is there."""
        since_s = min(max(now_s - self._synced_s, 0.05), self.span_s)
        most = lease_limit(self._limit, self._ratio)
        self._target = min(most, round(self._spent * self._lease_s / since_s))
        return max(0, self._target - self._leased)

    def _take_returns(self) -> tuple[tuple[int, int], ...]:
        sent: list[tuple[int, int]] = []
        waiting: list[tuple[Batch, int]] = []
        for batch, amount in self._returns:
            if batch.slice is None or len(sent) >= MAX_RETURNS:
                waiting.append((batch, amount))
            else:
                sent.append((batch.slice, amount))
        self._returns = waiting
        return tuple(sent)

    @property
    def _lease_s(self) -> float:
        return min(LEASE_S, self.span_s / 5)

    def apply(self, reply: Reply, now_s: float) -> None:
        """Take in the answer to what `plan` returned last."""
        ask, self._ask = self._ask, None
        if ask is None:
            return
        for batch in self._ask_batches:
            batch.slice = reply.slice
        self._ask_batches = []
        self._spent = 0
        self._synced_s = now_s
        self._remaining = max(0, ask.limit - reply.used)
        self._retry_at_s = now_s + reply.frees_in_s
        if reply.granted:
            # It ends by the time at which it was asked for, so never later than Redis thinks.
            self._leases.append(Batch(reply.granted, reply.slice, ask.asked_s + self._lease_s))

    def fail(self, now_s: float) -> None:
        """Take in that there is no answer: what was to be charged is told again, what was returned stays counted."""
        ask, self._ask = self._ask, None
        if ask is None:
            return
        self._synced_s = now_s
        again, self._ask_batches = self._ask_batches, []
        self._uncharged += ask.charge
        for batch in again:
            batch.is_told = False
        self._open = [*again, *self._open]
        undone = sum([amount for batch, amount in self._returns if not batch.is_told])
        self._returns = [each for each in self._returns if each[0].is_told]
        self._uncharged = max(0, self._uncharged - undone)

    def _drop_leases(self, now_s: float) -> None:
        while self._leases and (self._leases[0].expires_s <= now_s or not self._leases[0].left):
            lease = self._leases.popleft()
            if lease.left:
                self._returns.append((lease, lease.left))
                lease.left = 0
            # What is given back from now on goes to Redis: nobody spends from here any more.
            lease.expires_s = 0.0

    def is_idle(self, now_s: float) -> bool:
        """Whether nothing is lost with this counter: nothing counts here, and nothing is left to tell."""
        self._drop_leases(now_s)
        return (
            now_s - self._used_s > self.span_s
            and not self._local.total(now_s)
            and not self._leases
            and not self._returns
            and self._ask is None
        )
