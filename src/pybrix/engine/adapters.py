"""Administration of LoRA adapters: what engines and the sidecar are asked and what their answers mean. Pure.

Three protocols: vLLM's and SGLang's own, and the sidecar's, which fetches the files before it asks its engine.
`engine.adapterclient` sends what is made here.

AdapterError                nothing came of it; `reason` is the word for conditions, metrics and log lines
├── EngineUnreachable       nobody listens, or the connection broke
├── EngineTimeout           no answer by the deadline; the engine may still do what it was asked
└── AdapterRefused          an answer, and it was no
    ├── AlreadyLoaded       an adapter of that name is loaded, from whatever artifact
    ├── UnknownAdapter      there is none of that name to unload
    ├── CapacityFull        no room for one more
    ├── SidecarRefused      the sidecar said why: `reason` is its own word, one of `SIDECAR_REASONS`
    └── AdapterUnsupported  this engine cannot, now or later, as it was started
        └── SidecarNeeded   only a sidecar can fetch this artifact
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, urlsplit

import msgspec

from pybrix.base.errors import PybrixError
from pybrix.engine.errors import parse_error_message
from pybrix.engine.metrics import Engine, engine_of

LONGEST_MESSAGE = 500
"""Characters of an engine's message that are kept: enough for its last sentence, short enough for an Event."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_PRINTABLE = re.compile(r"[\x21-\x7e]*")
SIDECAR_REASONS = frozenset(
    {
        "ArtifactTooLarge",
        "ChecksumMismatch",
        "EngineTimeout",
        "EngineUnreachable",
        "ListingHostile",
        "NameTaken",
        "NotAnAdapter",
        "PathNotAllowed",
        "SecretNotMounted",
        "SourceInvalid",
        "SourceMissing",
        "SourceRefused",
        "SourceUnavailable",
        "Superseded",
    }
)
"""The words by which a sidecar says why (`type` of its answer) that are taken over; others are `AdapterRefused`."""

_DOWNLOADED = frozenset({"s3", "gcs", "gs", "tos", "http", "https"})


class AdapterProtocol(StrEnum):
    """Whose paths and bodies are spoken."""

    VLLM = "vllm"
    SGLANG = "sglang"
    SIDECAR = "sidecar"


class AdapterError(PybrixError):
    """Base class: an engine did not do what it was asked.

    Args:
        message: what the engine or the network said, bounded, without secrets.
        status: the HTTP status; None when there was no answer.
    """

    reason: str = "AdapterError"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class EngineUnreachable(AdapterError):
    """Nobody listens there, or the connection broke before the answer was complete."""

    reason = "EngineUnreachable"


class EngineTimeout(AdapterError):
    """No complete answer by the deadline. What was asked for may happen all the same: list before asking again."""

    reason = "EngineTimeout"


class AdapterRefused(AdapterError):
    """The engine answered and the answer was no, or no answer that can be understood."""

    reason = "AdapterRefused"


class AlreadyLoaded(AdapterRefused):
    """An adapter of that name is loaded; engines do not say from where, except in their list of models."""

    reason = "AlreadyLoaded"


class UnknownAdapter(AdapterRefused):
    """There is no adapter of that name to unload."""

    reason = "UnknownAdapter"


class CapacityFull(AdapterRefused):
    """The engine, or the sidecar's disk, has no room for one more."""

    reason = "CapacityFull"


class SidecarRefused(AdapterRefused):
    """The sidecar could not fetch the artifact, or would not.

    Args:
        reason: one of `SIDECAR_REASONS`.
        message: as of `AdapterError`.
        status: as of `AdapterError`.
    """

    reason = "SidecarRefused"

    def __init__(self, reason: str, message: str, status: int | None = None) -> None:
        super().__init__(message, status)
        self.reason = reason


class AdapterUnsupported(AdapterRefused):
    """The engine cannot load or unload adapters as it was started; asking again changes nothing."""

    reason = "AdapterUnsupported"


class SidecarNeeded(AdapterUnsupported):
    """Engines load from the model hub and from their own disk; another artifact needs a sidecar that fetches it."""

    reason = "SidecarNeeded"


