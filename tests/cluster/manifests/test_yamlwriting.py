"""Writing YAML: what is written is read back as it was, by the rules of `kubectl` and by those of PyYAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pybrix.cluster.manifests.yamltext import read_yaml
from pybrix.cluster.manifests.yamlwriting import to_yaml

MISREAD = (
    "12e03", "1e3", "0o17", "0O17", "017", "0x1F", "0X1F", "0b1", "08", "1_000", "1_0.5", "+7", ".5", "1.", "1e400",
    "y", "Y", "n", "N", "yes", "no", "on", "Off", "true", "null", "~", "", ".inf", "-.Inf", ".nan", "<<", "=",
    "2001-01-01", "22:30", "1:30", "- a", "a: b", " a", "a ", "#a", "*a", "&a", "!a", "---",
)  # fmt: skip
NUMERIC = st.from_regex(r"[-+]?[0-9._]*([eExXoObB][-+]?[0-9a-fA-F_]*)?", fullmatch=True)
TEXTS = st.sampled_from(MISREAD) | NUMERIC | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


def read(text: str) -> list[Any]:
    found = read_yaml(text)
    assert found.problems == []
    return [node.to_value() for node in found.documents]


@pytest.mark.parametrize("text", MISREAD)
@pytest.mark.parametrize("indent_lists", [False, True])
def test_a_text_that_looks_like_something_else_is_quoted(text: str, indent_lists: bool) -> None:
    document = {"annotations": {text: text}, "args": [text]}
    written = to_yaml([document], indent_lists=indent_lists)
    assert read(written) == [document]
    assert yaml.safe_load(written) == document


@pytest.mark.parametrize("text", ["chat", "a-b", "1.2.3", "12Gi", "vllm:latest", "8B", "0x", "yEs"])
def test_other_texts_stay_plain(text: str) -> None:
    assert to_yaml([{"a": text}]) == f"a: {text}\n"


@given(value=st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4), indent_lists=st.booleans())
def test_every_value_is_read_as_it_was(value: dict[str, Any], indent_lists: bool) -> None:
    written = to_yaml([value, value], explicit_start=True, indent_lists=indent_lists)
    assert read(written) == [value, value]
