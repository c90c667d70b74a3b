"""Every way in which the gateway says no: a closed list, and the one mapping to what a client and a dashboard see.

Status and `type` follow the OpenAI error object, the marker headers those that AIBrix clients know.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from pybrix.envoy import replies

MAX_QUOTED_CHARS = 200


class Reason(StrEnum):
    """Why a request is refused. The value is the metric label and the log key."""

    MALFORMED_REQUEST = "malformed_request"
    BODY_TOO_LARGE = "body_too_large"
    INVALID_JSON = "invalid_json"
    MODEL_MISSING = "model_missing"
    MODEL_INVALID = "model_invalid"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_AMBIGUOUS = "model_ambiguous"
    STRATEGY_UNKNOWN = "strategy_unknown"
    NO_READY_ENDPOINTS = "no_ready_endpoints"


class _Form(NamedTuple):
    """How a reason looks on the wire. `marker` is a header name; its value is `true` unless the refusal has one."""

    status: int
    type: str
    code: str
    param: str | None
    marker: str
    retry_after_s: int | None = None


def _code(body: replies.ErrorBody) -> str:
    return str(body["error"]["code"])


_INVALID = "invalid_request_error"
# Where Envoy refuses the same by itself, the code is its own.
_FORMS: dict[Reason, _Form] = {
    Reason.MALFORMED_REQUEST: _Form(400, _INVALID, "malformed_request", None, replies.BAD_BODY_HEADER),
    Reason.BODY_TOO_LARGE: _Form(413, _INVALID, "request_too_large", None, replies.BAD_BODY_HEADER),
    Reason.INVALID_JSON: _Form(400, _INVALID, _code(replies.NOT_JSON), None, replies.BAD_BODY_HEADER),
    Reason.MODEL_MISSING: _Form(400, _INVALID, _code(replies.MODEL_MISSING), "model", replies.NO_MODEL_HEADER),
    Reason.MODEL_INVALID: _Form(400, _INVALID, _code(replies.MODEL_INVALID), "model", replies.NO_MODEL_HEADER),
    Reason.MODEL_UNKNOWN: _Form(
        404, _INVALID, _code(replies.unknown_model("", "", "")), "model", replies.NO_MODEL_BACKENDS_HEADER
    ),
    Reason.MODEL_AMBIGUOUS: _Form(
        400, _INVALID, _code(replies.ambiguous_model("", "", "")), "model", replies.AMBIGUOUS_MODEL_HEADER
    ),
    Reason.STRATEGY_UNKNOWN: _Form(400, _INVALID, "invalid_routing_strategy", "routing-strategy", "x-error-routing"),
    Reason.NO_READY_ENDPOINTS: _Form(
        503,
        "overloaded_error",
        _code(replies.no_endpoints("")),
        "model",
        replies.NO_MODEL_BACKENDS_HEADER,
        replies.RETRY_AFTER_S,
    ),
}


class Refusal(msgspec.Struct, frozen=True):
    """A reason and the sentence that tells this client what to do. `marker_value` is for the marker header."""

    reason: Reason
    message: str
    marker_value: str = "true"

    @property
    def status(self) -> int:
        """HTTP status that the client sees."""
        return _FORMS[self.reason].status

    def headers(self) -> list[tuple[str, str]]:
        """Return the response headers, safe on the wire whatever the client sent."""
        form = _FORMS[self.reason]
        found = [("content-type", "application/json"), (form.marker, self.marker_value)]
        if form.retry_after_s is not None:
            found.append(("retry-after", str(form.retry_after_s)))
        return found

    def body(self) -> bytes:
        """Return the OpenAI error object."""
        form = _FORMS[self.reason]
        return msgspec.json.encode(replies.error_body(self.message, form.type, form.code, form.param))


def malformed_request(what: str) -> Refusal:
    return Refusal(Reason.MALFORMED_REQUEST, f"malformed HTTP request: {what}")


def body_too_large(limit_bytes: int) -> Refusal:
    return Refusal(Reason.BODY_TOO_LARGE, f"the request body is larger than the limit of {limit_bytes} bytes")


def invalid_json(detail: str) -> Refusal:
    return Refusal(Reason.INVALID_JSON, f"{_sentence(replies.NOT_JSON)} ({detail})")


def model_missing() -> Refusal:
    return Refusal(Reason.MODEL_MISSING, _sentence(replies.MODEL_MISSING))


def model_invalid() -> Refusal:
    return Refusal(Reason.MODEL_INVALID, _sentence(replies.MODEL_INVALID))


def model_unknown(model: str, namespace: str, known: Sequence[str]) -> Refusal:
    """Refuse a model that no pod serves. `known` are the names that exist where the client looked."""
    where = f" in namespace {_shown(namespace)}" if namespace else ""
    said = replies.unknown_model(_shown(model), where, replies.listed_names(known))
    return Refusal(Reason.MODEL_UNKNOWN, _sentence(said), quote(model[:MAX_QUOTED_CHARS], safe="/:._-"))


def model_ambiguous(model: str, namespaces: Sequence[str], header: str) -> Refusal:
    """Refuse a name that several namespaces have, and tell how to choose."""
    said = replies.ambiguous_model(_shown(model), replies.listed_names(namespaces), header)
    return Refusal(Reason.MODEL_AMBIGUOUS, _sentence(said))


def strategy_unknown(strategy: str, known: Sequence[str]) -> Refusal:
    message = f"incorrect routing strategy {_shown(strategy)}; valid strategies: {replies.listed_names(known)}"
    return Refusal(Reason.STRATEGY_UNKNOWN, message)


def no_ready_endpoints(model: str, detail: str) -> Refusal:
    """Refuse while none of the model's pods is ready. `detail` says how its pods are."""
    return Refusal(Reason.NO_READY_ENDPOINTS, f"{_sentence(replies.no_endpoints(_shown(model)))} ({detail})")


def _sentence(body: replies.ErrorBody) -> str:
    # Envoy says the same when it answers without the brain.
    return str(body["error"]["message"])


def _shown(text: str) -> str:
    return text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "..."
