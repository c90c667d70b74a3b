"""Write YAML that `kubectl` reads back as it was meant. Pure.

PyYAML leaves texts unquoted that Kubernetes' own tools take for numbers and booleans (`1e3`, `0o17`, `y`), because the
two resolve plain values by different rules: what either of them would take for something else is quoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from pybrix.cluster.manifests.yamltext import plain_value

WIDTH = 120
_TEXT_TAG = "tag:yaml.org,2002:str"


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Write shared parts in full: anchors confuse readers and some tools."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _IndentingDumper(yaml.SafeDumper):
    """Write lists below their key, which the C library cannot; slower."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Texts of several lines as blocks, as people write them.
    style = "|" if "\n" in text.rstrip("\n") else "'" if is_misread(text) else None
    return dumper.represent_scalar(_TEXT_TAG, text, style=style)


for _class in (_Dumper, _IndentingDumper):
    _class.add_representer(str, _represent_text)


def is_misread(text: str) -> bool:
    """Say whether a text without quotes would be read as something else than itself."""
    try:
        # Tools differ in where they take underscores in numbers.
        return not isinstance(plain_value(text), str) or not isinstance(plain_value(text.replace("_", "")), str)
    except ValueError:
        return True


def to_yaml(documents: Iterable[Any], *, explicit_start: bool = False, indent_lists: bool = False) -> str:
    """Return documents as one YAML stream.

    Args:
        documents: JSON-like values.
        explicit_start: whether `---` stands before the first one too.
        indent_lists: whether lists stand deeper than their key.
    """
    dumper = _IndentingDumper if indent_lists else _Dumper
    text: str = yaml.dump_all(documents, Dumper=dumper, sort_keys=False, width=WIDTH, explicit_start=explicit_start)
    return text
