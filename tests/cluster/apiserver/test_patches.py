"""JSON patch, merge patch and strategic merge patch, as tables and properties."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.cluster.apiserver.jsonpatch import (
    MAX_OPERATIONS,
    MalformedPatch,
    PatchDoesNotApply,
    apply_json_patch,
)
from pybrix.cluster.apiserver.resources import TYPES
from pybrix.cluster.apiserver.strategic import apply_strategic_patch
from pybrix.kube.patch import apply_merge_patch

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=10,
)
POD = TYPES["PodSpec"]


@given(
    st.dictionaries(st.text(max_size=2), DOCUMENTS, max_size=3),
    st.dictionaries(st.text(max_size=2), DOCUMENTS, max_size=3),
)
def test_difference_made_elsewhere_applies_here(before: dict[str, Any], after: dict[str, Any]) -> None:
    kept = copy.deepcopy(before)
    assert apply_json_patch(before, jsonpatch.make_patch(before, after).patch) == after
    assert before == kept


@pytest.mark.parametrize(
    ("operations", "want"),
    [
        ([{"op": "add", "path": "/l/-", "value": 3}], {"l": [1, 2, 3]}),
        ([{"op": "add", "path": "/l/0", "value": 0}], {"l": [0, 1, 2]}),
        ([{"op": "move", "from": "/l/0", "path": "/first"}], {"l": [2], "first": 1}),
        ([{"op": "copy", "from": "/l", "path": "/m"}], {"l": [1, 2], "m": [1, 2]}),
        ([{"op": "replace", "path": "", "value": {"x": 1}}], {"x": 1}),
        ([{"op": "add", "path": "/a~1b~0c", "value": 1}], {"l": [1, 2], "a/b~c": 1}),
    ],
)
def test_operations(operations: list[Any], want: Any) -> None:
    assert apply_json_patch({"l": [1, 2]}, operations) == want


@pytest.mark.parametrize(
    ("operations", "error"),
    [
        ({}, MalformedPatch),
        ([1], MalformedPatch),
        ([{"op": "fly", "path": "/l"}], MalformedPatch),
        ([{"op": "add", "path": "l", "value": 1}], MalformedPatch),
        ([{"op": "add", "path": "/l"}], MalformedPatch),
        ([{"op": "add", "path": None, "value": 1}], MalformedPatch),
        ([{"op": "test", "path": "/l", "value": 1}] * (MAX_OPERATIONS + 1), MalformedPatch),
        ([{"op": "copy", "from": "", "path": "/l/-"}] * 60, MalformedPatch),
        ([{"op": "remove", "path": "/nope"}], PatchDoesNotApply),
        ([{"op": "remove", "path": "/l/2"}], PatchDoesNotApply),
        ([{"op": "remove", "path": "/l/01"}], PatchDoesNotApply),
        ([{"op": "add", "path": "/l/x", "value": 1}], PatchDoesNotApply),
        ([{"op": "add", "path": "/l/0/x", "value": 1}], PatchDoesNotApply),
        ([{"op": "move", "from": "/l", "path": "/l/0"}], PatchDoesNotApply),
    ],
)
def test_wrong_patches_are_told_apart_from_those_that_do_not_fit(operations: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        apply_json_patch({"l": ["x" * 1000, 2]}, operations)


@given(DOCUMENTS, DOCUMENTS)
def test_merge_patch_is_idempotent(target: Any, patch: Any) -> None:
    once = apply_merge_patch(target, patch)
    assert apply_merge_patch(once, patch) == once


def containers(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "image": "x"} for name in names]


@pytest.mark.parametrize(
    ("target", "patch", "want"),
    [
        pytest.param(
            {"containers": containers("a", "b")},
            {"containers": [{"name": "b", "image": "y"}]},
            {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]},
            id="an item is found by its name",
        ),
        pytest.param(
            {"containers": containers("a", "b")},
            {"containers": [{"name": "a", "$patch": "delete"}]},
            {"containers": containers("b")},
            id="delete removes the item",
        ),
        pytest.param(
            {"containers": containers("a", "b")},
            {"containers": [{"$patch": "replace"}, {"name": "c"}]},
            {"containers": [{"name": "c"}]},
            id="replace replaces the list",
        ),
        pytest.param(
            {"nodeSelector": {"a": "1"}},
            {"nodeSelector": {"$patch": "replace", "b": "2"}},
            {"nodeSelector": {"b": "2"}},
            id="replace replaces the map",
        ),
        pytest.param(
            {"securityContext": {"runAsUser": 1}, "hostname": "h"},
            {"securityContext": {"$patch": "delete"}, "hostname": None},
            {},
            id="delete and null remove the field",
        ),
        pytest.param(
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]},
            {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]},
            id="retainKeys drops the other kind of volume",
        ),
        pytest.param(
            {"containers": containers("a", "b", "own")},
            {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
                "containers": [{"name": "c"}],
            },
            {"containers": [{"name": "c"}, *containers("b", "own", "a")]},
            id="order is the client's, others stay behind their neighbour",
        ),
        pytest.param(
            {"containers": [{"name": "a", "args": ["1", "2"]}]},
            {"containers": [{"name": "a", "args": ["3"]}]},
            {"containers": [{"name": "a", "args": ["3"]}]},
            id="a list without a key is replaced",
        ),
        pytest.param(
            {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]},
            {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]},
            {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]},
            id="lists below lists merge too",
        ),
    ],
)
def test_strategic_merge(target: dict[str, Any], patch: dict[str, Any], want: dict[str, Any]) -> None:
    kept = copy.deepcopy(target)
    assert apply_strategic_patch(target, patch, POD) == want
    assert target == kept


def test_finalizers_merge_as_a_set() -> None:
    shape = TYPES["ObjectMeta"]
    merged = apply_strategic_patch({"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, shape)
    assert merged == {"finalizers": ["a", "b"]}
    gone = apply_strategic_patch(merged, {"$deleteFromPrimitiveList/finalizers": ["a"]}, shape)
    assert gone == {"finalizers": ["b"]}


@pytest.mark.parametrize(
    "patch",
    [
        [],
        {"containers": [{"image": "x"}]},
        {"containers": ["x"]},
        {"securityContext": {"$patch": "sideways"}},
        {"$retainKeys": 3},
        {"$setElementOrder/containers": 3},
        {"$deleteFromPrimitiveList/containers": 3},
    ],
)
def test_wrong_strategic_patch_is_named(patch: Any) -> None:
    with pytest.raises(MalformedPatch):
        apply_strategic_patch({"containers": containers("a")}, patch, POD)
