"""The KV cache of a simulated engine, in tokens: blocks that are in use, and those kept until room is needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class KvCache:
    """Blocks of a trace with reference counts; those that nobody uses go, least recently used first.

    What a sequence holds that is in no complete block (decoded tokens, ends of prompts, second copies) counts as tokens
    without identity.
    """

    __slots__ = ("_idle", "_idle_tokens", "_in_use", "capacity", "used")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        """Tokens that running sequences hold."""
        self._in_use: dict[int, list[int]] = {}
        """By block: references, tokens."""
        self._idle: OrderedDict[int, int] = OrderedDict()
        """Tokens by block, least recently used first."""
        self._idle_tokens = 0

    @property
    def cached_tokens(self) -> int:
        """Tokens in blocks that nobody uses at the moment."""
        return self._idle_tokens

    def find(self, blocks: Sequence[int]) -> int:
        """Return how many leading blocks are there."""
        in_use, idle = self._in_use, self._idle
        for length, block in enumerate(blocks):
            if block not in in_use and block not in idle:
                return length
        return len(blocks)

    def admit(self, reused: Sequence[int], tokens: int) -> bool:
        """Take blocks that are there, and room for so many tokens more; False, and nothing taken, without room."""
        idle = self._idle
        woken = sum(idle.get(block, 0) for block in reused)
        if self.used + woken + tokens > self.capacity:
            return False
        for block in reused:
            size = idle.pop(block, 0)
            if size:
                self._in_use[block] = [1, size]
            else:
                self._in_use[block][0] += 1
        self._idle_tokens -= woken
        self.used += woken
        self.grow(tokens)
        return True

    def grow(self, tokens: int) -> None:
        """Take room that is known to be there, evicting what nobody uses."""
        self.used += tokens
        excess = self.used + self._idle_tokens - self.capacity
        while excess > 0:
            _, size = self._idle.popitem(last=False)
            self._idle_tokens -= size
            excess -= size

    def shrink(self, tokens: int) -> None:
        """Give back tokens without identity."""
        self.used -= tokens

    def name(self, block: int, tokens: int) -> bool:
        """Make tokens that are held a block that can be found; False when there is one, and they stay a copy."""
        if block in self._in_use or block in self._idle:
            return False
        self._in_use[block] = [1, tokens]
        return True

    def release(self, blocks: Sequence[int]) -> None:
        """Give back a sequence's blocks. Its last one is evicted first, since prefixes are worth more."""
        for block in reversed(blocks):
            entry = self._in_use[block]
            entry[0] -= 1
            if not entry[0]:
                del self._in_use[block]
                self._idle[block] = entry[1]
                self._idle_tokens += entry[1]
                self.used -= entry[1]
