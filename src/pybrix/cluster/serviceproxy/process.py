"""The forwarder as a process: started, told tables, started again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Callable

import structlog

from pybrix.cluster.serviceproxy.table import Address, Routes, parse_answer, print_routes

RESTART_PAUSE_S = 1.0
ANSWER_TIMEOUT_S = 10.0
_STOP_WAIT_S = 2.0

_log = structlog.get_logger()


class ForwarderGone(RuntimeError):
    """The forwarder's process ended or does not answer; the next one is told the table anew."""


class ForwarderProcess:
    """Runs one forwarder. `started` is called for each one that runs: it knows no table yet."""

    def __init__(self, *, python: str = sys.executable) -> None:
        self._command = (python, "-m", "pybrix.cluster.serviceproxy.forwarder")
        self._process: asyncio.subprocess.Process | None = None
        self._serials = itertools.count(1)
        self._lock = asyncio.Lock()
        self.started: Callable[[], None] = lambda: None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep a forwarder running until cancelled."""
        while True:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    start_new_session=True,
                    limit=2**20,
                )
            except OSError as error:
                _log.warning("the forwarder of Services cannot be started, trying again", error=str(error))
                await asyncio.sleep(RESTART_PAUSE_S)
                continue
            self._process = process
            try:
                self.started()
                code = await process.wait()
            finally:
                self._process = None
                await _end(process)
            _log.warning("the forwarder of Services ended, starting another", code=code)
            await asyncio.sleep(RESTART_PAUSE_S)

    async def apply(self, routes: Routes) -> dict[Address, str]:
        """Have a table take effect; return why some addresses cannot be listened on.

        Raises:
            ForwarderGone
        """
        async with self._lock:
            process = self._process
            if process is None or process.stdin is None or process.stdout is None:
                raise ForwarderGone("the forwarder of Services is not running")
            serial = next(self._serials)
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    process.stdin.write(print_routes(serial, routes))
                    await process.stdin.drain()
                    while line := await process.stdout.readline():
                        answered, failures = parse_answer(line)
                        # An earlier table whose sender was cancelled may be answered first.
                        if answered == serial:
                            return failures
            except (OSError, TimeoutError) as error:
                raise ForwarderGone(f"the forwarder of Services does not answer: {error}") from error
            raise ForwarderGone("the forwarder of Services ended")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a forwarder: it does so by itself when its input is closed."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_WAIT_S):
            await process.wait()
            return
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    await process.wait()
