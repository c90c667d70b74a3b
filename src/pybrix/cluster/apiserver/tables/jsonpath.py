"""The part of Kubernetes' JSONPath that printer columns use. Pure.

Fields (`.spec.replicas`, `['a.b']`, `\\.` in a name), indexes, `[*]` and filters `[?(@.type=="Ready")]`.
https://kubernetes.io/docs/reference/kubectl/jsonpath/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_STEP = re.compile(
    r"""\.(?P<field>(?:\\.|[^.\[\\])+)
      | \[\?\(@\.(?P<key>[^=!<>\s]+)\s*(?P<op>==|!=)\s*(?P<quote>["'])(?P<value>.*?)(?P=quote)\)\]
      | \[(?P<quote2>["'])(?P<name>.*?)(?P=quote2)\]
      | \[(?P<index>-?\d+|\*)\]
    """,
    re.VERBOSE,
)
Step = Callable[[Any], list[Any]]


class BadPath(ValueError):
    """The path is not in the supported part of the language."""


def find(path: str, data: Any) -> list[Any]:
    """Return the values at a path; none when something on the way is missing.

    Raises:
        BadPath
    """
    found = [data]
    at = 0
    text = path if path.startswith((".", "[")) else f".{path}"
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise BadPath(f"cannot read {path!r} at {text[at:]!r}")
        found = [inner for value in found for inner in _step(match, value)]
        at = match.end()
    return found


def _step(match: re.Match[str], value: Any) -> list[Any]:
    name = match["name"] if match["name"] is not None else match["field"]
    if name is not None:
        name = re.sub(r"\\(.)", r"\1", name)
        if name == "*":
            return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
        return [value[name]] if isinstance(value, dict) and name in value else []
    if not isinstance(value, list):
        return []
    if match["key"] is not None:
        wanted, is_equal = match["value"], match["op"] == "=="
        return [item for item in value if (_text(find("." + match["key"], item)) == wanted) is is_equal]
    if match["index"] == "*":
        return value
    index = int(match["index"])
    return [value[index]] if -len(value) <= index < len(value) else []


def _text(found: list[Any]) -> str:
    if not found:
        return ""
    if isinstance(found[0], bool):
        return "true" if found[0] else "false"
    return str(found[0])
