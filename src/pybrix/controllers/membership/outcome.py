"""What shall be published, and what came of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pybrix.controllers.membership.errors import StoreError
from pybrix.controllers.membership.keys import Keys
from pybrix.controllers.membership.records import Member, Record
from pybrix.controllers.membership.ring import DEFAULT_SLOTS, DEFAULT_VIRTUAL_NODES
from pybrix.controllers.membership.store import Server


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be published, where, and in whose name."""

    server: Server
    keys: Keys
    owner: str
    members: tuple[Member, ...]
    ttl_s: int
    slots: int = DEFAULT_SLOTS
    virtual_nodes: int = DEFAULT_VIRTUAL_NODES
    least_version: int = 0
    """The version that was told to people last."""

    @property
    def place(self) -> str:
        """Return which server and key these are, whoever asks and however it is connected to."""
        server = self.server
        database = f" database {server.database}" if server.database else ""
        master = f" master {server.master_name}" if server.master_name else ""
        return f"{server}{database}{master}: {self.keys.record}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. `error` None: `record` is what the server has now."""

    record: Record | None = None
    error: StoreError | None = None
    latency_s: float | None = None
    """How long the server took for its first answer; None when it gave none."""
    is_changed: bool = False
