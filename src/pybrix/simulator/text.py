"""The simulator's answers: words drawn by hash, so that one question and seed always have one answer."""

from __future__ import annotations

from hashlib import blake2b

# 64 words: six bits of a digest pick one. No character here needs escaping in JSON.
_WORD_LIST = (
    "the a every one gateway engine request token prefix block cache batch model answer stream replica routes "
    "fills holds finds reads writes counts moves keeps returns shares meets waits drains scales serves quickly "
    "slowly often rarely first last again together near far in on with under before after small large warm "
    "cold idle busy quiet steady new old short long next spare early late"
)
_WORDS = _WORD_LIST.split()
_LONGEST_SENTENCE = 12


def write_answer(
    prompt: bytes, seed: int, max_tokens: int, *, min_tokens: int = 0, is_endless: bool = False
) -> tuple[str, bool]:
    """Return the answer to a prompt's tokens, and whether `max_tokens` cut it short (four characters are a token).

    Its own length is 24 to 87 tokens, drawn from the same hash, at least `min_tokens`, and rounded up to a whole word.
    `is_endless` (vLLM's `ignore_eos`) goes on to `max_tokens`.
    """
    root = blake2b(prompt, digest_size=32, key=seed.to_bytes(8, "little")).digest()
    length = max(24 + root[0] % 64, min_tokens)
    wanted = 4 * (max_tokens if is_endless else min(length, max_tokens))
    parts: list[str] = []
    size = words_in_sentence = counter = 0
    while size < wanted:
        for byte in blake2b(root + counter.to_bytes(4, "little"), digest_size=64).digest():
            word = _WORDS[byte & 63]
            if words_in_sentence == 0:
                word = word.capitalize()
            words_in_sentence += 1
            if words_in_sentence > 3 and (byte >> 6 == 0 or words_in_sentence == _LONGEST_SENTENCE):
                word += "."
                words_in_sentence = 0
            parts.append(word)
            size += len(word) + 1
        counter += 1
    text = " ".join(parts)
    if not is_endless:
        # An answer that ends by itself ends with a whole word.
        end = text.find(" ", wanted - 1)
        text = text[: end if end > 0 else len(text)].rstrip(".") + "."
    limit = 4 * max_tokens
    return text[:limit], len(text) > limit or is_endless


def cut_at_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Return the text before the first stop string in it, and that string; None when it has none."""
    found = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not found:
        return text, None
    at, stop = min(found, key=lambda pair: (pair[0], -len(pair[1])))
    return text[:at], stop
