"""Commands that somebody runs in a container: with its environment, files and address, and a terminal if wanted."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pybrix.cluster.nodeagent.processes import starting_with_default_signals

STDOUT, STDERR = 1, 2
_CHUNK_BYTES = 32 * 1024
_WAITING_CHUNKS = 16
"""Output that waits for a slow client; more makes the command wait."""


class RunningCommand:
    """A command in a container: the API server's `ExecSession`."""

    def __init__(self, process: asyncio.subprocess.Process, master: int | None) -> None:
        self._process = process
        self._master = master
        self._output: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(_WAITING_CHUNKS)
        self._readers: list[asyncio.Task[None]] = []
        self._terminal_in: asyncio.StreamWriter | None = None
        self._pump: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start to read; the command runs already."""
        loop = asyncio.get_running_loop()
        if self._master is None:
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            readers = [(STDOUT, self._process.stdout), (STDERR, self._process.stderr)]
        else:
            reader = asyncio.StreamReader()
            source = os.fdopen(os.dup(self._master), "rb", 0)
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
            sink = os.fdopen(os.dup(self._master), "wb", 0)
            transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
            self._terminal_in = asyncio.StreamWriter(transport, cast(asyncio.BaseProtocol, protocol), None, loop)
            readers = [(STDOUT, reader)]
        self._readers = [loop.create_task(self._read(channel, stream)) for channel, stream in readers]
        self._pump = loop.create_task(self._end_output())

    async def _read(self, channel: int, stream: asyncio.StreamReader) -> None:
        # A terminal whose last program has ended gives EIO.
        with contextlib.suppress(OSError):
            while chunk := await stream.read(_CHUNK_BYTES):
                await self._output.put((channel, chunk))

    async def _end_output(self) -> None:
        await asyncio.gather(*self._readers)
        await self._output.put(None)

    async def read(self) -> tuple[int, bytes] | None:
        return await self._output.get()

    async def write(self, data: bytes) -> None:
        writer = self._terminal_in or self._process.stdin
        if writer is None or writer.is_closing():
            return
        # The command may have closed its input, or ended.
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()

    def close_input(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def resize(self, width: int, height: int) -> None:
        if self._master is not None:
            set_size(self._master, width, height)

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        if self._process.returncode is None:
            # The shell that mounts, and whatever the command started in its session.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGHUP if self._master is not None else signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        for task in (*self._readers, self._pump):
            if task is not None:
                task.cancel()
        if self._terminal_in is not None:
            self._terminal_in.close()
        if self._master is not None:
            os.close(self._master)
            self._master = None


async def run_command(
    argv: tuple[str, ...], *, env: Mapping[str, str], cwd: Path, has_input: bool, has_terminal: bool
) -> RunningCommand:
    """Start a command in a session of its own.

    Raises:
        OSError: it cannot be started.
    """
    if not has_terminal:
        with starting_with_default_signals():
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=env,
                cwd=cwd,
                stdin=asyncio.subprocess.PIPE if has_input else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        running = RunningCommand(process, None)
        await running.begin()
        return running
    master, slave = pty.openpty()
    try:
        with starting_with_default_signals():
            # setsid(1) makes the terminal the controlling one of the session that it begins.
            process = await asyncio.create_subprocess_exec(
                shutil.which("setsid") or "/usr/bin/setsid",
                "--ctty",
                *argv,
                env={"TERM": "xterm"} | dict(env),
                cwd=cwd,
                stdin=slave,
                stdout=slave,
                stderr=slave,
            )
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    running = RunningCommand(process, master)
    await running.begin()
    return running


def set_size(terminal: int, width: int, height: int) -> None:
    """Set a terminal's size; numbers that are none of a size are kept to the nearest that is."""
    columns, rows = (min(max(number, 0), 0xFFFF) for number in (width, height))
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
