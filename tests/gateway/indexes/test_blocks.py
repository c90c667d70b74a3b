from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.indexes.blocks import chain_of
from pybrix.gateway.indexes.prompts import PromptParts, prompt_text

SYSTEM = {"role": "system", "content": "You answer in rhymes. " * 20}
QUESTION = {"role": "user", "content": "What is a gateway? " * 20}
ANSWER = {"role": "assistant", "content": "It leads the way, by night and day. " * 20}


def text_of(**body: Any) -> bytes:
    return prompt_text(msgspec.json.decode(json.dumps(body).encode(), type=PromptParts))


def shared(a: bytes, b: bytes, block_bytes: int = 16) -> int:
    """Count the leading blocks that both texts have."""
    pairs = zip(chain_of(a, "m", block_bytes), chain_of(b, "m", block_bytes), strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)) // block_bytes)


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200), st.integers(1, 32))
def test_chains_share_exactly_the_blocks_of_the_common_prefix(head: bytes, a: bytes, b: bytes, size: int) -> None:
    first, second = head + a, head + b
    common = next(
        (n for n, (x, y) in enumerate(zip(first, second, strict=False)) if x != y), min(map(len, (first, second)))
    )
    assert shared(first, second, size) == common // size


def test_an_incomplete_last_block_has_no_hash() -> None:
    assert len(chain_of(b"x" * 31, "", 16)) == 1
    assert len(chain_of(b"x" * 15, "", 16)) == 0


def test_equal_prompts_of_two_models_share_nothing() -> None:
    assert not set(chain_of(b"x" * 64, "ns/a", 16)) & set(chain_of(b"x" * 64, "ns/b", 16))


def test_hashes_are_the_same_in_every_process() -> None:
    # Gateways exchange them: another value here breaks the state of a fleet that is being upgraded.
    assert chain_of(b"0123456789abcdef" * 2, "default/llama", 16) == [3543543458561818757, 15274398106988907574]


def test_a_conversation_that_grows_keeps_its_blocks() -> None:
    before, after = text_of(messages=[SYSTEM, QUESTION]), text_of(messages=[SYSTEM, QUESTION, ANSWER, QUESTION])
    assert shared(before, after) == (len(before) - 1) // 16


def test_the_role_is_part_of_the_prompt() -> None:
    one, two = text_of(messages=[SYSTEM]), text_of(messages=[{**SYSTEM, "role": "user"}])
    assert shared(one, two) <= 1


def test_what_is_not_prompt_changes_nothing() -> None:
    assert text_of(messages=[QUESTION], stream=True, user="a", model="x") == text_of(messages=[QUESTION], seed=1)


def test_tools_come_first() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert text_of(messages=[QUESTION], tools=tools).startswith(b'[{"type"')
    assert shared(text_of(messages=[QUESTION], tools=tools), text_of(messages=[QUESTION])) == 0


def test_completions_responses_and_anthropic_bodies_have_prompts() -> None:
    assert b"gateway" in text_of(prompt="What is a gateway?")
    assert b"gateway" in text_of(input="What is a gateway?", instructions="Be short.")
    assert text_of(system="Be short.", messages=[QUESTION]).startswith(b'"Be short."')
