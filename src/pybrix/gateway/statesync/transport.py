"""What carries messages and snapshots between gateways: what it must do, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pybrix.base.errors import PybrixError

MAX_NAMES = 64
"""Instances whose snapshots are looked at by one that joins."""


class Unreachable(PybrixError):
    """Nothing can be sent or received now."""


class Received(NamedTuple):
    """A message, and how long ago it was sent. Ages are by the transport's own clock, never by a sender's."""

    data: bytes
    age_s: float


class Snapshot(NamedTuple):
    """Parts of a snapshot, and how long ago they were written."""

    parts: Sequence[bytes]
    age_s: float


class Transport(Protocol):
    """Delivers each message to everyone, the sender perhaps included; it may lose, repeat and reorder them.

    Every method raises `Unreachable`, within a bounded time, when it cannot do what it should.
    """

    @property
    def kind(self) -> str:
        """What it is called, in a word."""
        ...

    async def open(self) -> None:
        """Connect, or make sure that there is still a connection; called again after every `Unreachable`."""
        ...

    async def publish(self, messages: Sequence[bytes]) -> None: ...

    async def receive(self, wait_s: float) -> Sequence[Received]:
        """Return what came since the last call, oldest first; wait so long for it when nothing did."""
        ...

    async def put_snapshot(self, name: str, parts: Sequence[bytes]) -> None:
        """Put the snapshot of an instance in place of its last one."""
        ...

    async def get_snapshot(self, name: str) -> Snapshot | None: ...

    async def names(self) -> Sequence[str]:
        """Return instances of which there are snapshots, the newest first, at most `MAX_NAMES`."""
        ...

    async def aclose(self) -> None: ...
