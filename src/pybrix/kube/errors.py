"""Answers of an API server that are not a success.

KubeError
├── Unreachable                 no answer: connection refused, reset, timed out
├── Malformed                   an answer that is not what was asked for
└── StatusError                 a metav1.Status with code >= 400
    ├── BadRequest (400)  ├── Unauthorized (401)  ├── Forbidden (403)   ├── NotFound (404)
    ├── Conflict (409)    │   └── AlreadyExists   ├── Gone (410)        ├── Invalid (422)
    └── TooManyRequests (429)
"""

from __future__ import annotations

from typing import Any

from pybrix.base.errors import PybrixError


class KubeError(PybrixError):
    """Base class of everything that can go wrong when talking to an API server."""


class Unreachable(KubeError):
    """The server gave no answer; whether a write took place is unknown."""


class Malformed(KubeError):
    """The answer is no JSON, or not of the shape of the kind."""


class StatusError(KubeError):
    """The server answered with a `Status` of failure.

    Args:
        code: HTTP status.
        reason: machine-readable word of the API, such as `NotFound`.
        message: sentence for people.
        details: `Status.details`, possibly with `causes` and `retryAfterSeconds`.
    """

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message or reason or f"HTTP {code}")
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}


class BadRequest(StatusError): ...


class Unauthorized(StatusError): ...


class Forbidden(StatusError): ...


class NotFound(StatusError): ...


class Conflict(StatusError):
    """The object changed since it was read: read again and plan again."""


class AlreadyExists(Conflict):
    """An object of that name is there."""


class Gone(StatusError):
    """The resourceVersion is too old: list again."""


class Invalid(StatusError): ...


class TooManyRequests(StatusError):
    @property
    def retry_after_s(self) -> float:
        return float(self.details.get("retryAfterSeconds", 1))


_BY_CODE: dict[int, type[StatusError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def status_error(code: int, status: dict[str, Any]) -> StatusError:
    """Return the exception for a decoded `Status` (or any JSON object in its place)."""
    reason = str(status.get("reason", ""))
    cls = AlreadyExists if reason == "AlreadyExists" else _BY_CODE.get(code, StatusError)
    details = status.get("details")
    return cls(code, reason, str(status.get("message", "")), details if isinstance(details, dict) else None)
