"""An engine over several machines: it serves while its Ray cluster has all its nodes, and fails when one is lost."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress

from pybrix.base.errors import PybrixError

log = logging.getLogger("pybrix.simulator")

RETRY_S = 1.0
SILENCE_S = 10.0
"""A cluster that does not answer for so long is lost."""


class NodesLost(PybrixError):
    """A node that the engine is spread over has left the Ray cluster."""


class RayNodes:
    """The nodes of one Ray cluster that an engine is spread over.

    It is spread over certain nodes, not over a number of them: one that is lost and comes back is another node, without
    the engine's part. On a busy machine it may be back before anybody has looked.

    Args:
        wanted: how many nodes the engine is spread over.
        command: prints the names of the nodes that are alive, a line a second, those to be preferred first.
    """

    def __init__(self, address: str, wanted: int, command: tuple[str, ...] | None = None) -> None:
        self._address = address
        self._wanted = wanted
        self._command = command or (sys.executable, "-m", "pybrix.simulator.raynodes", address)
        self._process: asyncio.subprocess.Process | None = None
        self._has_spoken = False
        self._mine: frozenset[str] = frozenset()

    async def wait_complete(self) -> None:
        """Return when the cluster has all its nodes. One that is not there (yet) is waited for."""
        while True:
            alive = await self._next()
            if alive is None:
                await self.stop()
                await asyncio.sleep(RETRY_S)
            elif len(alive) >= self._wanted:
                self._mine = frozenset(alive[: self._wanted])
                return

    async def watch(self) -> None:
        """Go on until a node is lost.

        Raises:
            NodesLost: always, in the end.
        """
        while (alive := await self._next()) is not None:
            if left := len(self._mine.difference(alive)):
                raise NodesLost(f"{left} of {self._wanted} nodes left the Ray cluster at {self._address}")
        raise NodesLost(f"the Ray cluster at {self._address} does not answer")

    async def stop(self) -> None:
        """End the process that watches."""
        process, self._process, self._has_spoken = self._process, None, False
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _next(self) -> list[str] | None:
        """Return which nodes there are now; None when nobody says."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        assert self._process.stdout is not None
        # The first look has to import Ray and to connect.
        with suppress(TimeoutError):
            async with asyncio.timeout(6 * SILENCE_S if not self._has_spoken else SILENCE_S):
                line = await self._process.stdout.readline()
                self._has_spoken = bool(line)
                return line.decode().split() if line else None
        return None
