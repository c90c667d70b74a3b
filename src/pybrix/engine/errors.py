"""The error envelope that OpenAI clients understand: `{"error": {"message", "type", "code", "param"}}`."""

from __future__ import annotations

import msgspec

_TYPE_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong. `code` is a word of the server's own, or vLLM's repetition of the status as a number."""

    message: str
    type: str = "api_error"
    code: str | int | None = None
    param: str | None = None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    error: ErrorBody


def error_type(status: int) -> str:
    """Return the `type` that goes with an HTTP status; `api_error` for all that have none of their own."""
    return _TYPE_BY_STATUS.get(status, "api_error")


def render_error(status: int, message: str, *, code: str | None = None, param: str | None = None) -> bytes:
    """Render the JSON body of an error answer."""
    return msgspec.json.encode(ErrorEnvelope(ErrorBody(message, error_type(status), code, param)))


def parse_error_message(body: bytes) -> str:
    """Return the message of an error answer, whatever its shape.

    Nested or flat (older engines), SGLang's `error_message`, FastAPI's `detail`, or plain text.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace").strip()
    if isinstance(value, dict):
        error = value.get("error", value)
        if isinstance(error, str):
            return error
        if isinstance(error, dict):
            for key in ("message", "error_message", "detail"):
                if isinstance(error.get(key), str):
                    return str(error[key])
    return body.decode(errors="replace").strip()
