"""Read a configuration kind from YAML or JSON: decoded, defaulted, and every mistake told with its path. Pure."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
import yaml

from pybrix.api.meta import Value
from pybrix.base.errors import UsageError

C = TypeVar("C", bound=Value)


class ConfigurationError(UsageError):
    """A configuration does not decode.

    Args:
        source: the file, or another name of where the text comes from.
        problem: what is wrong, naming the path in the document.
    """

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source


def parse_document(text: str, source: str, cls: type[C], overrides: Mapping[str, Any] | None = None) -> C:
    """Decode a document of a kind that has `apiVersion` and `kind`; an empty text means all defaults.

    Args:
        source: what errors call the document.
        overrides: fields by their wire name, from flags, nested as in the document; None values are left out.

    Raises:
        ConfigurationError: with the path of the field.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigurationError(source, f"not YAML: {err}".replace("\n", " ")) from err
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigurationError(source, f"a {type(data).__name__}, where an object is expected")
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(cls)}
    wanted = (defaults["apiVersion"], defaults["kind"])
    found = (data.get("apiVersion", wanted[0]), data.get("kind", wanted[1]))
    if found != wanted:
        raise ConfigurationError(source, f"$.kind: {found[0]} {found[1]} is not {wanted[0]} {wanted[1]}")
    data = _merged(data, overrides or {})
    for problem in _unknown(data, cls, "$"):
        raise ConfigurationError(source, problem)
    try:
        return msgspec.convert(data, cls)
    except msgspec.ValidationError as err:
        raise ConfigurationError(source, str(err)) from err


def _merged(data: Any, overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(data) if isinstance(data, dict) else {}
    for name, value in overrides.items():
        if isinstance(value, Mapping):
            if inner := _merged(merged.get(name), value):
                merged[name] = inner
        elif value is not None:
            merged[name] = value
    return merged


def _unknown(data: Any, annotation: Any, path: str) -> Iterator[str]:
    """Yield what is wrong with names of fields that no struct has."""
    if get_origin(annotation) in (Union, types.UnionType):
        for arg in get_args(annotation):
            yield from _unknown(data, arg, path)
    elif isinstance(annotation, type) and issubclass(annotation, msgspec.Struct) and isinstance(data, dict):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(annotation)}
        for name, value in data.items():
            if name not in fields:
                close = difflib.get_close_matches(str(name), fields, n=1)
                hint = f"did you mean {close[0]}?" if close else f"fields: {', '.join(sorted(fields))}"
                yield f"{path}.{name}: no such field ({hint})"
            else:
                yield from _unknown(value, fields[name], f"{path}.{name}")
    elif get_origin(annotation) is list and isinstance(data, list):
        for number, item in enumerate(data):
            yield from _unknown(item, get_args(annotation)[0], f"{path}[{number}]")