@dataclass(frozen=True, slots=True)
class AdapterTarget:
    """Where one engine's adapters are administered."""

    url: str
    """Scheme, host and port: `http://10.0.0.7:8000`; the sidecar's own port for its protocol."""
    protocol: AdapterProtocol = AdapterProtocol.VLLM
    api_key: str = field(default="", repr=False)
    """Bearer token; none is sent when empty."""


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """An adapter and where its files are."""

    name: str
    artifact_url: str
    """As in `spec.artifactURL`."""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What a Secret holds, decoded; sent to a sidecar only."""
    additional_config: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent to a sidecar only."""


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an engine's `/v1/models`: the fields are as the engine gave them, None where it gave none."""

    id: str
    root: str | None = None
    """What it is made from: of an adapter, the path or repository that it was loaded from."""
    parent: str | None = None
    """The model that an adapter belongs to; None for base models, and for all in engines that do not tell."""
    max_model_len: int | None = None

    @property
    def is_adapter(self) -> bool:
        return self.parent is not None


class _SidecarError(msgspec.Struct, frozen=True):
    type: str
    error: str


class _ServedModels(msgspec.Struct, frozen=True):
    data: list[ServedModel]


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """One HTTP request, without its host."""

    method: str
    path: str
    body: bytes = field(default=b"", repr=False)


def protocol_of(engine_label: str | None, *, has_sidecar: bool) -> AdapterProtocol:
    """Return what a pod speaks, from its label `model.aibrix.ai/engine` and whether it has a sidecar."""
    if has_sidecar:
        return AdapterProtocol.SIDECAR
    return AdapterProtocol.SGLANG if engine_of(engine_label) is Engine.SGLANG else AdapterProtocol.VLLM


def direct_path(artifact_url: str) -> str:
    """Return what an engine takes as `lora_path`: a repository of the model hub, or a path on its disk.

    Raises:
        SidecarNeeded: the artifact has to be fetched first.
        AdapterUnsupported: the URL means nothing to an engine.
    """
    scheme, separator, rest = artifact_url.partition("://")
    if not separator:
        return _checked_path(artifact_url, artifact_url)
    scheme = scheme.lower()
    if scheme in ("huggingface", "hf"):
        repository = rest.rstrip("/")
        if not _HUB_NAME.fullmatch(repository):
            raise AdapterUnsupported(f"{artifact_url!r} names no repository; the form is {scheme}://ORG/REPOSITORY")
        return repository
    if scheme == "file":
        parts = urlsplit(artifact_url)
        if parts.netloc not in ("", "localhost"):
            raise AdapterUnsupported(f"{artifact_url!r} names a host; the form is file:///ABSOLUTE/PATH")
        return _checked_path(unquote(parts.path), artifact_url)
    if scheme in _DOWNLOADED:
        raise SidecarNeeded(f"engines cannot fetch {scheme}:// artifacts themselves; the pod needs a sidecar")
    raise AdapterUnsupported(f"{scheme}:// is no scheme of an adapter's artifact")


def _checked_path(path: str, artifact_url: str) -> str:
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise AdapterUnsupported(f"{artifact_url!r} is no absolute path without '..'")
    return path


def render_headers(target: AdapterTarget) -> dict[str, str]:
    """Return the headers of every request to a target.

    Raises:
        AdapterUnsupported: the API key cannot be a header.
    """
    if not target.api_key:
        return {}
    if not _PRINTABLE.fullmatch(target.api_key):
        raise AdapterUnsupported("the API key has characters that no HTTP header can carry (spaces, line ends?)")
    return {"Authorization": f"Bearer {target.api_key}"}


def render_list() -> AdminRequest:
    """Ask which models and adapters are served; all protocols have it in common."""
    return AdminRequest("GET", "/v1/models")


def render_load(protocol: AdapterProtocol, source: AdapterSource) -> AdminRequest:
    """Ask to load an adapter.

    Raises:
        AdapterUnsupported: this protocol cannot load from that artifact; see `direct_path`.
    """
    if protocol is AdapterProtocol.SIDECAR:
        body: dict[str, object] = {"lora_name": source.name, "artifact_url": source.artifact_url}
        if source.credentials:
            body["credentials"] = dict(source.credentials)
        if source.additional_config:
            body["additional_config"] = dict(source.additional_config)
        return AdminRequest("POST", "/v1/lora_adapter/load", msgspec.json.encode(body))
    path = "/load_lora_adapter" if protocol is AdapterProtocol.SGLANG else "/v1/load_lora_adapter"
    direct = {"lora_name": source.name, "lora_path": direct_path(source.artifact_url)}
    return AdminRequest("POST", path, msgspec.json.encode(direct))


