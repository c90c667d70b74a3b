"""The closed list of refusals, on the wire."""

from __future__ import annotations

import msgspec
import pytest

from pybrix.envoy import replies
from pybrix.gateway.framework import refusal
from pybrix.gateway.framework.refusal import Reason, Refusal


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_whole_form(reason: Reason) -> None:
    said = Refusal(reason, "because")
    error = msgspec.json.decode(said.body())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == "because"
    assert 400 <= said.status < 600
    markers = [name for name, _ in said.headers() if name.startswith("x-error-")]
    assert len(markers) == 1
    assert ("retry-after" in dict(said.headers())) == (said.status in {429, 503})


@pytest.mark.parametrize(
    ("said", "fallback"),
    [
        pytest.param(refusal.invalid_json(""), replies.NOT_JSON, id="no JSON"),
        pytest.param(refusal.model_missing(), replies.MODEL_MISSING, id="no model"),
        pytest.param(refusal.model_invalid(), replies.MODEL_INVALID, id="a model that is no name"),
        pytest.param(refusal.model_unknown("m", "", ["a"]), replies.unknown_model("m", "", "a"), id="unknown"),
        pytest.param(refusal.model_ambiguous("m", ["a"], "h"), replies.ambiguous_model("m", "a", "h"), id="ambiguous"),
        pytest.param(refusal.no_ready_endpoints("m", ""), replies.no_endpoints("m"), id="no endpoints"),
    ],
)
def test_envoy_says_the_same_without_the_brain(said: Refusal, fallback: replies.ErrorBody) -> None:
    got, want = msgspec.json.decode(said.body())["error"], fallback["error"]
    assert {**got, "message": ""} == {**want, "message": ""}
    assert got["message"].startswith(want["message"])


def test_lists_and_quotes_are_bounded() -> None:
    said = refusal.model_unknown("x" * 100_000, "", [f"model-{n:04}" for n in range(500)])
    assert len(said.body()) < 1500
    assert "and 480 more" in said.message
    assert len(said.marker_value) < 400


def test_what_a_client_names_cannot_break_a_header() -> None:
    said = refusal.model_unknown("a\r\nset-cookie: x\u00e9", "", [])
    assert said.marker_value == "a%0D%0Aset-cookie:%20x%C3%A9"
