"""What is published of a cache: its members, their slots, and the version of both. Pure.

The text is the one that AIBrix's watcher writes and its engine-side library reads:

    {"nodes":[{"name":"c-0","addr":"10.0.0.7","port":9600,"slots":[{"start":0,"end":4095}]}],"version":3}

with one field more at the top, which that library passes over: `owner`, the object that publishes it. Two objects that
were given one key must not overwrite each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pybrix.controllers.membership.ring import DEFAULT_VIRTUAL_NODES, MAX_SLOTS, assign, ranges

_MAX_VERSION = 2**53
"""What every JSON reader can tell from the next number."""


class Slots(msgspec.Struct, frozen=True):
    """A range of slots, both ends included."""

    start: int
    end: int


class Node(msgspec.Struct, frozen=True):
    """A member and its slots. Readers pass the other fields on as they are, so there are no more of them."""

    name: str
    addr: str
    port: int
    slots: tuple[Slots, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """The membership of one cache; `version` grows by one with every change."""

    nodes: tuple[Node, ...] = ()
    version: int = 0
    owner: str = ""

    @property
    def owners(self) -> dict[int, str]:
        """Return who has each slot; of two that claim one, as a faulty writer may say, the first."""
        found: dict[int, str] = {}
        for node in self.nodes:
            for piece in node.slots:
                for slot in range(piece.start, piece.end + 1):
                    found.setdefault(slot, node.name)
        return found


class Member(msgspec.Struct, frozen=True, order=True):
    """A cache server that is ready, and where it answers."""

    name: str
    addr: str
    port: int


def encode(record: Record) -> bytes:
    return msgspec.json.encode(record)


def decode(content: bytes) -> Record | None:
    """Return the record; None for something that is none, such as another program's value."""
    try:
        record = msgspec.json.decode(content, type=Record)
    except msgspec.MsgspecError:
        return None
    pieces = [piece for node in record.nodes for piece in node.slots]
    is_sound = all(0 <= p.start <= p.end < MAX_SLOTS for p in pieces) and 0 <= record.version < _MAX_VERSION
    return record if is_sound else None


def next_record(
    stored: Record | None,
    members: Iterable[Member],
    *,
    owner: str,
    slots: int,
    known: Record | None = None,
    least_version: int = 0,
    virtual_nodes: int = DEFAULT_VIRTUAL_NODES,
) -> Record:
    """Return what has to be stored; `stored` itself when nothing has changed.

    Args:
        stored: what the server has; None when it has nothing, or nothing of use.
        known: what was published last, for a server that has lost it: its slots are not dealt anew.
        least_version: the version that was told to people; a later one is greater.
    """
    present = sorted(members)
    base = stored if stored is not None and stored.nodes else known
    owners = assign(
        (member.name for member in present),
        slots,
        base.owners if base is not None else None,
        virtual_nodes=virtual_nodes,
    )
    pieces = ranges(owners)
    nodes = tuple(
        Node(m.name, m.addr, m.port, tuple(Slots(start, end) for start, end in pieces.get(m.name, ()))) for m in present
    )
    if stored is not None and stored.nodes == nodes and stored.owner == owner and stored.version >= least_version:
        return stored
    versions = (stored.version if stored is not None else 0, known.version if known is not None else 0, least_version)
    return Record(nodes, max(versions) + 1, owner)


def slot_counts(record: Record) -> Mapping[str, int]:
    """Return how many slots each member has."""
    return {node.name: sum(piece.end - piece.start + 1 for piece in node.slots) for node in record.nodes}
