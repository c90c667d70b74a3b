"""Requests and answers that the benchmarks of the gateway send: built once, before anything is timed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

MODEL = "bench"
CHUNKS = 129
"""Events of a streamed answer."""
_USAGE = {"prompt_tokens": 512, "completion_tokens": CHUNKS, "total_tokens": 512 + CHUNKS}

SHORT_END = b'"stream":false}'
"""How every request for an answer at once ends."""
ANSWER_END = msgspec.json.encode(_USAGE) + b"}"
"""How every answer that is no stream ends."""


def request_of(prompt: str, *, is_stream: bool, think_ms: int = 0) -> bytes:
    """Return a chat request over HTTP/1.1, head and body.

    Args:
        prompt: the only message.
        is_stream: whether the answer is a stream of events.
        think_ms: the answer's tokens, of which an engine stand-in makes one a millisecond before it answers; 0 for an
            answer at once.
    """
    fields: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": is_stream}
    if think_ms:
        fields["max_tokens"] = think_ms
    body = msgspec.json.encode(fields)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"user-agent: OpenAI/Python 2.8\r\naccept: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answer() -> bytes:
    """Return an answer of about 0.5 KB, head and body."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "word " * 60}}
    body = msgspec.json.encode({"id": "x", "object": "chat.completion", "choices": [choice], "usage": _USAGE})
    return f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def events() -> list[bytes]:
    """Return a streamed answer's events, each as a chunk: one a token, then usage and the end."""
    delta = {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    told = {"id": "chatcmpl-1234567890", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    token = b"data: " + msgspec.json.encode({**told, "choices": [delta]}) + b"\n\n"
    usage = b"data: " + msgspec.json.encode({**told, "choices": [], "usage": _USAGE}) + b"\n\ndata: [DONE]\n\n"
    return [b"%x\r\n%b\r\n" % (len(event), event) for event in [token] * (CHUNKS - 1) + [usage]]


def length_of(head: bytes) -> int | None:
    """Return the content length that a message's head tells, None when it tells none."""
    length = head.lower().partition(b"content-length:")[2]
    return int(length.split(b"\r\n", 1)[0]) if length else None


def prompts(count: int, size_bytes: int, *, prefixes: int, seed: int = 1) -> Sequence[str]:
    """Return different prompts of about one size, the first half of each one of few prefixes, as of system prompts.

    Words of different lengths in lines, so that there is something to escape.
    """
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(2_000)]

    def text(size: int) -> str:
        lines, total = [], 0
        while total < size:
            lines.append(" ".join(chance.choices(words, k=12)))
            total += len(lines[-1]) + 1
        return "\n".join(lines)[:size]

    heads = [text(size_bytes // 2) for _ in range(prefixes)]
    return [f"{heads[number % prefixes]}\n{text(size_bytes - size_bytes // 2)}" for number in range(count)]
