"""What of a request's body the engine makes its prompt of, in the prompt's order. Pure.

Chat templates put tools and system text first, then the messages with their roles. The JSON of each is taken as the
client wrote it: a conversation that grows by one message keeps its bytes up to there, so nothing has to be unescaped or
rendered to find what two prompts share. The cost is that clients that write the same conversation in another way
(another order of keys, other escapes) share nothing.
"""

from __future__ import annotations

import msgspec

_NOTHING = msgspec.Raw()


class PromptParts(msgspec.Struct, gc=False):
    """The fields of OpenAI's chat, completions, responses and embeddings bodies, and of Anthropic's messages."""

    tools: msgspec.Raw = _NOTHING
    system: msgspec.Raw = _NOTHING
    instructions: msgspec.Raw = _NOTHING
    messages: msgspec.Raw = _NOTHING
    prompt: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING


def prompt_text(parts: PromptParts) -> bytes:
    """Return what `pybrix.gateway.indexes.blocks.chain_of` cuts into blocks. Not what a person or an engine reads."""
    found = (parts.tools, parts.system, parts.instructions, parts.messages, parts.prompt, parts.input)
    texts = [bytes(part) for part in found if part]
    return texts[0] if len(texts) == 1 else b"\n".join(texts)
