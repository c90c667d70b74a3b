"""Field paths as Kubernetes prints them: `spec.ports[0].name`, `metadata.annotations[example.com/a]`. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STEP = re.compile(r"\.?([A-Za-z_$][A-Za-z0-9_$-]*)|\[(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\]")
_SHOWN_KEY = 100


@functools.lru_cache(maxsize=4096)
def _is_plain(key: str) -> bool:
    return _PLAIN.fullmatch(key) is not None


def join(path: str, key: str) -> str:
    """Return the path of a part of an object."""
    if len(key) > _SHOWN_KEY:
        return f"{path}[{key[:_SHOWN_KEY]}...]"
    if not _is_plain(key):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def item(path: str, index: int) -> str:
    return f"{path}[{index}]"


def keyed(keys: Mapping[str, object]) -> str:
    """Print the keys of an item as an error names it."""
    pairs = (f'"{k}":"{v}"' if isinstance(v, str) else f'"{k}":{v}' for k, v in keys.items())
    return "{" + ",".join(pairs) + "}"


def parse_field_path(text: str) -> list[str]:
    """Return the steps of a rule's `fieldPath`, such as `.spec.labels['a.b']`.

    Raises:
        ValueError: it is no such path.
    """
    steps: list[str] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or (found.group(1) is not None and not text[at:].startswith(".")):
            raise ValueError("must be a JSON path of fields, such as .spec.replicas or .labels['a.b']")
        name, single, double = found.groups()
        quoted = single if single is not None else double
        steps.append(name if name is not None else re.sub(r"\\(.)", r"\1", quoted))
        at = found.end()
    if not steps:
        raise ValueError("must not be empty")
    return steps
