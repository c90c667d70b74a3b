"""Bodies in and out: which format a client sends, and which it wants. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from pybrix.cluster.apiserver.failures import bad_request, unsupported_media_type
from pybrix.cluster.apiserver.protobuf import PROTOBUF, decode_protobuf

JSON = "application/json"
YAML = ("application/yaml", "application/x-yaml", "text/yaml")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a client wants back: an object, a `Table`, or one of the metadata-only forms."""

    is_table: bool = False
    table_version: str = "v1"
    is_metadata_only: bool = False


def parse_accept(header: str) -> Accepted:
    """Return the first form of an Accept header that this server has; anything without one gets JSON."""
    for part in header.split(","):
        media, *parameters = [piece.strip() for piece in part.split(";")]
        options = dict(piece.partition("=")[::2] for piece in parameters)
        if media not in (JSON, "*/*", "application/*"):
            continue
        wanted = options.get("as")
        if wanted == "Table" and options.get("g") == "meta.k8s.io":
            return Accepted(is_table=True, table_version=options.get("v", "v1"))
        if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Accepted(is_metadata_only=True)
        if wanted is None:
            return Accepted()
    return Accepted()


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def decode_body(body: bytes, content_type: str) -> Any:
    """Decode what a client sends; None for an empty body.

    Raises:
        BadRequest: it is not what the header says.
        StatusError (415): a format that this server does not read.
    """
    media = media_type(content_type) or JSON
    if not body:
        return None
    if media == PROTOBUF:
        return decode_protobuf(body)
    if media in YAML:
        return decode_yaml(body)
    if media in (JSON, "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"):
        return decode_json(body)
    raise unsupported_media_type(media, (JSON, YAML[0], PROTOBUF))


def decode_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as err:
        raise bad_request(f"the body is not valid JSON: {err}") from err


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: like JSON, so a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_ALIAS = re.compile(rb"(?:^|[\s\[{,:-])\*[A-Za-z0-9_]")


def decode_yaml(body: bytes) -> Any:
    stripped = body.lstrip()
    if stripped.startswith((b"{", b"[")):
        return decode_json(body)
    try:
        # A few references to references make gigabytes of a small body.
        if _ALIAS.search(body) and any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(body, yaml.CSafeLoader)):
            raise bad_request("YAML aliases are not supported in a request: write the value out")
        value = yaml.load(body, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as err:
        raise bad_request(f"the body is not valid YAML: {err}") from err
    return _as_json(value)


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        built: dict[str, Any] = {}
        for key, part in value.items():
            if not isinstance(key, str):
                raise bad_request(f"the key {key!r} of a YAML object is not a string: quote it")
            built[key] = _as_json(part)
        return built
    if isinstance(value, list):
        return [_as_json(part) for part in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise bad_request(f"a YAML value of type {type(value).__name__} has no JSON form")
