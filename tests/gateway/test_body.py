"""What is read of a body."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pybrix.gateway.body import Body, parse_body
from pybrix.gateway.framework.refusal import Reason, Refusal


def parse(**fields: Any) -> Body:
    got = parse_body(msgspec.json.encode({"model": "m", **fields}))
    assert isinstance(got, Body)
    return got


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        pytest.param({}, None, id="none is set"),
        pytest.param({"max_tokens": 5}, 5, id="the old name"),
        pytest.param({"max_completion_tokens": 6, "max_tokens": 5}, 6, id="the new name wins"),
        pytest.param({"max_output_tokens": 7}, 7, id="the name of responses"),
        pytest.param({"max_tokens": 0}, 0, id="nothing shall be generated"),
        pytest.param({"max_tokens": "5"}, None, id="a text is the engine's to refuse"),
        pytest.param({"max_tokens": True}, None, id="a boolean is no number"),
        pytest.param({"max_tokens": -1}, None, id="less than nothing"),
    ],
)
def test_the_limit_of_the_output(fields: dict[str, Any], want: int | None) -> None:
    assert parse(**fields).output_limit == want


def test_the_chain_is_of_the_prompt_in_the_scope_of_the_model() -> None:
    messages = [{"role": "user", "content": "word " * 100}]
    chain = parse(messages=messages).hash_prompt()
    assert len(chain) == 4
    assert parse(messages=messages, temperature=1, stream=True).hash_prompt() == chain
    assert not set(parse(messages=messages, model="lora").hash_prompt()) & set(chain)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (b"", Reason.INVALID_JSON),
        (b"[]", Reason.INVALID_JSON),
        (b'{"model": "m", "messages": ' + b"[" * 100_000, Reason.INVALID_JSON),
        (b"{}", Reason.MODEL_MISSING),
        (b'{"model": null}', Reason.MODEL_MISSING),
        (b'{"model": ""}', Reason.MODEL_INVALID),
        (b'{"model": 1}', Reason.MODEL_INVALID),
    ],
)
def test_a_body_that_names_no_model_is_refused(text: bytes, want: Reason) -> None:
    got = parse_body(text)
    assert isinstance(got, Refusal)
    assert got.reason is want
