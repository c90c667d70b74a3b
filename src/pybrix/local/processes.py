"""Processes that are watched: those that this process has started, and those that it has found running."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Protocol

import psutil

from pybrix.local.state import ProcessRecord

UNKNOWN_EXIT = 256
"""Exit status of a process that somebody else started: the kernel tells only its parent."""


class Process(Protocol):
    """What a supervisor needs of a process; `asyncio.subprocess.Process` has it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def send_signal(self, signal: int) -> None: ...


class FoundProcess:
    """A process that was running already. It may be a child of this process, as after an `exec`, or not.

    Raises:
        ProcessLookupError: it is gone.
    """

    def __init__(self, record: ProcessRecord) -> None:
        self._descriptor = os.pidfd_open(record.pid)
        # The number may have gone to another process before the descriptor was there; from now on it cannot.
        if record.find() is None:
            os.close(self._descriptor)
            raise ProcessLookupError(record.pid)
        self.pid = record.pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._on_end)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        try:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            self.returncode = UNKNOWN_EXIT
        self._ended.set()

    async def wait(self) -> int:
        """Wait until it has ended; return its exit status, as far as that is known."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; one that has ended gets none."""
        if self.returncode is None:
            signal.pidfd_send_signal(self._descriptor, number)


def command_of(process: Process) -> tuple[str, ...]:
    """Return the command line of a living process; empty when it is gone."""
    try:
        return tuple(psutil.Process(process.pid).cmdline())
    except psutil.NoSuchProcess:
        return ()
