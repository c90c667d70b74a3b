"""What one gateway says of its own numbers, as the others keep it: registers that only it writes. Pure.

    version  = (incarnation, sequence): both only grow, and only the writer issues them
    cell     = (version, values)
    absent k = (base, nothing): `base` is the version of the last message that named every key there was
    merge    = for every key the greater of two cells, for `base` the greater of two

Two states are functions from all keys to cells, and merging takes the greater one key by key: it commutes, associates
and is idempotent whatever arrives in whatever order, and however often. A message is such a state itself; one that
names only what changed has the lowest base there is.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Version = tuple[int, int]
Values = tuple[float, ...]
Cell = tuple[Version, Values]

NEVER: Version = (-1, -1)
"""Before every version that is ever issued."""
_NOTHING: Values = ()
K = TypeVar("K", bound=Hashable)


class Registers(Generic[K]):
    """Cells by key.

    Args:
        base: keys without a cell are known to have had nothing then; `NEVER` for a state that only says what changed.
    """

    __slots__ = ("base", "cells")

    def __init__(self, base: Version = NEVER, cells: dict[K, Cell] | None = None) -> None:
        self.base = base
        self.cells: dict[K, Cell] = {} if cells is None else cells

    def merge(self, other: Registers[K]) -> set[K]:
        """Take in another state; return the keys whose values are others now. `other` is only read."""
        changed = set()
        cells, base = self.cells, self.base
        for key, cell in other.cells.items():
            # What this state says of the key now: its cell, or that there was nothing.
            known = cells.get(key)
            if known is None:
                known = (base, _NOTHING)
            if cell > known:
                if cell[1] != known[1]:
                    changed.add(key)
                cells[key] = cell
        if other.base > base:
            self.base = other.base
            nothing: Cell = (other.base, _NOTHING)
            for key in [key for key, cell in cells.items() if cell <= nothing]:
                if cells.pop(key)[1]:
                    changed.add(key)
        return changed

    def values(self, key: K) -> Values | None:
        """Return what the writer said of a key; None for nothing."""
        cell = self.cells.get(key)
        return cell[1] or None if cell is not None else None

    def trim(self, limit: int) -> set[K]:
        """Drop the cells that were written longest ago, beyond a number; return their keys.

        A bound against a writer that names ever new keys: what is merged after that may bring them back.
        """
        excess = len(self.cells) - limit
        if excess <= 0:
            return set()
        oldest = sorted(self.cells, key=lambda key: self.cells[key][0])[:excess]
        for key in oldest:
            del self.cells[key]
        return set(oldest)

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self.cells))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Registers):
            return NotImplemented
        return self.base == other.base and self.cells == other.cells

    __hash__ = None  # type: ignore[assignment]
