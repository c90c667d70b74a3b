"""Messages between gateways of one machine: datagrams to every socket of a directory, snapshots in files beside.

The directory is for one user alone. A socket is named by chance, not by its instance, so that instances of one name
find out; one that nobody listens on is removed by whoever notices. A receiver that does not keep up loses messages, and
mends that by snapshots.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from pybrix.base.errors import UsageError
from pybrix.gateway.statesync.transport import MAX_NAMES, Received, Snapshot, Unreachable
from pybrix.gateway.statesync.wire import MAX_MESSAGE_BYTES, MAX_SNAPSHOT_BYTES

SNAPSHOT_TTL_S = 900.0
MAX_SOCKET_PATH_BYTES = 107
MAX_PEERS = 256
_MAX_WAITING = 1024
_BUFFER_BYTES = 1024 * 1024
_parts = msgspec.msgpack.Decoder(list[bytes])


def check_peers_dir(path: Path) -> None:
    """Make the directory, or make sure that it is this user's alone.

    Raises:
        UsageError: it is not, or its path is too long for sockets.
    """
    longest = path / ("f" * 16 + ".sock")
    if (length := len(os.fsencode(longest))) > MAX_SOCKET_PATH_BYTES:
        raise UsageError(
            f"statesync.peersDir: {longest} is too long for a Unix socket: {length} bytes, "
            f"at most {MAX_SOCKET_PATH_BYTES}",
            "choose a shorter path",
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as err:
        raise UsageError(f"statesync.peersDir: {path}: {err.strerror}") from err
    if found.st_mode & 0o077 or found.st_uid != os.getuid():
        raise UsageError(f"statesync.peersDir: {path} is open to other users", f"chmod 700 {path}")


class LocalPeers:
    """Implements `Transport`."""

    kind = "peers"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / f"{secrets.token_hex(8)}.sock"
        self._socket: socket.socket | None = None
        self._arrived: deque[bytes] = deque(maxlen=_MAX_WAITING)
        self._something = asyncio.Event()
        self.operations = 0
        """Datagrams sent."""

    async def open(self) -> None:
        if self._socket is not None and self._path.exists():
            return
        self._close()
        try:
            check_peers_dir(self._directory)
            found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                found.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            found.bind(str(self._path))
        except (OSError, UsageError) as err:
            raise Unreachable(f"{self._directory}: {err}") from err
        self._socket = found
        asyncio.get_running_loop().add_reader(found.fileno(), self._read)

    def _read(self) -> None:
        assert self._socket is not None
        try:
            for _ in range(64):
                self._arrived.append(self._socket.recv(MAX_MESSAGE_BYTES + 1))
        except (BlockingIOError, InterruptedError):
            pass
        finally:
            if self._arrived:
                self._something.set()

    async def publish(self, messages: Sequence[bytes]) -> None:
        if self._socket is None or not self._path.exists():
            raise Unreachable(f"{self._directory}: the socket is gone")
        others = [each for each in list(self._directory.glob("*.sock"))[:MAX_PEERS] if each != self._path]
        for path in others:
            for data in messages:
                self.operations += 1
                try:
                    self._socket.sendto(data, str(path))
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)
                    break
                except OSError:
                    # It does not keep up, or is gone: it will notice by the next message's number.
                    break

    async def receive(self, wait_s: float) -> Sequence[Received]:
        if self._socket is None:
            raise Unreachable(f"{self._directory}: not open")
        if not self._arrived and wait_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._something.wait()
        found = [Received(data, 0.0) for data in self._arrived]
        self._arrived.clear()
        self._something.clear()
        return found

    async def put_snapshot(self, name: str, parts: Sequence[bytes]) -> None:
        try:
            await asyncio.to_thread(self._write, name, msgspec.msgpack.encode(list(parts)))
        except OSError as err:
            raise Unreachable(f"{self._directory}: {err}") from err

    def _write(self, name: str, text: bytes) -> None:
        path = self._directory / f"{name}.snapshot"
        beside = path.with_name(f"{self._path.stem}.new")
        with open(beside, "wb", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
            file.write(text)
        os.replace(beside, path)
        for old in self._directory.glob("*.snapshot"):
            if _age_s(old) > SNAPSHOT_TTL_S:
                old.unlink(missing_ok=True)

    async def get_snapshot(self, name: str) -> Snapshot | None:
        if "/" in name:
            return None
        return await asyncio.to_thread(self._load, self._directory / f"{name}.snapshot")

    def _load(self, path: Path) -> Snapshot | None:
        try:
            if path.stat().st_size > 2 * MAX_SNAPSHOT_BYTES:
                return None
            age_s, text = _age_s(path), path.read_bytes()
            return Snapshot(_parts.decode(text)[:4], age_s)
        except (OSError, msgspec.DecodeError):
            return None

    async def names(self) -> Sequence[str]:
        found = sorted(self._directory.glob("*.snapshot"), key=_age_s)
        return [path.stem for path in found if _age_s(path) <= SNAPSHOT_TTL_S][:MAX_NAMES]

    async def aclose(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._path.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    """Return how long ago a file was written; forever ago where there is none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return float("inf")
