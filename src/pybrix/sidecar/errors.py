"""What the sidecar refuses by itself; `artifacts.errors` and `engine.adapters` have the rest."""

from __future__ import annotations

from pybrix.base.errors import PybrixError


class RequestError(PybrixError):
    """An answer that is an error.

    Args:
        status: the HTTP status.
        reason: one word for it.
        message: what is wrong, without secrets.
        param: the field that is wrong, None when it is no field.
    """

    def __init__(self, status: int, reason: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.param = param
