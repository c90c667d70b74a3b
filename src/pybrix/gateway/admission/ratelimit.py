"""Limits of users and models: requests and tokens a minute, requests a second. Pure; time is an argument.

A request spends one request and an estimate of its tokens when it is admitted; what it really used is settled at its
end. Whatever is spent is settled exactly once: at the end, when its reservation expires, or at once when the request is
refused after all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from pybrix.gateway.admission.counter import LEASE_RATIO, Ask, Counter, Denied, Hold, Reply

DEFAULT_RPM = 100
TOKENS_PER_REQUEST = 1000
"""Tokens a minute, for each request a minute, of a user without a number of tokens; as AIBrix has it."""
MINUTE_S = 60.0
SECOND_S = 1.0

Kind = Literal["rpm", "tpm", "rps"]
_SPANS_S: dict[Kind, float] = {"rpm": MINUTE_S, "tpm": MINUTE_S, "rps": SECOND_S}


class CounterKey(NamedTuple):
    """`scope` is a user's name, or a model's `namespace/name`."""

    kind: Kind
    scope: str


class UserLimits(NamedTuple):
    """Requests and tokens a minute."""

    rpm: int
    tpm: int


def user_limits(rpm: int, tpm: int, default_rpm: int = DEFAULT_RPM) -> UserLimits:
    """Return what applies to a user with these numbers; 0 stands for a default."""
    requests = rpm or default_rpm
    return UserLimits(requests, tpm or requests * TOKENS_PER_REQUEST)


class Exceeded(NamedTuple):
    """The limit that has no room, and when it may have some."""

    kind: Kind
    limit: int
    retry_after_s: float


class Charge(msgspec.Struct):
    """What one admitted request spent. `tokens_limit` is 0 where tokens are not limited."""

    user: str
    limits: UserLimits | None
    tokens: int
    expected_tokens: int
    holds: tuple[tuple[CounterKey, Hold], ...]


def render_duration(seconds: float) -> str:
    """Print a duration as OpenAI's `x-ratelimit-reset-*` do: `1s`, `6m0s`, `1h0m0s`, `250ms`, `1.5s`."""
    ms = max(0, round(seconds * 1000))
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, rest_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{shown}"
    return f"{minutes}m{shown}" if minutes else shown


@lru_cache(1024)
def _render_tenths(tenths: int) -> str:
    return render_duration(tenths / 10)


