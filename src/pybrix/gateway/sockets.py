"""Unix sockets of a brain: one brain holds a run directory, and takes over what a killed one left there."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pybrix.base.errors import UsageError
from pybrix.gateway.errors import BrainRunning

MAX_SOCKET_PATH_BYTES = 107
"""`sun_path` of unix(7), less the final zero."""


class RunDirectory:
    """The lock on a run directory, held until `close` or the end of the process (the kernel lets go of it then).

    Raises:
        BrainRunning: a living brain holds it.
        UsageError: others may write to the directory, or socket paths in it would be too long.
    """

    def __init__(self, path: Path, longest_name: str) -> None:
        self.path = path
        longest = path / longest_name
        if (length := len(os.fsencode(longest))) > MAX_SOCKET_PATH_BYTES:
            raise UsageError(
                f"{longest} is too long for a Unix socket: {length} bytes, at most {MAX_SOCKET_PATH_BYTES}",
                "pass a shorter --run-dir",
            )
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            # Whoever can open the decision socket can steer requests; the mode is what keeps pods out.
            raise UsageError(f"{path} is open to other users (mode {mode:04o})", f"chmod 700 {path}")
        self._lock = os.open(path / "brain.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            written = os.pread(self._lock, 20, 0).strip()
            os.close(self._lock)
            raise BrainRunning(path, int(written) if written.isdigit() else 0) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._lock)

    def claim(self, socket_path: Path) -> None:
        """Remove the socket that an earlier brain left; the lock says that it is dead."""
        socket_path.unlink(missing_ok=True)


async def listen(run: RunDirectory, path: Path, connect: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """Listen on a socket of the run directory."""
    run.claim(path)
    return await asyncio.get_running_loop().create_unix_server(connect, str(path), backlog=1024)


async def stop_listening(server: asyncio.Server, path: Path) -> None:
    """Accept nothing more: a connection attempt is refused at once, which is what Envoy falls back on fastest."""
    server.close()
    path.unlink(missing_ok=True)