def render_unload(protocol: AdapterProtocol, name: str, *, cleanup_local: bool = True) -> AdminRequest:
    """Ask to unload an adapter; `cleanup_local` tells a sidecar to delete the files that it fetched."""
    if protocol is AdapterProtocol.SIDECAR:
        body: dict[str, object] = {"lora_name": name, "cleanup_local": cleanup_local}
        return AdminRequest("POST", "/v1/lora_adapter/unload", msgspec.json.encode(body))
    path = "/unload_lora_adapter" if protocol is AdapterProtocol.SGLANG else "/v1/unload_lora_adapter"
    return AdminRequest("POST", path, msgspec.json.encode({"lora_name": name}))


def parse_list(status: int, body: bytes) -> tuple[ServedModel, ...]:
    """Return what an answer to `render_list` lists.

    Raises:
        AdapterRefused: a status other than 200, or something else than a list of models.
    """
    if status != 200:
        raise AdapterRefused(_clean(parse_error_message(body)) or f"/v1/models answers {status}", status)
    try:
        return tuple(msgspec.json.decode(body, type=_ServedModels).data)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise AdapterRefused(_clean(f"/v1/models is no list of models: {err}"), status) from err


def check_load(status: int, body: bytes, secrets: Iterable[str] = ()) -> None:
    """Return when an answer says that the adapter is loaded; `secrets` are blotted out of what it says otherwise.

    Raises:
        AdapterRefused: or one of its kinds.
    """
    if status in (200, 201):
        return
    message = _clean(parse_error_message(body), secrets)
    if (reason := _sidecar_reason(body)) is not None:
        raise SidecarRefused(reason, message or reason, status)
    words = message.lower()
    if "already" in words and any(word in words for word in ("loaded", "exist", "registered")):
        raise AlreadyLoaded(message, status)
    if status == 507 or any(text in words for text in _FULL):
        raise CapacityFull(message, status)
    raise _refusal(status, message)


def check_unload(status: int, body: bytes, secrets: Iterable[str] = ()) -> None:
    """Return when an answer says that the adapter is unloaded; `secrets` as in `check_load`.

    Raises:
        AdapterRefused: or one of its kinds.
    """
    if status in (200, 201):
        return
    message = _clean(parse_error_message(body), secrets)
    if not _is_generic(message) and any(text in message.lower() for text in _UNKNOWN):
        raise UnknownAdapter(message, status)
    raise _refusal(status, message)


# Words by which engines say it; statuses alone do not tell (vLLM: 400, 404 or 500, SGLang: always 400).
_FULL = (
    "maximum number of loaded lora",
    "no free lora slot",
    "out of memory",
    "no space left",
)
_UNKNOWN = ("cannot be found", "not found", "does not exist", "not loaded", "not registered")
_DISABLED = ("lora is not enabled", "--enable-lora")


def _refusal(status: int, message: str) -> AdapterRefused:
    # Without VLLM_ALLOW_RUNTIME_LORA_UPDATING vLLM has no such path: its 404 then says nothing about the adapter.
    if status in (404, 405) and _is_generic(message):
        return AdapterUnsupported(
            "the engine has no path for it (vLLM needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=true and --enable-lora)",
            status,
        )
    if status == 501 or any(text in message.lower() for text in _DISABLED):
        return AdapterUnsupported(message or f"the engine answers {status}", status)
    return AdapterRefused(message or f"the engine answers {status} without a message", status)


def _sidecar_reason(body: bytes) -> str | None:
    """Return a sidecar's word for what is wrong, None when this is no sidecar's answer or no word that is known."""
    try:
        word = msgspec.json.decode(body, type=_SidecarError).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return word if word in SIDECAR_REASONS else None


def _is_generic(message: str) -> bool:
    """Say whether this is what web frameworks say of a path that they do not have."""
    words = message.lower().strip(" .")
    return words in ("", "not found", "404: not found", "404 page not found", "method not allowed") or words.startswith(
        "<"
    )


def _clean(message: str, secrets: Iterable[str] = ()) -> str:
    """Return a message as one bounded line without the given secrets."""
    for secret in secrets:
        if len(secret) > 3:
            message = message.replace(secret, "***")
    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 3] + "..."
