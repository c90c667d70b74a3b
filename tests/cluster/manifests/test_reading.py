"""Reading manifests: values as `kubectl` reads them, places, and texts that mean harm."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.base.errors import UsageError
from pybrix.cluster.manifests.files import Source, parse_source, read_sources
from pybrix.cluster.manifests.jsontext import read_json
from pybrix.cluster.manifests.nodes import MAX_NODES, locate
from pybrix.cluster.manifests.yamltext import plain_value, read_yaml


def values(text: str) -> list[Any]:
    read = read_yaml(text)
    assert read.problems == []
    return [node.to_value() for node in read.documents]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1", 1),
        ("-7", -7),
        ("+7", 7),
        ("0x1F", 31),
        ("0b101", 5),
        ("017", 15),
        ("0o17", 15),
        ("0O17", 15),
        ("0X1F", 31),
        ("-0B11", -3),
        ("1e400", "1e400"),
        ("-1e999", "-1e999"),
        ("08", 8),
        ("1_000", 1000),
        ("1.0", 1),
        ("1.5", 1.5),
        ("1e3", 1000),
        (".5", 0.5),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 1.8446744073709552e19),
        ("yes", True),
        ("Off", False),
        ("y", True),
        ("~", None),
        ("", None),
        ("null", None),
        ("22:30", "22:30"),
        ("2001-01-01", "2001-01-01"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("12Gi", "12Gi"),
        ("1e", "1e"),
        ("yEs", "yEs"),
        ("0x", "0x"),
        ("1_0.5", "1_0.5"),
    ],
)
def test_plain_values_are_those_of_kubectl(text: str, want: Any) -> None:
    got = plain_value(text)
    assert (got, type(got)) == (want, type(want))


def test_quotes_tags_and_blocks_make_text() -> None:
    assert values("a: '1'\nb: \"yes\"\nc: !!str 5\nd: |\n  x\n  y\ne: ! 7\n") == [
        {"a": "1", "b": "yes", "c": "5", "d": "x\ny\n", "e": "7"}
    ]


def test_anchors_aliases_and_merge_keys_are_written_out() -> None:
    text = "base: &b {x: 1, w: {z: 2}}\none: *b\ntwo: {<<: *b, x: 9}\nthree: {<<: [{q: 1, x: 5}, *b]}\n"
    base = {"x": 1, "w": {"z": 2}}
    assert values(text) == [
        {"base": base, "one": base, "two": {"x": 9, "w": base["w"]}, "three": {"q": 1, "x": 5, "w": base["w"]}}
    ]


def test_documents_without_content_are_left_out() -> None:
    assert values("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n") == [{"a": 1}, {"b": 2}]


def test_keys_that_are_no_text_become_text() -> None:
    assert values("{8080: a, true: b, 1.5: c}") == [{"8080": "a", "true": "b", "1.5": "c"}]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: [1\nc: 2\n", 3, "not valid YAML"),
        ("a:\n\tb: 1\n", 2, "not valid YAML"),
        ("a: 1\nb: *nothing\n", 2, "refers to no anchor before it"),
        ("a: &a [1, *a]\n", 1, "refers to a value that contains it"),
        ("a: 1\nb: .inf\n", 2, "finite"),
        ("a: 1\nb: !!binary aGk=\n", 2, "has no JSON form"),
        ("a: !Ref x\n", 1, "has no JSON form"),
        ("a: !!int x\n", 1, "no int"),
        ("? {a: 1}\n: 2\n", 1, "must be a string"),
        ("a: 1\n~: 2\n", 2, "quote it"),
        ("a: 1\nb: 2\na: 3\n", 3, "twice, first on line 1"),
        ("a: {<<: 5}\n", 1, "merge key"),
        ("a: 1\non: 2\n", 2, "the key on without quotes means true"),
    ],
)
def test_problem_of_yaml_has_its_line(text: str, line: int, word: str) -> None:
    (problem,) = read_yaml(text).problems
    assert problem.at.line == line
    assert word in problem.message


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ('{"a": 1,\n "b" 2}', 2, "expected :"),
        ('{"a": 1,\n "b": }', 2, "expected a value"),
        ('{"a": [1,\n 2', 2, "expected , or ]"),
        ('{"a":\n NaN}', 2, "expected a value"),
        ('{"a": 1\n "b": 2}', 2, "expected , or }"),
        ('{"a": 1,\n}', 2, "double quotes"),
        ('{"a":\n 1e999}', 2, "too large"),
        ('{"a":\n "\\ud800"}', 2, "surrogate"),
        ('{"a": 1,\n "a": 2}', 2, "twice, first on line 1"),
        ('{"a": 1}\n]', 2, "expected a value"),
    ],
)
def test_problem_of_json_has_its_line(text: str, line: int, word: str) -> None:
    (problem,) = read_json(text).problems
    assert problem.at.line == line
    assert word in problem.message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(value=st.dictionaries(st.text(max_size=6), JSON_VALUES, max_size=5), indent=st.sampled_from([None, 2]))
def test_json_is_read_as_it_was_written(value: dict[str, Any], indent: int | None) -> None:
    read = read_json(json.dumps(value, indent=indent, ensure_ascii=indent is None))
    assert read.problems == []
    assert [node.to_value() for node in read.documents] == [value]


@given(text=st.text(max_size=200) | st.text(alphabet="{}[]:,&*-! \n\"'ab1<|>?%@#", max_size=80))
def test_any_text_is_read_or_gets_a_problem(text: str) -> None:
    for read in (read_yaml(text), read_json(text)):
        for problem in read.problems:
            assert problem.message
            assert problem.at.line >= 1
        for node in read.documents:
            json.dumps(node.to_value()).encode()


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def merge_bomb(levels: int) -> str:
    lines = ["a0: &a0 {" + ", ".join(f"k{i}: 1" for i in range(9)) + "}"]
    lines += [f"a{i}: &a{i} {{" + ", ".join(f"m{j}: *a{i - 1}" for j in range(9)) + "}" for i in range(1, levels)]
    return "\n".join([*lines, f"z: {{<<: *a{levels - 1}}}"])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        pytest.param(bomb(9), "aliases written out", id="bomb"),
        pytest.param(bomb(60), "aliases written out", id="bomb of astronomic size"),
        pytest.param(merge_bomb(9), "aliases written out", id="bomb of merge keys"),
        pytest.param("a: " + "[" * 100_000, "deeper than", id="deep flow YAML"),
        pytest.param("- " * 100_000 + "x", "deeper than", id="deep block YAML"),
        pytest.param('{"a":' * 100_000, "deeper than", id="deep JSON"),
        pytest.param("a:\n" + "- x\n" * (MAX_NODES + 1), "more than", id="many values"),
        pytest.param('{"a": [' + "1," * MAX_NODES, "more than", id="many JSON values"),
        pytest.param("{" + ", ".join(f'"k": {i}' for i in range(5_000)) + "}", "mistakes", id="one key many times"),
        pytest.param("x" * (9 << 20), "MiB", id="a large file"),
    ],
)
def test_harmful_text_is_refused_soon(text: str, word: str) -> None:
    started = time.process_time()
    read = parse_source(Source("f", text.encode()))
    assert word in read.problems[-1].message
    assert len(read.problems) <= 101
    assert time.process_time() - started < 30


def test_bytes_that_are_no_text_are_refused() -> None:
    assert "UTF-8" in parse_source(Source("f", b"a: \xff\xfe")).problems[0].message
    assert parse_source(Source("f", "\ufeffa: 1".encode())).problems == []


PATHS = """\
metadata:
  annotations:
    example.com/a.b: x
    model.aibrix.ai/name: y
