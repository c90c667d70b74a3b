"""Objects that mutating policies construct, written as maps and read back."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.cluster.apiserver.structural.cel import CelError, compile_expression
from pybrix.cluster.apiserver.structural.constructors import as_maps, configuration, patch_operations

OBJECT = {"spec": {"n": 3, "names": ["a", "b"]}, "metadata": {"name": "x"}}


def evaluate(text: str) -> Any:
    return compile_expression(as_maps(text), ("object",)).evaluate({"object": OBJECT})


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("[]", []),
        (
            "[JSONPatch{op: 'add', path: '/a', value: 1}, JSONPatch{op: 'remove', path: '/b',}]",
            [{"op": "add", "path": "/a", "value": 1}, {"op": "remove", "path": "/b"}],
        ),
        (
            '[JSONPatch{op: r"\\d" == "" ? "" : "move", from: "/a" + "JSONPatch{x: 1}", path: "/b"}]',
            [{"op": "move", "from": "/aJSONPatch{x: 1}", "path": "/b"}],
        ),
        (
            "object.spec.names.map(n, JSONPatch{op: 'add', path: '/' + n, value: {'k': [1, true, null, 'x', 1.5]}})",
            [{"op": "add", "path": f"/{n}", "value": {"k": [1, True, None, "x", 1.5]}} for n in "ab"],
        ),
        (
            "// a JSONPatch{ in a comment\n"
            "[JSONPatch {op: object.spec.n > 2 ? 'add' : 'remove', ?value: optional.none(), path: ''}]",
            [{"op": "add", "path": ""}],
        ),
        (
            "[JSONPatch{op: 'add', path: '/c', value: Object.spec.containers{"
            "name: 'a', ports: [Object.spec.containers.ports{containerPort: 1}]}}]",
            [{"op": "add", "path": "/c", "value": {"name": "a", "ports": [{"containerPort": 1}]}}],
        ),
        (
            "[JSONPatch{op: 'add', path: '/t', value: timestamp('2026-01-02T03:04:05Z')}]",
            [{"op": "add", "path": "/t", "value": "2026-01-02T03:04:05Z"}],
        ),
        ("[JSONPatch{op: 'add', path: '/b', value: b'hi'}]", [{"op": "add", "path": "/b", "value": "aGk="}]),
        (
            "object.spec.n == 3 ? [JSONPatch{op: 'add', path: '/a', value: {}}] : []",
            [{"op": "add", "path": "/a", "value": {}}],
        ),
    ],
)
def test_patches(text: str, want: list[dict[str, Any]]) -> None:
    assert patch_operations(evaluate(text)) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Object{}", {}),
        ("Object{spec: Object.spec{n: object.spec.n + 1}}", {"spec": {"n": 4}}),
        (
            "Object{spec: Object.spec{l: [Object.spec.l{a: 1}, Object.spec.l{a: 2}]}}",
            {"spec": {"l": [{"a": 1}, {"a": 2}]}},
        ),
        ("Object{metadata: Object.metadata{labels: {'a.b/c': 'd'}}}", {"metadata": {"labels": {"a.b/c": "d"}}}),
        ("Object{spec: Object.spec{?a: optional.of(1), ?b: optional.none()}}", {"spec": {"a": 1}}),
        (
            "Object{spec: Object.spec{__namespace__: 1, a__dash__b: 2, c__dot__d__slash__e: 3}}",
            {"spec": {"namespace": 1, "a-b": 2, "c.d/e": 3}},
        ),
    ],
)
def test_configurations(text: str, want: dict[str, Any]) -> None:
    assert configuration(evaluate(text)) == want


@pytest.mark.parametrize(
    "text",
    [
        "Object{spec: Object.metadata{}}",
        "Object{spec: Object.spec{l: [Object.spec{}]}}",
        "Object.spec{}",
        "{}",
        "Object{spec: {1: 2}}",
        "Object{spec: type(1)}",
        "[Object{}]",
    ],
)
def test_what_does_not_belong_is_refused(text: str) -> None:
    with pytest.raises(CelError):
        configuration(evaluate(text))


@pytest.mark.parametrize("text", ["{}", "'x'", "[1]", "[{}]", "[Object{}]", "JSONPatch{op: 'add'}"])
def test_what_is_no_patch_is_refused(text: str) -> None:
    with pytest.raises(CelError, match="array of JSONPatch"):
        patch_operations(evaluate(text))


def test_field_that_a_patch_does_not_have_is_named() -> None:
    with pytest.raises(CelError, match="undefined field 'pth'"):
        as_maps("[JSONPatch{op: 'add', pth: '/a'}]")


@pytest.mark.parametrize(
    "text",
    [
        "object.Object",
        "Object",
        "{'Object': 1}",
        "'Object{a: 1}'",
        "object.spec.n",
        "a ? {'b': c} : {}",
        "JSONPatch.x{a: 1}",
        "x.Object{a: 1}",
        "",
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert as_maps(text) == text


@given(text=st.text(alphabet="JSONPatchObject.{}[](),:?'\"\\ \nr/1a", max_size=60))
def test_no_text_makes_it_fall_over(text: str) -> None:
    with contextlib.suppress(CelError):
        as_maps(text)
