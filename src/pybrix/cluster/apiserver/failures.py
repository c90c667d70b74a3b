"""The server's refusals: `kube.errors` exceptions with the words and details of a Kubernetes API server. Pure.

The same exceptions reach callers in the process and, rendered by `status_body`, clients over HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pybrix.kube.errors import Gone, StatusError, status_error


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with a field. `reason` is a `FieldValue*` word of the API."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


def invalid_value(path: str, value: Any, detail: str) -> Cause:
    return Cause(path, f"Invalid value: {_print(value)}: {detail}")


def required(path: str, detail: str = "") -> Cause:
    return Cause(path, f"Required value{': ' + detail if detail else ''}", "FieldValueRequired")


def not_supported(path: str, value: Any, supported: Sequence[str]) -> Cause:
    listed = ", ".join(f'"{word}"' for word in supported)
    return Cause(path, f"Unsupported value: {_print(value)}: supported values: {listed}", "FieldValueNotSupported")


def duplicate(path: str, value: Any) -> Cause:
    return Cause(path, f"Duplicate value: {_print(value)}", "FieldValueDuplicate")


def forbidden_field(path: str, detail: str) -> Cause:
    return Cause(path, f"Forbidden: {detail}", "FieldValueForbidden")


def _print(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text if len(text) <= 200 else text[:200] + "..."


def qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def failure(code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> StatusError:
    return status_error(code, {"reason": reason, "message": message, "details": details or {}})


def not_found(plural: str, group: str, name: str) -> StatusError:
    details = {"name": name, "group": group, "kind": plural}
    return failure(404, "NotFound", f'{qualified(plural, group)} "{name}" not found', details)


def no_such_path() -> StatusError:
    return failure(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> StatusError:
    details = {"name": name, "group": group, "kind": plural}
    return failure(409, "AlreadyExists", f'{qualified(plural, group)} "{name}" already exists', details)


def conflict(plural: str, group: str, name: str, why: str, causes: Sequence[dict[str, str]] = ()) -> StatusError:
    details: dict[str, Any] = {"name": name, "group": group, "kind": plural}
    if causes:
        details["causes"] = list(causes)
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return failure(409, "Conflict", message, details)


def modified(plural: str, group: str, name: str) -> StatusError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(plural, group, name, why)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> StatusError:
    details = {
        "name": name,
        "group": group,
        "kind": kind,
        "causes": [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes],
    }
    listed = [f"{c.field}: {c.message}" for c in causes]
    text = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    return failure(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {text}', details)


def bad_request(message: str) -> StatusError:
    return failure(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str, causes: Sequence[dict[str, str]] = ()) -> StatusError:
    details: dict[str, Any] = {"name": name, "group": group, "kind": plural}
    if causes:
        details["causes"] = list(causes)
    return failure(403, "Forbidden", f'{qualified(plural, group)} "{name}" is forbidden: {why}', details)


def method_not_allowed(method: str) -> StatusError:
    return failure(405, "MethodNotAllowed", f"the server does not allow {method} on the requested resource")


def expired(message: str) -> StatusError:
    return failure(410, "Expired", message)


class ListExpired(Gone):
    """The pages of a list show a state that is no longer known; `token` continues with what is there now."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(410, "Expired", message)
        self.token = token


def unsupported_media_type(got: str, accepted: Sequence[str]) -> StatusError:
    message = f"the body of the request was in an unknown format {got!r} - accepted media types include: " + ", ".join(
        accepted
    )
    return failure(415, "UnsupportedMediaType", message)


def too_large(limit_bytes: int) -> StatusError:
    return failure(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit_bytes}")


def revision_too_large(asked: int, current: int) -> StatusError:
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    return failure(504, "Timeout", f"Too large resource version: {asked}, current: {current}", details)


def status_body(err: StatusError) -> dict[str, Any]:
    """Return the `metav1.Status` of a refusal."""
    details = {k: v for k, v in err.details.items() if v not in ("", None)}
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {"continue": err.token} if isinstance(err, ListExpired) else {},
        "status": "Failure",
        "message": err.message,
        "reason": err.reason,
    }
    # Clients in Go look into the details of every NotFound without asking whether there are any (kubectl debug).
    if details or err.code == 404:
        body["details"] = details
    body["code"] = err.code
    return body
