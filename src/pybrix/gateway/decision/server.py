"""The decision socket: a thin shell around the exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from pybrix.gateway.decision.exchange import Decide, DecisionExchange
from pybrix.gateway.presence import EnvoyPresence


class DecisionProtocol(asyncio.Protocol):
    """One connection of Envoy's."""

    def __init__(self, exchange: DecisionExchange, server: DecisionServer) -> None:
        self._exchange = exchange
        self._server = server
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, though they behave as such.
        self._transport = cast(asyncio.Transport, transport)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        exchange, transport = self._exchange, self._transport
        if transport is None or transport.is_closing():
            return
        if replies := exchange.receive(data):
            transport.write(replies)
        if exchange.is_closed:
            transport.close()

    def drain(self) -> None:
        """Close now, or after the request that is being received."""
        self._exchange.is_draining = True
        if self._exchange.is_between_requests:
            self.close()

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class DecisionServer:
    """Makes connections and ends them in order.

    Args:
        decide: answers one question, at once.
        body_limit_bytes: see `DecisionExchange`.
        is_ready: whether the health check says yes.
        presence: told of every connection.
    """

    def __init__(
        self, decide: Decide, body_limit_bytes: int, is_ready: Callable[[], bool], presence: EnvoyPresence
    ) -> None:
        self._decide = decide
        self._body_limit_bytes = body_limit_bytes
        self._is_ready = is_ready
        self._presence = presence
        self._alive: set[DecisionProtocol] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    def connect(self) -> DecisionProtocol:
        """Return the protocol of a new connection."""
        return DecisionProtocol(DecisionExchange(self._decide, self._body_limit_bytes, self._is_ready), self)

    def opened(self, protocol: DecisionProtocol) -> None:
        self._alive.add(protocol)
        self._all_closed.clear()
        self._presence.questions_opened()

    def closed(self, protocol: DecisionProtocol) -> None:
        self._alive.discard(protocol)
        if not self._alive:
            self._all_closed.set()
        self._presence.closed()

    @property
    def connections(self) -> int:
        return len(self._alive)

    async def drain(self, grace_s: float, hurry: asyncio.Event) -> int:
        """End every connection: idle ones at once, others with their request, all of them after the grace time.

        Returns:
            How many requests were still being received when the time was over, or `hurry` set.
        """
        for protocol in list(self._alive):
            protocol.drain()
        waits = {asyncio.create_task(self._all_closed.wait()), asyncio.create_task(hurry.wait())}
        await asyncio.wait(waits, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        cut = [protocol for protocol in self._alive if not protocol.is_closing]
        for protocol in cut:
            protocol.close()
        return len(cut)
