"""KV cache blocks with prefix reuse, as vLLM V1 keeps them: chained hashes, reference counts, LRU eviction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

BlockHash = bytes
_HASH_BYTES = 8


def root_hash(model: str, salt: str = "") -> BlockHash:
    """Return the parent of every first block; other models and cache salts share nothing."""
    return blake2b(f"{model}\0{salt}".encode(errors="surrogatepass"), digest_size=_HASH_BYTES).digest()


def next_hash(parent: BlockHash, block: bytes) -> BlockHash:
    """Return the hash of a full block that follows `parent`: it stands for all tokens up to its end."""
    return blake2b(parent + block, digest_size=_HASH_BYTES).digest()


class BlockPool:
    """Hand out blocks and find them again by hash while nobody else has needed their place."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._references = [0] * num_blocks
        self._hash_of: list[BlockHash | None] = [None] * num_blocks
        self._by_hash: dict[BlockHash, int] = {}
        # Free blocks, the one to reuse next first. A free block keeps its content until it is handed out.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def usage_ratio(self) -> float:
        """Share of blocks that requests hold, 0 to 1; cached blocks that nobody holds count as free."""
        return 1.0 - len(self._free) / self.num_blocks

    def find_prefix(self, hashes: Iterable[BlockHash]) -> list[int]:
        """Return the cached blocks of the longest known prefix."""
        found = []
        for block_hash in hashes:
            block = self._by_hash.get(block_hash)
            if block is None:
                break
            found.append(block)
        return found

    def allocate(self, num_new: int, *, reused: Sequence[int] = ()) -> list[int] | None:
        """Take `reused` blocks and `num_new` others; None, and nothing taken, when there are not enough."""
        num_reused_free = sum(not self._references[block] for block in reused)
        if num_new > len(self._free) - num_reused_free:
            return None
        for block in reused:
            if not self._references[block]:
                del self._free[block]
            self._references[block] += 1
        taken = list(reused)
        for _ in range(num_new):
            block, _none = self._free.popitem(last=False)
            self._forget(block)
            self._references[block] = 1
            taken.append(block)
        return taken

    def register(self, block: int, block_hash: BlockHash) -> None:
        """Note what a full block holds; the first block with a content stays the one that is found."""
        if self._hash_of[block] is None and block_hash not in self._by_hash:
            self._hash_of[block] = block_hash
            self._by_hash[block_hash] = block

    def release(self, blocks: Sequence[int]) -> None:
        """Give back a sequence's blocks. Its last block is evicted first, since prefixes are worth more."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if not self._references[block]:
                self._free[block] = None

    def _forget(self, block: int) -> None:
        block_hash = self._hash_of[block]
        if block_hash is not None:
            del self._by_hash[block_hash]
            self._hash_of[block] = None
