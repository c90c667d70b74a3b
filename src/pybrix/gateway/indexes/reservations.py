"""Reservations: one for each request that the brain routed, released exactly once. Pure; time is an argument.

A reservation is made when an endpoint is chosen and ends with the end record of the access log, when its renewals stop
coming, or with the last Envoy that could send them. Its id is issued here and cannot be guessed; it starts with the
brain's instance, so that what an earlier brain reserved is recognised after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.indexes.history import Trace
from pybrix.gateway.indexes.load import NO_WEIGHT, LoadTable, Weight

MISSED_RENEWALS = 3
LOG_DELAY_S = 2.0
"""Time that a record may spend in Envoy's buffer and on its way."""
_TOKEN_BYTES = 12
_TOKENS_PER_BLOCK = 256


class TokenSource:
    """Unguessable tokens of 96 bits, in hex, drawn from the system in blocks: a system call for each would show.

    Args:
        draw: returns that many random bytes, fit for secrets.
    """

    def __init__(self, draw: Callable[[int], bytes]) -> None:
        self._draw = draw
        self._tokens: list[str] = []

    def issue(self) -> str:
        """Return a token that was never returned before."""
        if not self._tokens:
            block = self._draw(_TOKEN_BYTES * _TOKENS_PER_BLOCK).hex()
            width = 2 * _TOKEN_BYTES
            self._tokens = [block[at : at + width] for at in range(0, len(block), width)]
        return self._tokens.pop()


class Reservation(msgspec.Struct, gc=False):
    """A request in flight. `endpoint` is where it is counted; `ranking` are the endpoints Envoy may retry on.

    `request` is None for one that another brain routed.
    """

    id: str
    endpoint: Endpoint
    ranking: Sequence[Endpoint]
    weight: Weight
    request: InferenceRequest | None
    since_s: float
    renewed_s: float
    trace: Trace | None = None


class Reservations:
    """The ledger. Every change of it and of the loads is one synchronous step.

    Args:
        loads: where reservations count.
        instance: prefix of the ids of this brain; without a dot.
        issue: returns an unguessable token, another one at every call.
        renewal_s: interval of the renewals that Envoy sends for long streams.
    """

    def __init__(self, loads: LoadTable, instance: str, issue: Callable[[], str], renewal_s: float) -> None:
        self._loads = loads
        self._prefix = f"{instance}."
        self._issue = issue
        self.lifetime_s = MISSED_RENEWALS * renewal_s + LOG_DELAY_S
        self.patience_s = renewal_s + LOG_DELAY_S
        """How long a request may be silent of which it is not certain that it still runs."""
        # Oldest renewal first, so that expiry looks at the head only.
        self._held: dict[str, Reservation] = {}

    def reserve(
        self,
        ranking: Sequence[Endpoint],
        weight: Weight,
        now_s: float,
        request: InferenceRequest | None = None,
        trace: Trace | None = None,
    ) -> str:
        """Count a request on the first endpoint of the ranking and return the reservation's id.

        Args:
            trace: what is to be told how the request goes on.
        """
        held = self._hold(self._prefix + self._issue(), ranking, weight, now_s, request)
        held.trace = trace
        return held.id

    def adopt(self, foreign_id: str, endpoint: Endpoint, now_s: float) -> Reservation | None:
        """Count a request that another instance (the brain before this one) reserved, once a renewal tells of it.

        Returns None for an id of this instance: one that is not held has been released.
        """
        if not foreign_id or self.is_own(foreign_id) or foreign_id in self._held:
            return None
        return self._hold(foreign_id, (endpoint,), NO_WEIGHT, now_s, None)

    def restore(
        self, held_id: str, endpoint: Endpoint, weight: Weight, *, now_s: float, since_s: float, renewed_s: float
    ) -> bool:
        """Count a request again that was in flight when this gateway ended. False: it is too old to believe in.

        It may have ended meanwhile, so it goes with the first renewal that does not come. To be called before anything
        else is held, with the oldest renewal first.
        """
        # As if it had been renewed so long ago that only one more interval is left of its life.
        believed_s = min(renewed_s, now_s - self.lifetime_s + self.patience_s)
        if now_s - believed_s > self.lifetime_s or held_id in self._held:
            return False
        held = self._hold(held_id, (endpoint,), weight, believed_s, None)
        held.since_s = since_s
        return True

    def is_own(self, reservation_id: str) -> bool:
        return reservation_id.startswith(self._prefix)

    def _hold(
        self, key: str, ranking: Sequence[Endpoint], weight: Weight, now_s: float, request: InferenceRequest | None
    ) -> Reservation:
        held = Reservation(key, ranking[0], ranking, weight, request, now_s, now_s)
        self._held[key] = held
        self._loads.add(held.endpoint.id, weight)
        return held

    def get(self, reservation_id: str) -> Reservation | None:
        return self._held.get(reservation_id)

    def renew(self, reservation_id: str, endpoint: Endpoint | None, now_s: float) -> bool:
        """Keep a reservation alive; with another `endpoint` (a retry) it moves there. False: it is not held."""
        held = self._held.pop(reservation_id, None)
        if held is None:
            return False
        held.renewed_s = now_s
        self._held[reservation_id] = held
        if endpoint is not None and endpoint.id != held.endpoint.id:
            self._loads.remove(held.endpoint.id, held.weight)
            self._loads.add(endpoint.id, held.weight)
            held.endpoint = endpoint
        return True

    def release(self, reservation_id: str) -> Reservation | None:
        """End a reservation. None: it is not held (it ended or expired before, or never was)."""
        held = self._held.pop(reservation_id, None)
        if held is not None:
            self._loads.remove(held.endpoint.id, held.weight)
        return held

    def expire(self, now_s: float) -> list[Reservation]:
        """Release those whose renewals stopped; return them, oldest first."""
        expired: list[Reservation] = []
        for oldest in self._held.values():
            if now_s - oldest.renewed_s <= self.lifetime_s:
                break
            expired.append(oldest)
        for lost in expired:
            self.release(lost.id)
        return expired

    def release_all(self) -> list[Reservation]:
        """Release everything, since nobody is left who could end it; return it, oldest renewal first."""
        held = list(self._held.values())
        for lost in held:
            self.release(lost.id)
        return held

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Reservation]:
        return iter(list(self._held.values()))
