"""Which member has which slots: consistent hashing whose balance is exact and whose movement is the least. Pure.

    assign(["a", "b"], 4096)                      # nothing known yet: by the hash ring
    assign(["a", "b", "c"], 4096, before)         # 1365 slots change their owner, and no more

A hash ring alone balances by chance, and a bound on its loads makes members that nobody touched exchange slots. So the
ring only says where a slot would like to be; how many each member has is a quota (all equal, within one slot), and a
slot that is below its owner's quota stays where it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

import xxhash

DEFAULT_SLOTS = 4096
DEFAULT_VIRTUAL_NODES = 100
MAX_SLOTS = 32768
"""Slots that a record may have: with a range for each it is 1 MB of JSON, and etcd takes 1.5 MB in one request."""


def assign(
    members: Iterable[str],
    slots: int,
    before: Mapping[int, str] | None = None,
    *,
    virtual_nodes: int = DEFAULT_VIRTUAL_NODES,
) -> dict[int, str]:
    """Return the owner of every slot in `range(slots)`; nothing at all without members.

    Every member gets `slots / members`, rounded down or up. Of what `before` says, only so much changes as that needs:
    the slots of members that left, and what members have beyond their quota.
    """
    names = sorted(set(members))
    if not names or slots < 1:
        return {}
    before = {slot: owner for slot, owner in (before or {}).items() if 0 <= slot < slots}
    held: dict[str, list[int]] = {name: [] for name in names}
    for slot in sorted(before):
        if before[slot] in held:
            held[before[slot]].append(slot)
    quotas = _quotas(held, slots)
    ring = _Ring(names, virtual_nodes)
    owners: dict[int, str] = {}
    for name, mine in held.items():
        excess = len(mine) - quotas[name]
        # What the ring would not have given to the member goes first.
        leaving = sorted(mine, key=lambda slot: ring.rank(slot, name), reverse=True)[:excess] if excess > 0 else []
        owners |= dict.fromkeys(set(mine).difference(leaving), name)
    room = {name: quotas[name] - min(len(held[name]), quotas[name]) for name in names}
    for slot in range(slots):
        if slot in owners:
            continue
        owner = next(name for name in ring.walk(slot) if room[name])
        room[owner] -= 1
        owners[slot] = owner
    return owners


def ranges(owners: Mapping[int, str]) -> dict[str, list[tuple[int, int]]]:
    """Return the slots of each owner as ranges, both ends included, in order.

    The last slot and slot 0 are no neighbours here: a reader that counts from start to end would lose a range that
    wraps around.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for slot in sorted(owners):
        mine = found.setdefault(owners[slot], [])
        if mine and mine[-1][1] == slot - 1:
            mine[-1] = (mine[-1][0], slot)
        else:
            mine.append((slot, slot))
    return found


def moved(before: Mapping[int, str], after: Mapping[int, str]) -> int:
    """Return how many slots have another owner than before; those that had none do not count."""
    return sum(1 for slot, owner in after.items() if before.get(slot, owner) != owner)


def _quotas(held: Mapping[str, Sequence[int]], slots: int) -> dict[str, int]:
    """Return how many slots each member shall have; one more is for those that have the most already."""
    least, rest = divmod(slots, len(held))
    ordered = sorted(held, key=lambda name: (-len(held[name]), name))
    return {name: least + (position < rest) for position, name in enumerate(ordered)}


class _Ring:
    """Points of the members on a circle of 64 bits."""

    def __init__(self, names: Sequence[str], virtual_nodes: int) -> None:
        points = sorted((_hash(f"{name}-vnode-{number}"), name) for name in names for number in range(virtual_nodes))
        self._at = [point for point, _ in points]
        self._names = [name for _, name in points]
        self._count = len(names)

    def walk(self, slot: int) -> Iterator[str]:
        """Yield every member, beginning with the one whose point follows the slot's."""
        start = bisect_right(self._at, _hash(str(slot)))
        seen: set[str] = set()
        for step in range(len(self._names)):
            name = self._names[(start + step) % len(self._names)]
            if name not in seen:
                seen.add(name)
                yield name
                if len(seen) == self._count:
                    return

    def rank(self, slot: int, name: str) -> int:
        """Return how many members the slot prefers to this one; those beyond the tenth do not matter."""
        for position, found in enumerate(self.walk(slot)):
            if found == name or position == 10:
                return position
        return self._count


def _hash(text: str) -> int:
    # As AIBrix's watcher places virtual nodes and slots.
    return xxhash.xxh64_intdigest(text.encode())
