"""Engines that the lab knows: how fast they are and what they hold. Stated once, for every strategy and every trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine. A step that prefills `p` tokens and decodes `d` sequences of `c` tokens together takes

    step_s + d * per_sequence_s + c * per_context_token_s + p / prefill_tokens_per_s     (seconds)
    """

    prefill_tokens_per_s: float
    step_s: float
    per_sequence_s: float
    per_context_token_s: float
    kv_capacity_tokens: int
    max_num_seqs: int = 256
    """Sequences in one batch; 256."""
    max_num_batched_tokens: int = 8192
    """Tokens that one step computes: prompts are prefilled in chunks of so many; 8192."""
    block_tokens: int = 16
    """Tokens of one KV block; 16."""


PROFILES: Mapping[str, EngineProfile] = {
    # Qwen3-32B in bf16 on two H100 80 GB (tensor parallel 2).
    # Prefill: llm-d measures 15.9k to 20.5k tokens/s, one chunk of 8192 in 0.40 s at best; 18k is the middle.
    # A decode step reads 65.5 GB of weights at 2 x 3.35 TB/s, of which about 70 % is reached: 14 ms.
    # A token's keys and values: 64 layers x 8 heads x 128 x 2 x 2 bytes = 262,144 bytes, read in 56 ns at that speed.
    # KV capacity: 0.9 x 160 GB - 65.5 GB of weights - about 7 GB of activations = 71.3 GB = 272,000 tokens.
    "h100-32b": EngineProfile(
        prefill_tokens_per_s=18_000.0,
        step_s=0.014,
        per_sequence_s=0.0001,
        per_context_token_s=56e-9,
        kv_capacity_tokens=272_000,
    ),
    # What SMG's mock worker has: an 8B model on one small accelerator.
    "mock-8b": EngineProfile(
        prefill_tokens_per_s=8_000.0,
        step_s=0.006,
        per_sequence_s=0.00035,
        per_context_token_s=0.0,
        kv_capacity_tokens=524_288,
        max_num_batched_tokens=2048,
    ),
}
DEFAULT_PROFILE = "h100-32b"
