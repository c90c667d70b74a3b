"""A prompt as a chain of block hashes: two prompts share a prefix exactly as far as their chains are equal. Pure.

    text   = what the engine's prompt is made of, in its order: tools, then each message as `role`, `content`
    b_i    = bytes [i * n, (i + 1) * n) of the text; the incomplete last block has no hash
    h_i    = xxh3_64(b_i, seed = h_{i-1}),  h_{-1} = xxh3_64(scope)

Equal hashes mean equal blocks after equal prefixes, in one scope (model, or adapter: they share no KV cache). The hash
is the same in every process, so gateways can share what they know. It is no secret and no proof: whoever makes two
prompts collide gets a request routed to a pod that does not hold its prefix, which costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from xxhash import xxh3_64_intdigest

BLOCK_BYTES = 128
"""About 32 tokens: two blocks of 16, the usual size in engines."""

_AT_ONCE = 64


@lru_cache(maxsize=4 * _AT_ONCE)
def _cutter(block_bytes: int, count: int) -> Struct:
    """Return what cuts so many blocks off a text: in half the time of as many slices."""
    return Struct(f"{block_bytes}s" * count)


def chain_of(text: bytes, scope: str = "", block_bytes: int = BLOCK_BYTES) -> Sequence[int]:
    """Return the hash of every whole block, each made with the one before it; empty when the text is shorter than one.

    Args:
        text: the prompt as the engine sees it; see `pybrix.gateway.indexes.prompts`.
        scope: what must be equal for blocks to be equal at all: the model's key, or the adapter's.
    """
    digest = xxh3_64_intdigest
    hashed = digest(scope.encode())
    chain: list[int] = []
    start, left = 0, len(text) // block_bytes
    while left:
        count = min(left, _AT_ONCE)
        cut = _cutter(block_bytes, count).unpack_from(text, start)
        chain += [hashed := digest(block, hashed) for block in cut]
        start += count * block_bytes
        left -= count
    return chain
