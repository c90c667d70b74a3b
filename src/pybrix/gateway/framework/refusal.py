"""Every way in which the gateway says no: a closed list, and the one mapping to what a client and a dashboard see.

Status and `type` follow the OpenAI error object, the marker headers those that AIBrix clients know.
"""

from __future__ import annotations

import math
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
    FILTER_INVALID = "filter_invalid"
    NO_MATCHING_ENDPOINTS = "no_matching_endpoints"
    ENDPOINTS_FULL = "endpoints_full"
    USER_UNKNOWN = "user_unknown"
    USER_FORBIDDEN = "user_forbidden"
    RPM_EXCEEDED = "rpm_exceeded"
    TPM_EXCEEDED = "tpm_exceeded"
    MODEL_RPS_EXCEEDED = "model_rps_exceeded"


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
_ROUTING_HEADER = "x-error-routing"
_LIMITED = ("rate_limit_error", "rate_limit_exceeded")
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
    Reason.STRATEGY_UNKNOWN: _Form(400, _INVALID, "invalid_routing_strategy", "routing-strategy", _ROUTING_HEADER),
    Reason.NO_READY_ENDPOINTS: _Form(
        503,
        "overloaded_error",
        _code(replies.no_endpoints("")),
        "model",
        replies.NO_MODEL_BACKENDS_HEADER,
        replies.RETRY_AFTER_S,
    ),
    Reason.FILTER_INVALID: _Form(400, _INVALID, "invalid_external_filter", "external-filter", _ROUTING_HEADER),
    Reason.NO_MATCHING_ENDPOINTS: _Form(
        503,
        "overloaded_error",
        _code(replies.no_endpoints("")),
        "external-filter",
        _ROUTING_HEADER,
        replies.RETRY_AFTER_S,
    ),
    Reason.ENDPOINTS_FULL: _Form(
        503, "overloaded_error", "endpoints_full", None, _ROUTING_HEADER, replies.RETRY_AFTER_S
    ),
    Reason.USER_UNKNOWN: _Form(401, "authentication_error", "user_not_found", "user", "x-error-user"),
    Reason.USER_FORBIDDEN: _Form(403, "permission_error", "user_not_found", "user", "x-error-user"),
    Reason.RPM_EXCEEDED: _Form(429, *_LIMITED, None, "x-error-rpm-exceeded", 1),
    Reason.TPM_EXCEEDED: _Form(429, *_LIMITED, None, "x-error-tpm-exceeded", 1),
    Reason.MODEL_RPS_EXCEEDED: _Form(429, *_LIMITED, "model", "x-error-model-rps-exceeded", 1),
}


class Refusal(msgspec.Struct, frozen=True):
    """A reason and the sentence that tells this client what to do.

    `marker_value` is for the marker header, `retry_after_s` for `Retry-After` in place of the reason's own; `more` are
    further headers.
    """

    reason: Reason
    message: str
    marker_value: str = "true"
    retry_after_s: int | None = None
    more: tuple[tuple[str, str], ...] = ()

    @property
    def status(self) -> int:
        """HTTP status that the client sees."""
        return _FORMS[self.reason].status

    def headers(self) -> list[tuple[str, str]]:
        """Return the response headers, safe on the wire whatever the client sent."""
        form = _FORMS[self.reason]
        found = [("content-type", "application/json"), (form.marker, self.marker_value)]
        retry_after_s = form.retry_after_s if self.retry_after_s is None else self.retry_after_s
        if retry_after_s is not None:
            found.append(("retry-after", str(retry_after_s)))
        found.extend(self.more)
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


def strategy_invalid(strategy: str, why: str) -> Refusal:
    """Refuse what is neither a strategy nor a combination of some. `why` says what is wrong with it."""
    return Refusal(Reason.STRATEGY_UNKNOWN, f"incorrect routing strategy {_shown(strategy)}; {why}")


def filter_invalid(text: str, why: str) -> Refusal:
    """Refuse an `external-filter` that is no label selector."""
    return Refusal(Reason.FILTER_INVALID, f"external-filter {_shown(text)} is no label selector: {why}")


def no_matching_endpoints(model: str, text: str, detail: str) -> Refusal:
    """Refuse while no ready pod has the labels that the client wants. `detail` says why one of them has not."""
    said = f"no ready pods for routing: none of model {_shown(model)} matches external-filter {_shown(text)} ({detail})"
    return Refusal(Reason.NO_MATCHING_ENDPOINTS, said)


def endpoints_full(model: str, strategy: str, detail: str, retry_after_s: float) -> Refusal:
    """Refuse while every endpoint is full, as the strategy understands it. `detail` says how full one of them is."""
    said = f"every endpoint of model {_shown(model)} is full for strategy {_shown(strategy)} ({detail}); retry later"
    return Refusal(Reason.ENDPOINTS_FULL, said, retry_after_s=max(1, math.ceil(retry_after_s)))


def no_ready_endpoints(model: str, detail: str) -> Refusal:
    """Refuse while none of the model's pods is ready. `detail` says how its pods are."""
    return Refusal(Reason.NO_READY_ENDPOINTS, f"{_sentence(replies.no_endpoints(_shown(model)))} ({detail})")


def user_unknown(user: str, *, is_forbidden: bool) -> Refusal:
    """Refuse a user that nobody has created."""
    reason = Reason.USER_FORBIDDEN if is_forbidden else Reason.USER_UNKNOWN
    return Refusal(reason, f"user: {_shown(user)} does not exist")


def limit_exceeded(
    reason: Reason, who: str, limit: int, retry_after_s: float, more: Sequence[tuple[str, str]] = ()
) -> Refusal:
    """Refuse above a limit of a user, or of a model. The words are AIBrix's."""
    kind, word = _LIMITS[reason]
    message = f"{kind}: {_shown(who)} has exceeded {word}: {limit}"
    return Refusal(reason, message, retry_after_s=max(1, math.ceil(retry_after_s)), more=tuple(more))


_LIMITS = {
    Reason.RPM_EXCEEDED: ("user", "RPM"),
    Reason.TPM_EXCEEDED: ("user", "TPM"),
    Reason.MODEL_RPS_EXCEEDED: ("model", "RPS"),
}


def _sentence(body: replies.ErrorBody) -> str:
    # Envoy says the same when it answers without the brain.
    return str(body["error"]["message"])


def _shown(text: str) -> str:
    return text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "..."
