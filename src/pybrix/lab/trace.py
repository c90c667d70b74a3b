"""What a trace is: requests with sizes, times and the identity of their prompts' blocks. No text is kept or made."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pybrix.gateway.indexes.blocks import BLOCK_BYTES

BYTES_PER_TOKEN = 4
CHAIN_TOKENS = BLOCK_BYTES // BYTES_PER_TOKEN
"""Tokens of one block of the gateway's prompt chains."""
NO_REQUEST = -1


class TraceRequest(msgspec.Struct, frozen=True, gc=False):
    """One request.

    An id in `hash_ids` stands for the prompt up to the end of its block: equal ids are equal prefixes. The last block
    may be incomplete. `output_ids` go on where the prompt's complete blocks end, with the answer in them: what the
    engine holds once it has answered.
    """

    at_s: float
    """When it is sent, from the beginning of the trace."""
    prompt_tokens: int
    output_tokens: int
    hash_ids: Sequence[int]
    output_ids: Sequence[int] = ()
    session: str = ""
    user: str = ""
    follows: int = NO_REQUEST
    """Position of the request whose answer is awaited before this one is sent; `at_s` does not count then."""
    gap_s: float = 0.0
    """Time between that answer's end and this request."""


class Trace(msgspec.Struct, frozen=True):
    """Requests in the order of their times. One that follows another comes after it.

    `block_tokens` is what one id stands for. Requests with the very same time are spread by up to `spread_s` in a
    replay, since some traces have coarse clocks.
    """

    name: str
    requests: Sequence[TraceRequest]
    block_tokens: int
    spread_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """Time of the last request that follows no other."""
        return max((r.at_s for r in self.requests if r.follows == NO_REQUEST), default=0.0)

    @property
    def reuse_ratio(self) -> float:
        """Share of prompt tokens in blocks that an earlier prompt had: what a cache of any size would save at most."""
        seen: set[int] = set()
        known = total = 0
        for request in self.requests:
            total += request.prompt_tokens
            for place, block in enumerate(request.hash_ids):
                if block in seen:
                    known += min(self.block_tokens, request.prompt_tokens - place * self.block_tokens)
                else:
                    seen.add(block)
        return known / total if total else 0.0


def head(trace: Trace, duration_s: float) -> Trace:
    """Return the part of a trace that begins within so many seconds, with what follows those requests."""
    kept: dict[int, int] = {}
    requests: list[TraceRequest] = []
    for place, request in enumerate(trace.requests):
        if request.follows == NO_REQUEST:
            if request.at_s > duration_s:
                continue
        elif request.follows in kept:
            request = msgspec.structs.replace(request, follows=kept[request.follows])
        else:
            continue
        kept[place] = len(requests)
        requests.append(request)
    return msgspec.structs.replace(trace, requests=requests)


def chain_of(request: TraceRequest, block_tokens: int) -> Sequence[int]:
    """Return the gateway's chain of a prompt: one number for each whole `CHAIN_TOKENS`, equal for equal prefixes."""
    length = request.prompt_tokens // CHAIN_TOKENS
    if block_tokens == CHAIN_TOKENS:
        return request.hash_ids[:length]
    if block_tokens < CHAIN_TOKENS:
        per_link = CHAIN_TOKENS // block_tokens
        return request.hash_ids[per_link - 1 :: per_link][:length]
    per_block = block_tokens // CHAIN_TOKENS
    chain = [link for block in request.hash_ids for link in range(block * per_block, (block + 1) * per_block)]
    del chain[length:]
    return chain


def is_block_size(block_tokens: int) -> bool:
    """Say whether blocks of a trace fit those of the gateway's chains."""
    return block_tokens > 0 and (block_tokens % CHAIN_TOKENS == 0 or CHAIN_TOKENS % block_tokens == 0)
