"""Read what a user chose: files of values and `--set key=value` on top of the defaults, checked by type. Pure.

An error names the key as the user would write it, and for an unknown one the nearest that exists.
"""

from __future__ import annotations

import copy
import difflib
import ipaddress
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from pybrix.base.errors import UsageError
from pybrix.cluster.manifests.reading import read_text
from pybrix.cluster.manifests.yamltext import read_yaml
from pybrix.install.mistakes import describe_mistake, shown
from pybrix.install.values import RESERVED, InstallConfiguration, to_document


def resolve(documents: Iterable[tuple[str, str]], settings: Sequence[str]) -> dict[str, Any]:
    """Return the whole document of values: defaults, then files in their order, then settings in theirs.

    Args:
        documents: source (for errors) and YAML text of each file.
        settings: `key=value` texts; a key's parts are joined by dots, a dot within a part is written `\\.`.

    Raises:
        UsageError: text that is not YAML, an unknown key, a wrong type or a value out of bounds.
    """
    values = to_document(InstallConfiguration())
    for source, text in documents:
        _merge(values, _read(source, text), InstallConfiguration, "", source)
    for setting in settings:
        _set(values, setting)
    return check(values)


def check(values: dict[str, Any]) -> dict[str, Any]:
    """Return the document as the types have it.

    Raises:
        UsageError: naming the key at fault.
    """
    try:
        typed = msgspec.convert(values, InstallConfiguration)
    except msgspec.ValidationError as err:
        problem = describe_mistake(values, InstallConfiguration) or str(err)
        raise UsageError(problem, "`pybrix install --show-values` lists all") from err
    for path, cidr in _cidrs(values):
        _check_cidr(path, cidr)
    return to_document(typed)


