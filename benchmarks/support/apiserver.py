"""An API server as a process of its own, and raw connections to it that cost the load generator little."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog
import yaml

from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.server import ApiServer
from pybrix.cluster.kubeconfig import write_kubeconfig
from pybrix.cluster.pki import Pki
from pybrix.cluster.store.store import Store

GC_THRESHOLD = 50_000  # as `pybrix.cluster.app` sets it
_ROOT = Path(__file__).resolve().parents[2]
_BLOCK = b"x" * 65536


async def serve(directory: Path) -> None:
    """Run an API server, and a floor that only moves bytes, until killed or standard input ends."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    gc.set_threshold(GC_THRESHOLD)
    clock = SystemClock()
    store = Store.open(directory / "cluster.db", clock=clock)
    pki = Pki.load_or_create(directory / "pki", clock)
    server = ApiServer(store, pki=pki, clock=clock)
    await server.start()
    gc.collect()
    gc.freeze()
    write_kubeconfig(directory / "kubeconfig", url=server.url, pki=pki)
    floor = await asyncio.start_server(_move_bytes, "127.0.0.1", 0, ssl=pki.server_ssl_context())
    print(server.port, floor.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    floor.close()
    await server.stop()
    store.close()


async def _move_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    left = int(head.split(b"bytes=")[1].split()[0])
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
    while left > 0:
        writer.write(_BLOCK[:left])
        left -= len(_BLOCK)
        await writer.drain()
    writer.close()


class Connection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader = reader
        self._writer = writer
        self._fixed = f"Host: localhost\r\nAuthorization: Bearer {token}\r\nUser-Agent: bench/1\r\n"

    async def send(self, method: str, path: str, body: bytes, media: str) -> tuple[int, bytes]:
        """Return status code and body."""
        self._write(method, path, body, media)
        code, headers = await self._head()
        if b"content-length" in headers:
            return code, await self._reader.readexactly(int(headers[b"content-length"]))
        pieces = [piece async for piece in self._chunks()]
        return code, b"".join(pieces)

    async def stream(self, path: str, started: Callable[[], Any]) -> AsyncIterator[bytes]:
        """Yield the pieces of an answer that does not end by itself; call `started` when its head is there."""
        self._write("GET", path, b"", "")
        code, _ = await self._head()
        assert code == 200, code
        started()
        async for piece in self._chunks():
            yield piece

    def _write(self, method: str, path: str, body: bytes, media: str) -> None:
        about = f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n" if body else ""
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self._fixed}{about}\r\n".encode() + body)

    async def _head(self) -> tuple[int, dict[bytes, bytes]]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *rest = head[:-4].split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (entry.partition(b":") for entry in rest)}
        return int(first.split(b" ", 2)[1]), headers

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            piece = await self._reader.readexactly(size + 2)
            if not size:
                return
            yield piece[:-2]


@dataclass(slots=True)
class ApiProcess:
    """A server process over a directory; started again on it, it has the same objects."""

    process: asyncio.subprocess.Process
    port: int
    floor_port: int
    token: str
    trust: ssl.SSLContext

    @classmethod
    async def start(cls, directory: Path) -> ApiProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(_ROOT / "benchmarks" / "apiserver_scale.py"),
            "--serve",
            str(directory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        ports = (await process.stdout.readline()).split()
        if not ports:
            raise SystemExit("the server did not start")
        config = yaml.safe_load((directory / "kubeconfig").read_text())
        trust = ssl.create_default_context(cafile=str(directory / "pki" / "ca.crt"))
        return cls(process, int(ports[0]), int(ports[1]), config["users"][0]["user"]["token"], trust)

    @asynccontextmanager
    async def connect(self, *, port: int = 0) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port or self.port, ssl=self.trust, limit=4 * 1024 * 1024
        )
        try:
            yield Connection(reader, writer, self.token)
        finally:
            writer.close()

    def cpu_s(self) -> float:
        """Return the CPU time that the server has used so far."""
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    def peak_memory_mib(self) -> float:
        """Return the largest resident set so far."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    async def kill(self) -> None:
        """Kill the process as hard as it can be."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
