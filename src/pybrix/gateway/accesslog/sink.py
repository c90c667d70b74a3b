"""The access-log socket: a thin shell around the forward protocol.

Envoy connects, sends, and connects again when the brain comes back; nothing is ever answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pybrix.gateway.accesslog.forward import ForwardError, ForwardParser
from pybrix.gateway.framework.outcome import AccessRecord

_log = structlog.get_logger()


class SinkProtocol(asyncio.Protocol):
    """One connection. `account` is called for every record, in order."""

    def __init__(self, account: Callable[[AccessRecord], None]) -> None:
        self._account = account
        self._parser = ForwardParser()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            records = self._parser.feed(data)
        except ForwardError as err:
            _log.warning("access log connection closed", error=str(err))
            if self._transport is not None:
                self._transport.close()
            return
        for record in records:
            self._account(record)
