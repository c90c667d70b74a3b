"""What stands around a real Envoy in tests: a scripted brain, small engines, and a sink of access-log records."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from pybrix.envoy import wire
from pybrix.envoy.wire import PodEndpoint

PATIENT_MS = 20_000
"""How long an Envoy waits for a brain that shares a busy event loop with engines and clients, where it is no test of
what happens when the brain does not answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole HTTP/1.1 request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None when the peer has closed the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


def response(status: int, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "content-length": str(len(body))}.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server whose connections can all be cut at once, as a killed process does."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def is_listening(self) -> bool:
        return self._server is not None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def listen(self, address: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, address, port)

    async def listen_unix(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def kill(self) -> None:
        """Close the port and reset every connection."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for writer in self._writers:
            writer.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Answer = Callable[[Request], bytes]


class Brain:
    """Answers decisions as told: `answer` is called with each question and returns a whole HTTP response."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.answer: Answer = lambda question: response(200, {})
        self.questions: list[Request] = []
        self.running = asyncio.Event()
        """Cleared: takes questions and never answers, like a process after SIGSTOP."""
        self.running.set()
        self._server = Server(self._handle)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while question := await read_request(reader):
            await self.running.wait()
            if question.path == wire.HEALTH_PATH:
                writer.write(response(200, {}))
            else:
                self.questions.append(question)
                writer.write(self.answer(question))

    async def start(self) -> None:
        """Start to answer, unless it does already."""
        if not self._server.is_listening:
            await self._server.listen_unix(self.socket)

    async def kill(self) -> None:
        await self._server.kill()
        self.socket.unlink(missing_ok=True)

    def route(self, cluster: str, *endpoints: PodEndpoint, reservation: str = "r1", strategy: str = "scripted") -> None:
        """Answer every question with these endpoints."""
        headers = {
            wire.CLUSTER_HEADER: cluster,
            wire.ENDPOINTS_HEADER: ",".join(f"{each.address}:{each.port}" for each in endpoints),
            wire.RESERVATION_HEADER: reservation,
            wire.STRATEGY_HEADER: strategy,
        }
        self.answer = lambda question: response(200, headers)

    def refuse(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Refuse every question."""
        said = {"content-type": "application/json", **(headers or {})}
        self.answer = lambda question: response(status, said, json.dumps(body).encode())


Reply = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


async def say_hello(request: Request, writer: asyncio.StreamWriter) -> None:
    """Answer with what was asked."""
    said = {"path": request.path, "headers": dict(request.headers), "size": len(request.body)}
    writer.write(response(200, {"content-type": "application/json"}, json.dumps(said).encode()))


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Engine:
    """One endpoint. `reply` answers each request; `requests` are those that came."""

    def __init__(self, name: str, address: str, port: int) -> None:
        self.pod = PodEndpoint(address, port, f"uid-{name}", name)
        self.requests: list[Request] = []
        self.reply: Reply = say_hello
        self._server = Server(self._handle)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            self.requests.append(request)
            await self.reply(request, writer)
            await writer.drain()

    async def start(self) -> None:
        """Start to answer, unless it does already."""
        if not self._server.is_listening:
            await self._server.listen(self.pod.address, self.pod.port)

    async def kill(self) -> None:
        await self._server.kill()


class LogSink:
    """Keeps the records that Envoy sends."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.records: list[dict[str, Any]] = []
        self._arrived = asyncio.Event()
        self._server = Server(self._handle)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unpacker = msgpack.Unpacker()
        while data := await reader.read(65536):
            unpacker.feed(data)
            for _, entries, *_ in unpacker:
                self.records.extend(record for _, record in entries)
            self._arrived.set()

    async def wait_for(
        self, request_id: str, record_type: str = "DownstreamEnd", timeout_s: float = 60
    ) -> dict[str, Any]:
        """Return the first record of a request, of that type."""
        async with asyncio.timeout(timeout_s):
            while True:
                for record in self.records:
                    if (record["request_id"], record["type"]) == (request_id, record_type):
                        return record
                self._arrived.clear()
                await self._arrived.wait()

    async def start(self) -> None:
        await self._server.listen_unix(self.socket)

    async def kill(self) -> None:
        await self._server.kill()

    async def restart(self) -> None:
        await self.kill()
        await self.start()


async def eventually(check: Callable[[], Awaitable[bool]], timeout_s: float = 60) -> None:
    """Wait until `check` says yes; what it looks at has no event to await."""
    async with asyncio.timeout(timeout_s):
        while True:
            with contextlib.suppress(ConnectionError, OSError):
                if await check():
                    return
            await asyncio.sleep(0.01)


_ports = itertools.cycle(random.Random().sample(range(21500, 21650), 150))


def free_port() -> int:
    """Return a port that nobody listens on at any address, out of the range that outgoing connections use.

    The next call returns another one, though nobody may have begun to listen by then.
    """
    for port in itertools.islice(_ports, 150):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