spec:
  ports: [{name: a}, {name: b}]
  template:
    spec:
      containers:
        - name: c
"""


@pytest.mark.parametrize(
    ("path", "line", "column", "is_exact"),
    [
        ("metadata.annotations[example.com/a.b]", 3, 22, True),
        ("metadata.annotations.model.aibrix.ai/name", 4, 27, True),
        ("spec.ports[1].name", 6, 29, True),
        ("spec.ports[1]", 6, 22, True),
        ("spec.ports[7].name", 6, 3, False),
        ("spec.template.spec.containers[0].name", 10, 17, True),
        ("spec.template.spec.containers[0].image", 10, 11, False),
        ("spec.template", 7, 3, True),
        ("status.phase", 1, 1, False),
        ("", 1, 1, True),
    ],
)
def test_field_paths_lead_to_places(path: str, line: int, column: int, is_exact: bool) -> None:
    place = locate(read_yaml(PATHS).documents[0], path)
    assert (place.at.line, place.at.column, place.is_exact) == (line, column, is_exact)


def test_directories_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("b: 1")
    (tmp_path / "a.yml").write_text("a: 1")
    (tmp_path / "note.txt").write_text("-")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "c.json").write_text("{}")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)

    def names(*, recursive: bool) -> list[str]:
        with (tmp_path / "note.txt").open("rb") as stdin:
            return [Path(s.name).name for s in read_sources([str(tmp_path), "-"], recursive=recursive, stdin=stdin)]

    assert names(recursive=False) == ["a.yml", "b.yaml", "<stdin>"]
    assert names(recursive=True) == ["a.yml", "b.yaml", "c.json", "<stdin>"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with (tmp_path / "empty").open("wb+") as stdin:
        with pytest.raises(UsageError, match="No such file"):
            list(read_sources([str(tmp_path / "no.yaml")], recursive=False, stdin=stdin))
        with pytest.raises(UsageError, match="has no manifest"):
            list(read_sources([str(tmp_path)], recursive=True, stdin=stdin))