class Limiter:
    """Every counter of this instance.

    Args:
        ratio: share of a limit that a lease is at most.
        wake: called when Redis should hear of a counter.
    """

    def __init__(self, ratio: float = LEASE_RATIO, wake: Callable[[], None] | None = None) -> None:
        self._ratio = ratio
        self._wake = wake
        self._counters: dict[CounterKey, Counter] = {}
        self._due: dict[CounterKey, None] = {}
        self._charges: dict[str, Charge] = {}
        self.is_shared = False
        """Whether Redis answers: limits are of all instances together then, else of each alone."""
        self.settled_tokens = 0
        self.refunded_tokens = 0
        self.charged_above_estimate_tokens = 0

    def admit(
        self,
        now_s: float,
        *,
        user: str = "",
        limits: UserLimits | None = None,
        tokens: int = 0,
        expected_tokens: int = 0,
        model: str = "",
        rps: int = 0,
    ) -> Charge | Exceeded:
        """Spend what the request needs of every limit, or of none.

        Args:
            limits: None for a request that no user's limits apply to.
            tokens: estimate, with all that may be generated. A larger one than the limit counts as the limit, so that
                such a request goes through when nothing else does.
            expected_tokens: what counts at the end if no usage is reported.
            rps: 0 for a model without a limit.
        """
        wanted: list[tuple[CounterKey, int, int]] = []
        if limits is not None:
            wanted.append((CounterKey("rpm", user), 1, limits.rpm))
            wanted.append((CounterKey("tpm", user), max(1, min(tokens, limits.tpm)), limits.tpm))
        if rps:
            wanted.append((CounterKey("rps", model), 1, rps))
        holds: list[tuple[CounterKey, Hold]] = []
        for key, amount, limit in wanted:
            counter = self._counter(key)
            taken = counter.take(amount, limit, now_s, is_shared=self.is_shared)
            self._note(key, counter, now_s)
            if isinstance(taken, Denied):
                self._give_back(holds, now_s)
                return Exceeded(key.kind, limit, taken.retry_after_s)
            holds.append((key, taken))
        return Charge(user, limits, tokens, min(expected_tokens, tokens), tuple(holds))

    def _counter(self, key: CounterKey) -> Counter:
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = Counter(_SPANS_S[key.kind], self._ratio)
        return counter

    def _note(self, key: CounterKey, counter: Counter, now_s: float) -> None:
        if self.is_shared and counter.is_due(now_s) and key not in self._due:
            self._due[key] = None
            if self._wake is not None:
                self._wake()

    def _give_back(self, holds: list[tuple[CounterKey, Hold]], now_s: float) -> None:
        for key, hold in holds:
            self._counter(key).give_back(hold, hold.amount, now_s)

    def refund(self, charge: Charge, now_s: float) -> None:
        """Undo all of a charge: the request was refused after it was admitted."""
        self._give_back(list(charge.holds), now_s)

    def keep(self, reservation: str, charge: Charge) -> None:
        """Keep a charge until its reservation ends."""
        if charge.holds:
            self._charges[reservation] = charge

    def settle(self, reservation: str, status: int, used_tokens: int, now_s: float) -> None:
        """Count what a request really used, once; nothing happens for a reservation that is not kept.

        Args:
            status: of the answer; tokens of a request that failed without usage are given back.
            used_tokens: prompt and completion; 0 where no usage is reported.
        """
        charge = self._charges.pop(reservation, None)
        if charge is None:
            return
        if not used_tokens and 200 <= status < 300:
            used_tokens = charge.expected_tokens
        self._settle(charge, used_tokens, now_s)

    def release(self, reservation: str, now_s: float) -> None:
        """Give the tokens of a request back whose end was never heard of, once; the request itself stays counted."""
        charge = self._charges.pop(reservation, None)
        if charge is not None:
            self._settle(charge, 0, now_s)

    def _settle(self, charge: Charge, used_tokens: int, now_s: float) -> None:
        for key, hold in charge.holds:
            if key.kind != "tpm":
                continue
            counter, reserved = self._counter(key), hold.amount
            if used_tokens < reserved:
                counter.give_back(hold, reserved - used_tokens, now_s)
                self.refunded_tokens += reserved - used_tokens
            else:
                counter.charge(used_tokens - reserved, now_s)
                self.charged_above_estimate_tokens += used_tokens - reserved
            self.settled_tokens += used_tokens
            self._note(key, counter, now_s)

    def headers(self, user: str, limits: UserLimits, now_s: float) -> list[tuple[str, str]]:
        """Return OpenAI's headers about both limits of a user."""
        requests_left, requests_reset = self._left(CounterKey("rpm", user), limits.rpm, now_s)
        tokens_left, tokens_reset = self._left(CounterKey("tpm", user), limits.tpm, now_s)
        return [
            ("x-ratelimit-limit-requests", str(limits.rpm)),
            ("x-ratelimit-remaining-requests", requests_left),
            ("x-ratelimit-reset-requests", requests_reset),
            ("x-ratelimit-limit-tokens", str(limits.tpm)),
            ("x-ratelimit-remaining-tokens", tokens_left),
            ("x-ratelimit-reset-tokens", tokens_reset),
        ]

    def _left(self, key: CounterKey, limit: int, now_s: float) -> tuple[str, str]:
        counter = self._counters.get(key)
        if counter is None:
            return str(limit), "0s"
        left = counter.remaining(limit, now_s, is_shared=self.is_shared)
        return str(left), _render_tenths(math.ceil(counter.resets_in_s(now_s) * 10))

    # Between this instance and Redis.

    def plan(self, now_s: float, most: int) -> list[tuple[CounterKey, Ask]]:
        """Return what Redis should hear now, of at most so many counters."""
        asks: list[tuple[CounterKey, Ask]] = []
        while self._due and len(asks) < most:
            key = next(iter(self._due))
            del self._due[key]
            counter = self._counters.get(key)
            ask = counter.plan(now_s) if counter is not None else None
            if ask is not None:
                asks.append((key, ask))
        return asks

    def mark_due(self, now_s: float) -> None:
        """Have `plan` return all that Redis does not know."""
        self._due.update({key: None for key, counter in self._counters.items() if counter.is_due(now_s)})

    def apply(self, key: CounterKey, reply: Reply | None, now_s: float) -> None:
        """Take in Redis's answer about a counter; None: there is none."""
        counter = self._counters[key]
        if reply is None:
            counter.fail(now_s)
        else:
            counter.apply(reply, now_s)
        self._note(key, counter, now_s)

    def look_around(self, now_s: float) -> None:
        """Find counters that are due by time alone, and forget those that hold nothing; called every second."""
        for key, counter in list(self._counters.items()):
            if counter.is_idle(now_s):
                del self._counters[key]
            else:
                self._note(key, counter, now_s)

    @property
    def is_due(self) -> bool:
        """Whether `plan` has something to return."""
        return bool(self._due)

    @property
    def kept(self) -> int:
        """How many requests are charged and not settled."""
        return len(self._charges)

    @property
    def counters(self) -> int:
        """How many limits are being counted."""
        return len(self._counters)
