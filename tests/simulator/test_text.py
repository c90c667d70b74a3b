"""The simulator's tokenizer and its answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.simulator import tokens
from pybrix.simulator.text import cut_at_stop, write_answer

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(texts)
def test_a_text_survives_its_tokens_and_their_ids(text: str) -> None:
    encoded = tokens.encode(text)
    assert tokens.decode(encoded) == text
    assert tokens.from_ids(tokens.to_ids(encoded)) == encoded
    assert tokens.count(encoded) == len(tokens.to_ids(encoded))


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    for bad in (-1, 2**32):
        with pytest.raises(ValueError, match="out of vocabulary"):
            tokens.from_ids([1, bad])


def test_a_conversation_that_goes_on_begins_with_what_was_there() -> None:
    answer = "An answer of odd length."
    before = tokens.encode_chat([("user", "hello")]) + tokens.encode(answer)
    after = tokens.encode_chat([("user", "hello"), ("assistant", answer), ("user", "more")])
    assert after.startswith(before)


@given(st.binary(max_size=40), st.integers(0, 2**64 - 1), st.integers(1, 200), st.integers(0, 120), st.booleans())
def test_an_answer_keeps_its_limits(
    prompt: bytes, seed: int, max_tokens: int, min_tokens: int, is_endless: bool
) -> None:
    text, is_cut = write_answer(prompt, seed, max_tokens, min_tokens=min_tokens, is_endless=is_endless)
    num_tokens = tokens.count(tokens.encode(text))
    assert text.isascii()
    assert min(min_tokens, max_tokens) <= num_tokens <= max_tokens
    assert (text, is_cut) == write_answer(prompt, seed, max_tokens, min_tokens=min_tokens, is_endless=is_endless)
    assert not is_cut or num_tokens == max_tokens
    assert is_cut or text.endswith(".")


def test_other_questions_and_other_seeds_have_other_answers() -> None:
    answers = {write_answer(f"question {n}".encode(), seed, 100)[0] for n in range(50) for seed in range(4)}
    assert len(answers) == 200


@pytest.mark.parametrize(
    ("stops", "want"),
    [
        pytest.param([], ("one two three", None), id="none"),
        pytest.param(["two"], ("one ", "two"), id="one"),
        pytest.param(["three", "two"], ("one ", "two"), id="the first in the text counts, not in the list"),
        pytest.param(["t", "two"], ("one ", "two"), id="the longer one of two at a place"),
        pytest.param(["", "x"], ("one two three", None), id="an empty one stops nothing"),
    ],
)
def test_a_text_is_cut_at_its_first_stop_string(stops: list[str], want: tuple[str, str | None]) -> None:
    assert cut_at_stop("one two three", stops) == want
