"""The process that listens on the addresses of Services and forwards their connections.

    python -m pybrix.cluster.serviceproxy.forwarder

It reads tables (`table`) from its standard input, answers each on its standard output, and ends when the input does: it
never outlives the cluster. In a process of its own, what pods send each other does not slow the API server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import sys
from collections.abc import Callable
from typing import cast

from pybrix.cluster.serviceproxy.table import Address, Route, Routes, parse_routes, print_answer

CONNECT_TIMEOUT_S = 5.0
LINE_LIMIT_BYTES = 64 * 1024 * 1024
# A reset instead of an orderly end: the client is to see that nobody was there.
_RESET = struct.pack("ii", 1, 0)


class _Side(asyncio.Protocol):
    """One side of a connection; what comes in goes out on the other, no faster than that takes it."""

    def __init__(self, accept: Callable[[_Side], None] | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self._accept = accept
        self._other: _Side | None = None
        self._early = b""
        self._has_ended = False

    def join(self, other: _Side) -> None:
        """Send what comes in here out on the other side from now on."""
        self._other = other
        assert other.transport is not None
        if self._early:
            other.transport.write(self._early)
            self._early = b""
        if self._has_ended:
            other.transport.write_eof()
        elif self.transport is not None:
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an instance of asyncio's class, in uvloop.
        self.transport = cast(asyncio.Transport, transport)
        if self._accept is not None:
            self._accept(self)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
            if self.transport is not None:
                self.transport.pause_reading()
        elif self._other.transport is not None:
            self._other.transport.write(data)

    def eof_received(self) -> bool:
        # Each direction ends by itself; what ends second closes both.
        self._has_ended = True
        other = self._other
        if other is None:
            return True
        if other._has_ended or other.transport is None or other.transport.is_closing():
            return False
        other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        other, self.transport = (self._other.transport if self._other is not None else None), None
        if other is None:
            return
        if error is not None:
            reset(other)
        else:
            other.close()

    def pause_writing(self) -> None:
        if self._other is not None and self._other.transport is not None and not self._other.transport.is_closing():
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and self._other.transport is not None and not self._other.transport.is_closing():
            self._other.transport.resume_reading()


def reset(transport: asyncio.Transport) -> None:
    """End a connection with a reset."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


class Listener:
    """One address that is listened on. A new route counts for new connections."""

    def __init__(self, route: Route, chance: random.Random) -> None:
        self.route = route
        self._chance = chance
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._bound: dict[str, tuple[Address, float]] = {}

    async def listen(self, address: Address) -> None:
        """Listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Side(self._accept), address.ip, address.port, backlog=512, reuse_address=True
        )

    def close(self) -> None:
        """Listen no longer; connections that are there go on."""
        if self._server is not None:
            self._server.close()

    def _accept(self, client: _Side) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: _Side) -> None:
        """Connect a client to a backend; one that does not take the connection is not asked twice."""
        assert client.transport is not None
        peer = str(client.transport.get_extra_info("peername", ("",))[0])
        for backend in self._order(peer):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    transport, server = await asyncio.get_running_loop().create_connection(_Side, *backend)
            except (OSError, TimeoutError):
                continue
            if client.transport is None or client.transport.is_closing():
                transport.abort()
                return
            if self.route.affinity_s:
                self._bound[peer] = (backend, asyncio.get_running_loop().time() + self.route.affinity_s)
            server.join(client)
            client.join(server)
            return
        if client.transport is not None:
            reset(client.transport)

    def _order(self, peer: str) -> list[Address]:
        """Return the backends in the order in which they are tried: by chance, a client's own first."""
        order = self._chance.sample(self.route.backends, len(self.route.backends))
        bound, until = self._bound.get(peer, (None, 0.0))
        if bound in order and asyncio.get_running_loop().time() < until:
            order.remove(bound)
            order.insert(0, bound)
        else:
            self._bound.pop(peer, None)
        return order


class Forwarder:
    """The listeners of the present table."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.SystemRandom()
        self._listeners: dict[Address, Listener] = {}

    async def apply(self, routes: Routes) -> dict[Address, str]:
        """Listen on what the table names and on nothing else; return why some addresses cannot be listened on."""
        for address in self._listeners.keys() - routes.keys():
            self._listeners.pop(address).close()
        failures: dict[Address, str] = {}
        for address, route in routes.items():
            if address in self._listeners:
                self._listeners[address].route = route
                continue
            listener = Listener(route, self._chance)
            try:
                await listener.listen(address)
            except OSError as error:
                # The loop puts a text of its own in place of the system's.
                failures[address] = os.strerror(error.errno) if error.errno else str(error)
            else:
                self._listeners[address] = listener
        return failures

    def close(self) -> None:
        for listener in self._listeners.values():
            listener.close()


async def serve() -> None:
    """Follow tables until the input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    forwarder = Forwarder()
    while line := await reader.readline():
        serial, routes = parse_routes(line)
        failures = await forwarder.apply(routes)
        sys.stdout.buffer.write(print_answer(serial, failures))
        sys.stdout.buffer.flush()
    forwarder.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
