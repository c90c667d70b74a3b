"""What the gateway reads of a request's body: one pass that builds nothing of the prompt. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pybrix.gateway.framework import refusal
from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.indexes.blocks import chain_of
from pybrix.gateway.indexes.prompts import PromptParts, prompt_text


class Body(PromptParts, gc=False):
    """A request's fields. What is not named here is skipped."""

    # Any: a wrong type is the engine's to refuse, but for the model, whose refusal is our own.
    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None

    @property
    def output_limit(self) -> int | None:
        """How many tokens the client wants at most, by whichever name it says so; None when it sets no limit."""
        for limit in (self.max_completion_tokens, self.max_tokens, self.max_output_tokens):
            if type(limit) is int and limit >= 0:
                return limit
        return None

    def hash_prompt(self) -> Sequence[int]:
        """Return the chain of the prompt's blocks, in the scope of the model that the body names.

        One endpoint may serve models of one namespace only, so that their names are scope enough.
        """
        return chain_of(prompt_text(self), self.model)


_DECODER = msgspec.json.Decoder(Body)


def parse_body(text: bytes) -> Body | Refusal:
    """Return the body, with a model that is a non-empty string, or why it cannot be."""
    try:
        body = _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as err:
        return refusal.invalid_json(str(err))
    except RecursionError:
        return refusal.invalid_json("it is nested too deeply")
    name = body.model
    if name is None:
        return refusal.model_missing()
    if not isinstance(name, str) or not name:
        return refusal.model_invalid()
    return body
