"""Refusals that Envoy makes by itself while the brain is away: OpenAI's error object, and AIBrix's marker header.

Status, code, marker and words are those of the brain's own refusals, so that a client cannot tell who answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

RETRY_AFTER_S = 5
"""`Retry-After` of an answer that may well be another one soon."""
NAMES_SHOWN = 20
"""At most so many names are listed in an error."""
NO_MODEL_BACKENDS_HEADER = "x-error-no-model-backends"
"""Marker of an unknown model (its value is the model) and of one without ready endpoints (`true`)."""
NO_MODEL_HEADER = "x-error-no-model-in-request"
BAD_BODY_HEADER = "x-error-request-body-processing"
AMBIGUOUS_MODEL_HEADER = "x-error-model-ambiguous"

ErrorBody = dict[str, Any]


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> ErrorBody:
    """Return `{"error": {...}}` as OpenAI's API spells it; `kind` is the field `type`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def invalid(message: str, code: str, param: str | None = None) -> ErrorBody:
    """Return the error object of a request that cannot succeed as it is."""
    return error_body(message, "invalid_request_error", code, param)


def model_entry(model: str, parent: str = "") -> dict[str, Any]:
    """Return the object of a model in OpenAI's API; an adapter's names its base model as `parent`, as engines do."""
    entry = {"id": model, "object": "model", "created": 0, "owned_by": "aibrix"}
    return {**entry, "parent": parent} if parent else entry


def listed_names(names: Iterable[str]) -> str:
    """Return the first names in the alphabet, and how many more there are; `none` when there are none."""
    known = sorted(names)
    rest = len(known) - NAMES_SHOWN
    return (", ".join(known[:NAMES_SHOWN]) or "none") + (f" and {rest} more" if rest > 0 else "")


def unknown_model(model: str, where: str, names: str) -> ErrorBody:
    """Say that there is no such model (404); `where` is empty or ` in namespace NS`, `names` a `listed_names`."""
    return invalid(f"model {model} does not exist{where}; available models: {names}", "model_not_found", "model")


def ambiguous_model(model: str, namespaces: str, header: str) -> ErrorBody:
    """Say that several namespaces have the model (400), and how to choose one."""
    return invalid(
        f"model {model} exists in several namespaces ({namespaces}): "
        f"say which one with the header {header} or the path /namespaces/NAMESPACE/v1/...",
        "model_ambiguous",
        "model",
    )


def no_endpoints(model: str) -> ErrorBody:
    """Say that no endpoint of the model is ready (503); goes with `Retry-After`."""
    return error_body(
        f"model {model} has no ready endpoints; retry shortly", "overloaded_error", "service_unavailable", "model"
    )


def _unauthenticated(message: str) -> ErrorBody:
    return error_body(message, "authentication_error", "invalid_api_key", "api_key")


KEY_MISSING = _unauthenticated("you didn't provide an API key; send one in the header Authorization: Bearer KEY")
KEY_WRONG = _unauthenticated("Incorrect API key provided")
NOT_JSON = invalid("the request body is not a JSON object", "invalid_json")
MODEL_MISSING = invalid("you must provide a model parameter", "model_missing", "model")
MODEL_INVALID = invalid("the model parameter must be a non-empty string", "model_invalid", "model")
