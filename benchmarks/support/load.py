"""Load on a gateway: connections that send one request after the other, each read to its end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from support.wire import ANSWER_END, length_of

_RECONNECT_S = 0.01
Take = Callable[[], bytes | None]
"""Gives the next request, None when there is none."""


@dataclass(slots=True)
class Tally:
    """What came of the requests."""

    served: int = 0
    """Whole answers with 200."""
    refused: int = 0
    """Whole answers with another status."""
    cut: int = 0
    """Requests whose connection ended, or was not to be had, before the answer was whole."""
    elapsed_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    """From a request's first byte sent to the answer's last one."""

    @property
    def failed(self) -> int:
        return self.refused + self.cut


class ClientProtocol(asyncio.Protocol):
    """Sends requests on one connection as long as there are any."""

    def __init__(self, take: Take, tally: Tally, closed: asyncio.Future[None]) -> None:
        self._take = take
        self._tally = tally
        self._closed = closed
        self._is_asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        self._missing: int | None = None
        self._tail = b""
        self._is_head = True
        self._is_ok = self._is_last = False
        request = self._take()
        self._is_asked = request is not None
        if request is None:
            self._transport.close()
            return
        self._sent_s = time.perf_counter()
        self._transport.write(request)

    def _served(self, *, is_ok: bool) -> None:
        tally = self._tally
        if is_ok:
            tally.served += 1
        else:
            tally.refused += 1
        tally.times_s.append(time.perf_counter() - self._sent_s)
        if self._is_last:
            self._is_asked = False
            self._transport.close()
        else:
            self._next()

    def data_received(self, data: bytes) -> None:
        if not self._is_asked:
            return
        if self._is_head:
            if not self._tail and data.startswith(b"HTTP/1.1 200") and data.endswith(ANSWER_END):
                self._served(is_ok=True)
                return
            self._tail += data
            head, found, rest = self._tail.partition(b"\r\n\r\n")
            if not found:
                return
            self._is_head = False
            self._is_ok = head.startswith(b"HTTP/1.1 200")
            self._is_last = b"connection: close" in head.lower()
            self._missing = length_of(head)
            self._tail, data = b"", rest
        if self._missing is not None:
            self._missing -= len(data)
            if self._missing <= 0:
                self._served(is_ok=self._is_ok)
            return
        self._tail = (self._tail + data)[-5:] if len(data) < 5 else data[-5:]
        if self._tail == b"0\r\n\r\n":
            self._served(is_ok=self._is_ok)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.cut += self._is_asked
        self._is_asked = False
        if not self._closed.done():
            self._closed.set_result(None)


async def send(port: int, take: Take, connections: int, address: str = "127.0.0.1") -> Tally:
    """Send what `take` gives on so many connections; those that end are made again."""
    loop = asyncio.get_running_loop()
    tally, began_s = Tally(), time.perf_counter()
    is_over = False

    def take_or_end() -> bytes | None:
        nonlocal is_over
        request = take()
        is_over = is_over or request is None
        return request

    async def connection() -> None:
        while not is_over:
            closed: asyncio.Future[None] = loop.create_future()
            try:
                await loop.create_connection(lambda f=closed: ClientProtocol(take_or_end, tally, f), address, port)  # type: ignore[misc]
            except OSError:
                tally.cut += 1
                await asyncio.sleep(_RECONNECT_S)
                if take_or_end() is None:
                    return
                continue
            await closed

    await asyncio.gather(*[connection() for _ in range(connections)])
    tally.elapsed_s = time.perf_counter() - began_s
    return tally


async def send_all(port: int, requests: Sequence[bytes], connections: int, address: str = "127.0.0.1") -> Tally:
    """Send each request once.

    Raises:
        RuntimeError: an answer was not 200 or not whole.
    """
    left = iter(requests)
    tally = await send(port, lambda: next(left, None), connections, address)
    if tally.failed:
        raise RuntimeError(f"port {port}: {tally.refused} requests refused, {tally.cut} cut, {tally.served} served")
    return tally


async def send_for(
    port: int, requests: Sequence[bytes], connections: int, seconds: float, *, address: str = "127.0.0.1"
) -> Tally:
    """Send the requests in turn, again and again, for so long; what is under way then is still read to its end.

    Raises:
        RuntimeError: no answer at all was 200 and whole.
    """
    tally = await send(port, lasting(requests, seconds), connections, address)
    if not tally.served:
        raise RuntimeError(f"port {port}: {tally.refused} requests refused, {tally.cut} cut, none served")
    return tally


def lasting(requests: Sequence[bytes], seconds: float) -> Take:
    """Give the requests in turn, again and again, until so many seconds from now."""
    turn, ends_s = itertools.cycle(requests), time.perf_counter() + seconds

    def take() -> bytes | None:
        return next(turn) if time.perf_counter() < ends_s else None

    return take
