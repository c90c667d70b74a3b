"""The access-log socket: a thin shell around the forward protocol.

Envoy connects, sends, and connects again when the brain comes back; nothing is ever answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pybrix.gateway.accesslog.forward import ForwardError, ForwardParser
from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.presence import EnvoyPresence

_log = structlog.get_logger()


class SinkProtocol(asyncio.Protocol):
    """One connection. `account` is called for every record, in order."""

    def __init__(
        self, account: Callable[[AccessRecord], None], alive: set[SinkProtocol], presence: EnvoyPresence
    ) -> None:
        self._account = account
        self._alive = alive
        self._presence = presence
        self._parser = ForwardParser()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._alive.add(self)
        self._presence.records_opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._alive.discard(self)
        self._presence.closed()

    def data_received(self, data: bytes) -> None:
        try:
            records = self._parser.feed(data)
        except ForwardError as err:
            _log.warning("access log connection closed", error=str(err))
            self.close()
            return
        for record in records:
            self._account(record)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class LogSink:
    """Makes connections and ends them; Envoy then connects to the next brain."""

    def __init__(self, account: Callable[[AccessRecord], None], presence: EnvoyPresence) -> None:
        self._account = account
        self._presence = presence
        self._alive: set[SinkProtocol] = set()

    def connect(self) -> SinkProtocol:
        """Return the protocol of a new connection."""
        return SinkProtocol(self._account, self._alive, self._presence)

    def close(self) -> None:
        for protocol in list(self._alive):
            protocol.close()
