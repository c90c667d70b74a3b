"""Who is told that there is no sidecar."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from pybrix.api.meta import Object
from pybrix.api.scheme import decode
from pybrix.api.sidecar import injected, lacks_sidecar
from pybrix.controllers.sidecarinjection.plan import REASON, may_matter, plan
from pybrix.runtime.actions import Emit
from tests.support.injections import deployment, engine, pod_template, storm_service, workloads


def told(obj: dict[str, Any]) -> list[tuple[str, str]]:
    return [(a.reason, a.type) for a in plan(decode(obj)).actions if isinstance(a, Emit)]


@pytest.mark.parametrize(
    ("obj", "is_told"),
    [
        (deployment(), True),
        (storm_service(), True),
        (deployment(asks=None), False),
        (deployment(asks="false"), False),
        (injected(deployment()), False),
        (injected(storm_service()), False),
        (storm_service(pod_template(), pod_template(engine("aibrix-runtime"))), True),
        ({**deployment(), "spec": {}}, False),
    ],
)
def test_who_is_told(obj: dict[str, Any], is_told: bool) -> None:
    assert told(obj) == ([(REASON, "Warning")] if is_told else [])


def test_what_is_being_deleted_is_left_in_peace() -> None:
    obj = deployment()
    obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert told(obj) == []


@given(obj=workloads())
def test_typed_objects_say_the_same(obj: dict[str, Any]) -> None:
    assert bool(told(obj)) is lacks_sidecar(obj)


def changed(**metadata: Any) -> Object:
    obj = deployment()
    obj["metadata"] |= {"generation": 1, "resourceVersion": "5", **metadata}
    return decode(obj)


@pytest.mark.parametrize(
    ("new", "want"),
    [
        (changed(resourceVersion="6"), False),
        (changed(labels={"a": "b"}), False),
        (changed(generation=2), True),
        (changed(annotations={}), True),
    ],
)
def test_which_changes_matter(new: Object, want: bool) -> None:
    assert may_matter(changed(), new) is want
