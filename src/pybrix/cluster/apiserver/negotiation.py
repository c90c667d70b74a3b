"""Bodies in and out: which format a client sends, and which it wants. Pure."""

from __future__ import annotations

import functools
import json
import math
import re
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from pybrix.cluster.apiserver.failures import bad_request, unsupported_media_type
from pybrix.cluster.apiserver.protobuf import PROTOBUF, decode_protobuf

JSON = "application/json"
_APPLY = "application/apply-patch"
YAML = ("application/yaml", "application/x-yaml", "text/yaml")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a client wants back: an object, a `Table`, or one of the metadata-only forms."""

    is_table: bool = False
    table_version: str = "v1"
    is_metadata_only: bool = False


@functools.lru_cache(maxsize=128)
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


def duplicate_fields(body: bytes, content_type: str) -> list[str]:
    """Return a complaint about every field that a body has twice; only the last one counts.

    The body is one that was decoded.
    """
    media = media_type(content_type) or JSON
    if media == PROTOBUF or not body:
        return []
    if (media in YAML or media.startswith(_APPLY)) and not body.lstrip().startswith((b"{", b"[")):
        return _duplicates_in_yaml(body)
    found = False

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        built = dict(pairs)
        found = found or len(built) != len(pairs)
        return built

    try:
        json.loads(body, object_pairs_hook=note)
        # Where the twins are is asked only when there are any.
        return _twins(json.loads(body, object_pairs_hook=_Pairs), "") if found else []
    except (ValueError, RecursionError):
        return []  # What msgspec reads and this module does not is refused or taken by its value.


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all its fields."""


def _twins(value: Any, path: str) -> list[str]:
    complaints: list[str] = []
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, part in value:
            at = f"{path}.{name}" if path else name
            if name in seen:
                complaints.append(f'duplicate field "{at}"')
            seen.add(name)
            complaints += _twins(part, at)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            complaints += _twins(part, f"{path}[{index}]")
    return complaints


def _duplicates_in_yaml(body: bytes) -> list[str]:
    complaints: list[str] = []
    node = yaml.compose(body, yaml.CSafeLoader)
    pending = [node] if node is not None else []
    while pending:
        current = pending.pop()
        if isinstance(current, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in current.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        complaints.append(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
                    seen.add(key.value)
                pending.append(value)
        elif isinstance(current, yaml.SequenceNode):
            pending += current.value
    return sorted(complaints)


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: like JSON, so a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_MAX_DEPTH = 200
_FLAT_BYTES = 4096
_ALIAS = re.compile(rb"(?:^|[\s\[{,:-])\*[A-Za-z0-9_]")


def decode_yaml(body: bytes) -> Any:
    stripped = body.lstrip()
    if stripped.startswith((b"{", b"[")):
        return decode_json(body)
    try:
        # A few references to references make gigabytes of a small body.
        if _ALIAS.search(body) and any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(body, yaml.CSafeLoader)):
            raise bad_request("YAML aliases are not supported in a request: write the value out")
        if len(body) > _FLAT_BYTES:
            _check_depth(body)
        value = yaml.load(body, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as err:
        raise bad_request(f"the body is not valid YAML: {err}") from err
    return _as_json(value)


def _check_depth(body: bytes) -> None:
    """Refuse what the loader, which calls itself for every level, would overrun the stack with."""
    depth = 0
    for event in yaml.parse(body, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark is not None else 0
                raise bad_request(f"the body is nested deeper than {_MAX_DEPTH} levels at line {line}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


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
    if isinstance(value, float) and not math.isfinite(value):
        raise bad_request(f"the YAML value {value} has no JSON form: write a finite number")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise bad_request(f"a YAML value of type {type(value).__name__} has no JSON form")
