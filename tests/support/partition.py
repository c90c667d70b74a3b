"""A TCP proxy that stops to carry anything while its connections stay open: a network that is partitioned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


class Partition:
    """Stands between a client and a Unix socket. While `cut`, bytes wait, and connections that come hang."""

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._open.wait()
            theirs, ours = await asyncio.open_unix_connection(str(self._upstream))
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pump(reader, ours))
                    tasks.create_task(self._pump(theirs, writer))
            finally:
                ours.close()
        except* OSError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._open.wait()
            target.write(data)
            await target.drain()
        raise ConnectionResetError("the other side is gone")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Partition]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
