"""Which endpoint holds which prompt blocks, as far as this gateway has sent them there. Pure.

    table[h]     = bit set of the endpoints that hold block h (a Python int, one bit an endpoint)
    match(c, e)  = number of leading blocks of chain c whose bit sets all have e's bit

A walk along the chain narrows one bit set, so it costs the same for one holder and for hundreds. An endpoint forgets
its least recently used blocks beyond its capacity, as the engine's own cache does. Recency is kept by generations: a
block that is used moves to the young generation; when capacity is reached, the oldest of the old one go first, and once
that is empty the young become the old, but for the chain that was used last. That is least-recently-used to within one
generation, and needs 2 dict entries a pair instead of a linked list. Blocks of a chain age tail first, because a tail
without its head matches nothing.

An endpoint that left is out of every answer at once; its entries are cleaned up in slices (`collect`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pybrix.gateway.framework.types import EndpointId

DEFAULT_CAPACITY_BLOCKS = 16_384
"""Blocks of an endpoint whose KV capacity is not known: 2 MiB of prompts, about 500,000 tokens."""


class _Holdings:
    """The blocks of one endpoint, by generation."""

    __slots__ = ("bit", "capacity", "endpoint", "old", "oldest_first", "young")

    def __init__(self, endpoint: EndpointId, bit: int, capacity: int) -> None:
        self.endpoint = endpoint
        self.bit = bit
        self.capacity = capacity
        self.young: dict[int, None] = {}
        self.old: dict[int, None] = {}
        self.oldest_first: Iterator[int] = iter(())

    def __len__(self) -> int:
        return len(self.young) + len(self.old)


class _Bits(dict[EndpointId, int]):
    def __missing__(self, _: EndpointId) -> int:
        return 0


class PrefixIndex:
    """Blocks by endpoint and endpoints by block. Memory is bounded by the sum of the endpoints' capacities."""

    def __init__(self, default_capacity_blocks: int = DEFAULT_CAPACITY_BLOCKS) -> None:
        self._default_capacity = default_capacity_blocks
        self._table: dict[int, int] = {}
        self._holdings: dict[EndpointId, _Holdings] = {}
        self._bit_of = _Bits()
        self._free_bits: list[int] = []
        self._bits = 0
        self._leaving: list[_Holdings] = []
        self.journal: list[tuple[EndpointId, list[int]]] | None = None
        """Where insertions are written down for other gateways: the blocks that were new or had become old, the chain's
        tail first. None: nowhere. Who set it takes them out."""

    def __len__(self) -> int:
        """Return the number of (block, endpoint) pairs, without those of endpoints that left."""
        return sum(map(len, self._holdings.values()))

    @property
    def block_count(self) -> int:
        """Number of distinct blocks, with those of endpoints that left and are not yet cleaned up."""
        return len(self._table)

    def match(self, chain: Sequence[int], endpoints: Sequence[EndpointId]) -> list[int]:
        """Return for each endpoint, in their order, how many leading blocks of the chain it holds."""
        held_by = self._table.get
        # Most prompts begin like no other, and most endpoints do not hold even the first block: lost together, at 0.
        alive = held_by(chain[0], 0) if chain else 0
        if not alive:
            return [0] * len(endpoints)
        bits = list(map(self._bit_of.__getitem__, endpoints))
        asked = 0
        for bit in bits:
            asked |= bit
        alive &= asked
        lost: dict[int, int] = {}  # bit -> length
        length, before = 0, alive
        holders: int | None
        for holders in map(held_by, chain):
            # Those who hold a block mostly hold the next one.
            if holders != before:
                still = alive & holders if holders else 0
                gone = alive ^ still
                while gone:
                    bit = gone & -gone
                    lost[bit] = length
                    gone ^= bit
                alive = still
                if not alive:
                    break
                before = holders or 0
            length += 1
        return [length if bit & alive else lost.get(bit, 0) for bit in bits]

    def insert(self, endpoint: EndpointId, chain: Sequence[int]) -> None:
        """Note that the endpoint holds the blocks of the chain, which makes them its most recently used ones."""
        held = self._holdings.get(endpoint)
        if held is None:
            held = self._join(endpoint, self._default_capacity)
        bit, young, old = held.bit, held.young, held.old
        table = self._table
        table_get = table.get
        # A chain longer than the capacity: only its head can stay.
        head = chain if len(chain) <= held.capacity else chain[: held.capacity]
        fresh = [block for block in reversed(head) if block not in young]
        for block in fresh:
            young[block] = None
            if block in old:
                del old[block]
            else:
                table[block] = table_get(block, 0) | bit
        if len(held) - held.capacity > len(old):
            self._turn(held)
            # What grows old with the others is the oldest of them, perhaps: not if it has just been used.
            fresh = list(reversed(head))
            for block in fresh:
                del held.old[block]
                held.young[block] = None
        self._evict(held)
        if fresh and self.journal is not None:
            self.journal.append((endpoint, fresh))

    def absorb(self, endpoint: EndpointId, blocks: Sequence[int]) -> None:
        """Note blocks that another gateway wrote down, in its order; they are written down nowhere else."""
        journal, self.journal = self.journal, None
        self.insert(endpoint, blocks[::-1])
        self.journal = journal

    def blocks(self, endpoint: EndpointId, limit: int) -> list[int]:
        """Return the most recently used blocks of an endpoint, the oldest of them first; `absorb` takes them."""
        held = self._holdings.get(endpoint)
        if held is None or limit <= 0:
            return []
        young = list(held.young)
        return (list(held.old) + young if len(young) < limit else young)[-limit:]

    def capacities(self) -> list[tuple[EndpointId, int]]:
        """Return the endpoints that are known, with how many blocks each can hold."""
        return [(endpoint, held.capacity) for endpoint, held in self._holdings.items()]

    def size(self, endpoint: EndpointId, capacity_blocks: int) -> None:
        """Set how many blocks the endpoint can hold: its KV capacity. More than that are forgotten at once."""
        if capacity_blocks < 1:
            raise ValueError(f"capacity_blocks must be at least 1, not {capacity_blocks}")
        held = self._holdings.get(endpoint)
        if held is None:
            self._join(endpoint, capacity_blocks)
        elif held.capacity != capacity_blocks:
            held.capacity = capacity_blocks
            self._evict(held)

    def remove(self, endpoint: EndpointId) -> None:
        """Forget the endpoint. It is out of every answer now; `collect` frees the memory."""
        held = self._holdings.pop(endpoint, None)
        if held is not None:
            del self._bit_of[endpoint]
            self._leaving.append(held)

    def retain(self, live: set[EndpointId]) -> None:
        """Remove every endpoint that is not live."""
        for endpoint in [known for known in self._holdings if known not in live]:
            self.remove(endpoint)

    def collect(self, limit: int = 10_000) -> bool:
        """Free up to `limit` entries of endpoints that left; say whether some are still to be freed."""
        while self._leaving and limit > 0:
            held = self._leaving[-1]
            for generation in (held.young, held.old):
                while generation and limit > 0:
                    self._drop(generation.popitem()[0], held.bit)
                    limit -= 1
            if not len(held):
                self._leaving.pop()
                self._free_bits.append(held.bit)
        return bool(self._leaving)

    def room(self, endpoint: EndpointId) -> int:
        """Return how many more blocks the endpoint can hold before it forgets some."""
        found = self._holdings.get(endpoint)
        return found.capacity - len(found) if found is not None else self._default_capacity

    def held(self, endpoint: EndpointId) -> int:
        """Return how many blocks the endpoint is known to hold."""
        found = self._holdings.get(endpoint)
        return len(found) if found is not None else 0

    def _join(self, endpoint: EndpointId, capacity: int) -> _Holdings:
        # A bit is used again only when no entry of its last endpoint is left.
        if self._free_bits:
            bit = self._free_bits.pop()
        else:
            bit = 1 << self._bits
            self._bits += 1
        held = self._holdings[endpoint] = _Holdings(endpoint, bit, capacity)
        self._bit_of[endpoint] = bit
        return held

    def _evict(self, held: _Holdings) -> None:
        excess = len(held) - held.capacity
        while excess > 0:
            for block in held.oldest_first:
                if block in held.old:
                    del held.old[block]
                    self._drop(block, held.bit)
                    excess -= 1
                    if not excess:
                        return
            self._turn(held)

    def _turn(self, held: _Holdings) -> None:
        """Forget the old blocks of an endpoint, and let the young ones grow old."""
        for block in held.old:
            self._drop(block, held.bit)
        held.old, held.young = held.young, {}
        held.oldest_first = iter(list(held.old))

    def _drop(self, block: int, bit: int) -> None:
        left = self._table[block] & ~bit
        if left:
            self._table[block] = left
        else:
            del self._table[block]
