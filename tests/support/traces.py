"""Builders of small traces for the lab's tests."""

from __future__ import annotations

import json
import random
from typing import Any

from pybrix.lab.trace import Trace, TraceRequest


def make_trace(*requests: TraceRequest, block_tokens: int = 32) -> Trace:
    return Trace("test", requests, block_tokens)


def simple(
    at_s: float, prompt_tokens: int, output_tokens: int = 1, *, first_id: int = 0, **fields: Any
) -> TraceRequest:
    """Return a request whose blocks of 32 tokens are numbered from `first_id`; equal numbers are equal blocks."""
    blocks = range(first_id, first_id + -(-prompt_tokens // 32))
    return TraceRequest(at_s, prompt_tokens, output_tokens, blocks, **fields)


def mooncake_text(requests: int = 60, seed: int = 1) -> str:
    """Return a trace in Mooncake's format: a few long prefixes that many share."""
    chance = random.Random(seed)
    lines = []
    for number in range(requests):
        shared = chance.randrange(4)
        whole = chance.randrange(3, 9)
        ids = [shared * 100 + place for place in range(3)] + [10_000 + 100 * number + place for place in range(whole)]
        row = {
            "timestamp": 3000 * (number // 3),
            "input_length": 512 * (len(ids) - 1) + chance.randrange(1, 512),
            "output_length": chance.randrange(1, 400),
            "hash_ids": ids,
        }
        lines.append(json.dumps(row))
    return "\n".join(lines) + "\n"