def _cidrs(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield path and text of every address range."""
    ranges = "gateway.service.loadBalancerSourceRanges", "networkPolicies.apiServerCidrs"
    for path in ranges:
        for index, cidr in enumerate(_lookup(values, path)):
            yield f"{path}[{index}]", cidr
    yield from _ip_blocks(values["networkPolicies"], "networkPolicies")


def _ip_blocks(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _ip_blocks(item, f"{path}[{index}]")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key != "ipBlock" or not isinstance(item, Mapping):
                yield from _ip_blocks(item, f"{path}.{key}")
                continue
            yield f"{path}.ipBlock.cidr", item.get("cidr")
            excepted = item.get("except") or []
            for index, cidr in enumerate(excepted if isinstance(excepted, list) else [excepted]):
                yield f"{path}.ipBlock.except[{index}]", cidr


def _check_cidr(path: str, cidr: Any) -> None:
    """Refuse what a server refuses: it wants the length of the prefix as a number, and takes bits behind it."""
    try:
        if not isinstance(cidr, str) or not re.search(r"/[0-9]{1,3}$", cidr):
            raise ValueError
        ipaddress.ip_network(cidr, strict=False)
    except ValueError as err:
        raise UsageError(f"{path}: {shown(cidr)} is no address range", "such as 10.0.0.0/8 or 10.0.0.1/32") from err


def _read(source: str, text: str) -> dict[str, Any]:
    read = read_text(text)
    problem = next((each for each in read.problems if each.is_error), None)
    if problem is not None:
        raise UsageError(f"{source}:{problem.at.line}:{problem.at.column}: {problem.message}")
    if len(read.documents) > 1:
        raise UsageError(f"{source}: {len(read.documents)} documents, where one is expected")
    data = read.documents[0].to_value() if read.documents else None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError(f"{source}: a {type(data).__name__}, where a mapping of values is expected")
    return data


def _merge(target: dict[str, Any], given: Mapping[Any, Any], cls: Any, path: str, source: str) -> None:
    """Merge maps key by key; everything else replaces what was there. None removes an entry of an open map."""
    known = fields_of(cls, path)
    for key, value in given.items():
        where = f"{path}.{key}".strip(".")
        if known is not None:
            _expect_key(str(key), known, path, source)
        inner = known[str(key)] if known is not None else Any
        if isinstance(value, Mapping) and isinstance(target.get(str(key)), dict):
            _merge(target[str(key)], value, inner, where, source)
        elif value is None and known is None:
            target.pop(str(key), None)
        else:
            target[str(key)] = copy.deepcopy(value)


def _set(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {setting!r} is no key=value", "such as --set gateway.replicas=3")
    parts = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", key)]
    cls: Any = InstallConfiguration
    target, path = values, ""
    for position, part in enumerate(parts):
        known = fields_of(cls, path)
        if known is not None:
            _expect_key(part, known, path, "--set")
            cls = known[part]
        else:
            cls = _value_type(cls)
            if cls is None:
                raise UsageError(f"--set {key}: {path} is no mapping", f"--set {path}=VALUE")
        path = f"{path}.{part}".strip(".")
        if position == len(parts) - 1:
            target[part] = _parse(text, cls, path)
        else:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise UsageError(f"--set {key}: {path} is no mapping", f"--set {path}=VALUE")


def _expect_key(key: str, known: Mapping[str, Any], path: str, source: str) -> None:
    where = f"{path}.{key}".strip(".")
    if key in known:
        return
    if (instead := RESERVED.get(path, {}).get(key)) is not None:
        raise UsageError(f"{source}: {where} is decided by the installation", f"set {instead}" if instead else "")
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    remedy = f"did you mean {f'{path}.{near[0]}'.strip('.')}?" if near else f"there are {', '.join(known)}"
    raise UsageError(f"{source}: {where} is no value of an installation", remedy)


def _bare(annotation: Any) -> Any:
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def fields_of(cls: Any, path: str) -> dict[str, Any] | None:
    """Return wire name -> type of a struct's fields without the reserved ones; None for what is no struct."""
    cls = _bare(cls)
    if not (isinstance(cls, type) and issubclass(cls, msgspec.Struct)):
        return None
    hints = get_type_hints(cls, include_extras=True)
    reserved = RESERVED.get(path, {})
    return {
        field.encode_name: hints[field.name]
        for field in msgspec.structs.fields(cls)
        if field.encode_name not in reserved
    }


def _value_type(cls: Any) -> Any:
    """Return the type of a map's values; None for what is no map."""
    cls = _bare(cls)
    if cls is Any:
        return Any
    return get_args(cls)[1] if get_origin(cls) is dict else None


def _parse(text: str, cls: Any, path: str) -> Any:
    """Return the value that a text stands for where this type is expected."""
    bare = _bare(cls)
    origin = get_origin(bare)
    if bare is str or origin is Literal:
        return text
    if origin is list and not text.lstrip().startswith("["):
        items = [item.strip() for item in text.split(",") if item.strip()]
        return [_parse(item, get_args(bare)[0], path) for item in items]
    if origin in (Union, types.UnionType) and str in get_args(bare):
        return text
    read = read_yaml(text)
    problem = next((each.message for each in read.problems if each.is_error), "")
    if len(read.documents) > 1:
        problem = "several documents"
    if problem:
        raise UsageError(f"--set {path}: {shown(text)} is no value: {problem}")
    return read.documents[0].to_value() if read.documents else None


def _lookup(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def image_settings(reference: str) -> list[str]:
    """Return the settings for an image reference such as `registry:5000/team/pybrix:1.2@sha256:...`.

    Raises:
        UsageError: the text is no reference.
    """
    named, at, digest = reference.partition("@")
    path, colon, tag = named.rpartition(":")
    if not colon or "/" in tag:
        path, tag = named, ""
    if not path or (at and not digest):
        raise UsageError(f"--image {reference!r} is no image reference", "such as registry.example.com/pybrix:0.1.0")
    settings = [f"image.repository={path}", f"image.digest={digest}"]
    return [*settings, f"image.tag={tag}"] if tag else settings
