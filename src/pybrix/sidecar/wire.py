"""Requests and answers of AIBrix's runtime API. Unknown fields are errors, as they are there. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.names import is_adapter_name
from pybrix.sidecar.errors import RequestError

_KEY_CONFIG = "api-key"


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all requests."""


class DelegatedLoad(Request):
    """Fetch an artifact and have the engine load it."""

    lora_name: str
    artifact_url: str
    credentials_secret: str | None = None
    """Name of a mounted Secret."""
    credentials: dict[str, Any] | None = None
    additional_config: dict[str, Any] | None = None
    local_dir: str | None = None
    """Ignored, as AIBrix does."""

    @property
    def api_key(self) -> str:
        """The engine's key, empty when none is given."""
        key = (self.additional_config or {}).get(_KEY_CONFIG)
        return key if isinstance(key, str) else ""

    def parse_credentials(self) -> Credentials:
        """Return the credentials of the request itself; what is no text counts as its JSON."""
        data = self.credentials or {}
        return Credentials(
            {
                name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
                for name, value in data.items()
                if value is not None
            }
        )


class DirectLoad(Request):
    """Have the engine load what it finds itself."""

    lora_name: str
    lora_path: str


class Unload(Request):
    """Have the engine forget an adapter."""

    lora_name: str
    lora_int_id: int | None = None
    cleanup_local: bool = True


class ModelDownload(Request):
    """Bring a model to the disk."""

    model_uri: str
    local_dir: str | None = None
    model_name: str | None = None
    download_extra_config: dict[str, Any] | None = None


class ModelListing(Request):
    """Ask which models are there."""

    local_dir: str | None = None


class ModelStatusCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a model's download stands. The last three are pybrix's own."""

    model_name: str
    model_root_path: str
    source: str
    """`huggingface`, `s3`, `tos`, `gcs`, `http`, or `unknown`."""
    model_status: str
    """`not_exist`, `downloading`, `downloaded`, `no_operation` (it failed), or `unknown` (not made here)."""
    error: str | None = None
    held_bytes: int | None = None
    total_bytes: int | None = None


class ModelCards(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelStatusCard]


class LoadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    status: str = "success"
    message: str
    local_path: str
    engine_response: str


class UnloadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    status: str = "success"
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """AIBrix's two shapes of an error in one: `{"error": text}`, and the flat one of OpenAI servers."""

    object: str = "error"
    error: str
    message: str
    type: str
    param: str | None = None
    code: int


Decoded = TypeVar("Decoded", bound=Request)


def parse_load(body: bytes) -> DelegatedLoad | DirectLoad:
    """Return what is to be loaded: `lora_path` makes it direct.

    Raises:
        RequestError: 400 for no JSON, 422 for other fields than these.
    """
    fields = parse_fields(body)
    request: DelegatedLoad | DirectLoad
    request = convert(fields, DirectLoad) if "lora_path" in fields else convert(fields, DelegatedLoad)
    check_name(request.lora_name)
    return request


def parse_unload(body: bytes) -> Unload:
    """Return what is to be unloaded.

    Raises:
        RequestError: as `parse_load`.
    """
    request = convert(parse_fields(body), Unload)
    check_name(request.lora_name)
    return request


def parse_fields(body: bytes) -> dict[str, Any]:
    """Return a JSON object's fields.

    Raises:
        RequestError: 400.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as err:
        # The parser's words could quote the body, which may hold credentials.
        raise RequestError(400, "InvalidRequest", "the body is no JSON object") from err


def convert(fields: dict[str, Any], kind: type[Decoded]) -> Decoded:
    """Return a request of a kind.

    Raises:
        RequestError: 422 with the field.
    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as err:
        # Names and types, never values.
        raise RequestError(422, "InvalidRequest", str(err)) from err


def check_name(name: str) -> None:
    """Return when an adapter may have this name.

    Raises:
        RequestError: 422.
    """
    if not is_adapter_name(name):
        raise RequestError(
            422,
            "InvalidName",
            "lora_name must be 1 to 253 letters, digits, '.', '_' or '-', and begin with a letter or digit",
            "lora_name",
        )
