"""Which artifacts leave when a new one needs room. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from pybrix.sidecar.artifacts.errors import DiskFull


@dataclass(frozen=True, slots=True)
class Held:
    """An artifact on the disk, or a part of one that nobody fetches now."""

    key: str
    size_bytes: int
    last_used_s: float
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to fill."""

    budget_bytes: int
    """That all artifacts may have together."""
    free_bytes: int
    """That the disk has left, less what must stay free."""
    pledged_bytes: int = 0
    """That downloads under way will have in all; it counts against the budget."""
    unwritten_bytes: int = 0
    """That they have still to write; it counts against the disk."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """Remove this one."""

    held: Held
    why: str


def plan_eviction(held: Iterable[Held], in_use: Set[str], needed_bytes: int, room: Room) -> tuple[Eviction, ...]:
    """Return what to remove so that `needed_bytes` more fit: parts first, then what was not used for longest.

    Nothing is removed for something that would not fit anyway.

    Args:
        held: everything there is.
        in_use: keys of what is loaded, or about to be; it stays.
        needed_bytes: beyond everything that `room` counts.
        room: how much there is.

    Raises:
        DiskFull: not even without all that is not in use.
    """
    everything = tuple(held)
    used_bytes = sum(one.size_bytes for one in everything) + room.pledged_bytes
    over_budget = used_bytes + needed_bytes - room.budget_bytes
    over_disk = needed_bytes + room.unwritten_bytes - room.free_bytes
    excess = max(over_budget, over_disk)
    if excess <= 0:
        return ()
    limit = "the disk budget" if over_budget >= over_disk else "the disk"
    candidates = sorted(
        (one for one in everything if one.key not in in_use),
        key=lambda one: (not one.is_partial, one.last_used_s, one.key),
    )
    evictions: list[Eviction] = []
    freed_bytes = 0
    for one in candidates:
        if freed_bytes >= excess:
            break
        evictions.append(Eviction(one, f"{needed_bytes} bytes are needed and {limit} lacks {excess}"))
        freed_bytes += one.size_bytes
    if freed_bytes < excess:
        raise DiskFull(
            f"{needed_bytes} bytes are needed and {limit} lacks {excess}; "
            f"only {freed_bytes} are held by what is not loaded"
        )
    return tuple(evictions)
