"""Objects that mutating policies construct: `JSONPatch{...}` and `Object.spec{...}`. Pure.

The CEL library knows no types but its own. An expression is therefore compiled with every constructor written as a map
that remembers the name of its type; what comes out is checked against the names, and they are taken away.
https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pybrix.base.clock import format_rfc3339
from pybrix.cluster.apiserver.structural.cel import CelError

JSON_PATCH = "JSONPatch"
OBJECT = "Object"
PATCH_FIELDS = ("op", "path", "from", "value")
_TYPE = "\ue000type"
"""Key that remembers the type; no key of an object has a character for private use."""
_TOKEN = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<comment>//[^\n]*)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<space>\s+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_RAW = re.compile(r"""[rR][bB]?(?:'''.*?'''|\"\"\".*?\"\"\"|"[^"\n]*"|'[^'\n]*')""", re.DOTALL)
_UNESCAPED = {"__dot__": ".", "__dash__": "-", "__slash__": "/", "__underscores__": "__"}
_KEYWORD = re.compile(r"__([a-z]+)__")
_OPENING, _CLOSING = "([{", ")]}"


def as_maps(text: str) -> str:
    """Return an expression with its constructors written as maps.

    Raises:
        CelError: `JSONPatch` is given a field that it does not have.
    """
    tokens = list(_tokens(text))
    built: list[str] = []
    # For each open bracket the type that it constructs, empty for every other bracket.
    open_types: list[str] = []
    expects_field = False
    at = 0
    while at < len(tokens):
        kind, word = tokens[at]
        if kind in ("space", "comment"):
            built.append(word if kind == "space" else " ")
            at += 1
            continue
        constructed = _constructor(tokens, at) if kind == "name" else None
        if constructed is not None and not (expects_field and open_types and open_types[-1]):
            type_name, at = constructed
            built.append(f'{{"{_TYPE}": "{type_name}", ')
            open_types.append(type_name)
            expects_field = True
            continue
        if kind == "name" and expects_field and open_types and open_types[-1]:
            name = _unescaped(word)
            if open_types[-1] == JSON_PATCH and name not in PATCH_FIELDS:
                raise CelError(f"compilation failed: undefined field '{name}' of {JSON_PATCH}")
            built.append(f'"{name}"')
            expects_field = False
        elif word in _OPENING and kind == "other":
            built.append(word)
            open_types.append("")
            expects_field = False
        else:
            if word in _CLOSING and kind == "other" and open_types:
                open_types.pop()
            # The mark of an optional field stays before its name.
            expects_field = word == "," or (expects_field and word == "?")
            built.append(word)
        at += 1
    return "".join(built)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _RAW.match(text, at) or _TOKEN.match(text, at)
        assert found is not None
        yield ("text" if found.re is _RAW else str(found.lastgroup)), found.group()
        at = found.end()


def _constructor(tokens: list[tuple[str, str]], at: int) -> tuple[str, int] | None:
    """Return the type that is constructed here and where its fields begin; None where something else stands."""
    if tokens[at][1] not in (JSON_PATCH, OBJECT):
        return None
    before = next((word for kind, word in reversed(tokens[:at]) if kind not in ("space", "comment")), "")
    if before == ".":
        return None
    names, at = [tokens[at][1]], at + 1
    while at < len(tokens):
        kind, word = tokens[at]
        if kind in ("space", "comment"):
            at += 1
        elif word == "." and at + 1 < len(tokens) and tokens[at + 1][0] == "name":
            names.append(tokens[at + 1][1])
            at += 2
        elif word == "{":
            is_known = names[0] == OBJECT or len(names) == 1
            return (".".join(names), at + 1) if is_known else None
        else:
            return None
    return None


def _unescaped(name: str) -> str:
    found = _KEYWORD.fullmatch(name)
    if found is not None and name not in _UNESCAPED:
        return found.group(1)
    for escaped, plain in _UNESCAPED.items():
        name = name.replace(escaped, plain)
    return name


def patch_operations(value: Any) -> list[dict[str, Any]]:
    """Return the operations of a JSON patch that an expression evaluated to.

    Raises:
        CelError: it is no list of `JSONPatch`.
    """
    if not isinstance(value, list) or not all(isinstance(o, dict) and o.get(_TYPE) == JSON_PATCH for o in value):
        raise CelError("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch")
    return [{name: _json(part, None) for name, part in one.items() if name != _TYPE} for one in value]


def configuration(value: Any) -> dict[str, Any]:
    """Return the apply configuration that an expression evaluated to.

    Raises:
        CelError: it is no `Object`, or a type in it does not belong where it is.
    """
    if not isinstance(value, dict) or value.get(_TYPE) != OBJECT:
        raise CelError("must evaluate to Object")
    built: dict[str, Any] = _json(value, OBJECT)
    return built


def _json(value: Any, expected: str | None) -> Any:
    """Return a value in its JSON form.

    Args:
        value: what came out of an expression.
        expected: the type name that an object here must have, None where any will do.
    """
    if isinstance(value, dict):
        name = value.get(_TYPE)
        if name is not None and expected is not None and name != expected:
            detail = f"unexpected type name {name!r}, expected {expected!r}, which matches field name path from root"
            raise CelError(f"{detail} Object type")
        below = name if isinstance(name, str) else None
        return {
            _key(k): _json(part, None if below is None else f"{below}.{k}") for k, part in value.items() if k != _TYPE
        }
    if isinstance(value, list):
        return [_json(part, expected) for part in value]
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, datetime):
        return format_rfc3339(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, float) and not math.isfinite(value):
        raise CelError(f"{value} has no JSON form")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise CelError(f"a value of type {type(value).__name__} has no JSON form")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise CelError(f"the key {key!r} of a map is not a string")
    return key
