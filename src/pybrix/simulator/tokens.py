"""The simulator's tokenizer: four bytes of UTF-8 are one token.

Four characters a token is what real tokenizers come to on English. A token's id is its four bytes as a little-endian
number, the last token of a text padded with zero bytes; so ids need no vocabulary, text and ids turn into each other,
and equal beginnings have equal tokens, which is all that prefix caching asks.
A sequence of tokens is kept as `bytes`, four per token.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence

TOKEN_BYTES = 4
MAX_TOKEN_ID = 2**32 - 1


def encode(text: str) -> bytes:
    """Return the tokens of a text."""
    data = text.encode("utf-8", errors="surrogatepass")
    return data + bytes(-len(data) % TOKEN_BYTES)


def decode(tokens: bytes) -> str:
    """Return the text of tokens; padding disappears, so zero bytes inside a text do too."""
    return tokens.replace(b"\0", b"").decode(errors="replace")


def count(tokens: bytes) -> int:
    """Return how many tokens there are."""
    return len(tokens) // TOKEN_BYTES


def to_ids(tokens: bytes) -> list[int]:
    """Return the token ids."""
    ids = array("I", tokens)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tolist()


def from_ids(ids: Sequence[int]) -> bytes:
    """Return the tokens with these ids.

    Raises:
        ValueError: an id is outside [0, 2**32).
    """
    try:
        tokens = array("I", ids)
    except OverflowError:
        bad = next(i for i in ids if not 0 <= i <= MAX_TOKEN_ID)
        raise ValueError(f"Token id {bad} is out of vocabulary") from None
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens.tobytes()


def encode_chat(messages: Iterable[tuple[str, str]]) -> bytes:
    """Render a conversation of (role, text) as tokens, ending where the assistant is to go on.

    Each part starts at a token of its own, so that an answer and the same answer in the next turn's history are the
    same tokens, as with the chat templates of real models.
    """
    parts = []
    for role, text in messages:
        parts += [encode(f"<|{role}|>"), encode(text), b"<|/>"]
    parts.append(encode("<|assistant|>"))
    return b"".join(parts)
