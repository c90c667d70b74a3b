"""Engine stand-ins: they cost little, so that what is measured is the gateway before them."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Event
from typing import Any, cast

import msgspec
import uvloop

from support.wire import MODEL, SHORT_END, answer, events, length_of

CHUNK_INTERVAL_S = 0.002
TOKEN_S = 0.001
"""What a token of an answer takes that is no stream, where the request limits them."""


def page_of(content: str, kind: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n\r\n{content}".encode()


_METRICS = "".join(
    f'# TYPE vllm:{name} gauge\nvllm:{name}{{engine="0",model_name="{MODEL}"}} 0\n'
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
)
_MODELS = '{"object":"list","data":[{"id":"bench","object":"model","created":1,"owned_by":"bench"}]}'
_INFO = '{"model_path":"bench","served_model_name":"bench","is_generation":true}'
PAGES = {
    b"/metrics": page_of(_METRICS, "text/plain; version=0.0.4"),
    b"/v1/models": page_of(_MODELS, "application/json"),
}
OTHER_PAGE = page_of(_INFO, "application/json")
"""What routers ask before they believe in an engine: its health, its model."""


class _Asked(msgspec.Struct):
    stream: bool = False
    max_tokens: int | None = None


_DECODER = msgspec.json.Decoder(_Asked)


class EngineProtocol(asyncio.Protocol):
    """Answer a request at once or after its tokens' time, or stream chunks on a timer.

    Requests arrive one at a time on a connection.
    """

    answer = answer()
    events = events()
    stream_head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._got = b""

    def data_received(self, data: bytes) -> None:
        # Whole short requests, nearly all there are, cost as little as can be: the engines share the CPUs.
        if not self._got and data.startswith(b"POST") and data.endswith(SHORT_END):
            self._transport.write(self.answer)
            return
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or len(body) < (length_of(head) or 0):
            return
        self._got = b""
        if head.startswith(b"GET"):
            self._transport.write(PAGES.get(head.split(b" ", 2)[1], OTHER_PAGE))
            return
        if not head.startswith(b"POST"):
            # Routers try HTTP/2 first, to find out whether an engine speaks gRPC.
            self._transport.close()
            return
        asked = _DECODER.decode(body)
        loop = asyncio.get_running_loop()
        if asked.stream:
            self._transport.write(self.stream_head)
            self._send(loop, iter(self.events), loop.time() + CHUNK_INTERVAL_S)
        elif asked.max_tokens:
            loop.call_later(asked.max_tokens * TOKEN_S, self._answer)
        else:
            self._transport.write(self.answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self.answer)

    def _send(self, loop: asyncio.AbstractEventLoop, events: Any, due_s: float) -> None:
        if self._transport.is_closing():
            return
        event = next(events, None)
        if event is None:
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(event)
        loop.call_at(due_s, self._send, loop, events, due_s + CHUNK_INTERVAL_S)


def serve_engines(addresses: Sequence[str], port: int, ready: Event) -> None:
    """Serve engines from one process until it is terminated."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(EngineProtocol, address, port) for address in addresses]
        ready.set()
        await asyncio.gather(*(server.serve_forever() for server in servers))

    uvloop.run(serve())


class Engines:
    """Engines in a process of their own."""

    def __init__(self, addresses: Sequence[str], port: int) -> None:
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        self._child = context.Process(target=serve_engines, args=(addresses, port, ready), daemon=True)
        self._child.start()
        if not ready.wait(30):
            self._child.kill()
            raise RuntimeError("the engines did not start")

    def kill(self) -> None:
        """End the process at once, with what it was about to answer."""
        self._child.kill()
        self._child.join()


@contextlib.contextmanager
def engines(addresses: Sequence[str], port: int) -> Iterator[Engines]:
    """Serve engines for the body of the `with`."""
    running = Engines(addresses, port)
    try:
        yield running
    finally:
        running.kill()
