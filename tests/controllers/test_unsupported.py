"""Fields without effect: what the table says is true of the kinds, and the condition comes and goes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pybrix.api.conditions import RolloutCondition, StandardCondition
from pybrix.api.crds import root_schema
from pybrix.api.markers import CustomResource
from pybrix.api.meta import find_condition
from pybrix.api.scheme import CUSTOM_KINDS, decode
from pybrix.controllers.unsupported import CONDITION, TABLE, unsupported_fields, with_unsupported
from tests.support.manifests import changed, custom_schema, example

EARLY, LATE = "2026-05-01T08:00:00Z", "2026-05-02T08:00:00Z"
ROWS = [(kind, row.path) for kind, rows in TABLE.items() for row in rows]


def make(kind: str, changes: dict[str, Any] | None = None) -> CustomResource:
    """Return an object as a server stores it: the example with changes, all defaults filled in."""
    stored = custom_schema(kind).defaulted(changed(example(kind), changes or {}))
    obj = decode(stored)
    assert isinstance(obj, CustomResource)
    return obj


def paths(obj: CustomResource) -> list[str]:
    return [field.path for field in unsupported_fields(obj)]


@pytest.mark.parametrize("kind", [cls.gvk.kind for cls in CUSTOM_KINDS])
def test_no_example_sets_a_field_without_effect(kind: str) -> None:
    assert paths(make(kind)) == []


@pytest.mark.parametrize(("cls", "path"), ROWS, ids=[f"{cls.gvk.kind} {path}" for cls, path in ROWS])
def test_every_row_names_a_field_of_its_kind(cls: type[CustomResource], path: str) -> None:
    schema = root_schema(cls)
    for name in path.split("."):
        schema = schema["properties"][name.removesuffix("[]")]
        if name.endswith("[]"):
            schema = schema["items"]
    assert schema["type"] in ("string", "boolean", "object")


@pytest.mark.parametrize(
    ("kind", "changes", "want"),
    [
        ("StormService", {"spec.stateful": True}, ["spec.stateful"]),
        ("StormService", {"spec.stateful": False}, []),
        ("PodSet", {"spec.stateful": True}, ["spec.stateful"]),
        ("KVCache", {"spec.mode": "centralized"}, ["spec.mode"]),
        ("KVCache", {"spec.mode": "distributed"}, []),
        ("RoleSet", {"spec.roles.0.template.metadata.name": "mine"}, ["spec.roles[0].template.metadata.name"]),
        ("RayClusterFleet", {"spec.template.metadata.namespace": "b"}, ["spec.template.metadata.namespace"]),
        ("ModelAdapter", {}, []),
    ],
)
def test_a_field_counts_when_it_is_set_to_something_else_than_its_default(
    kind: str, changes: dict[str, Any], want: list[str]
) -> None:
    assert paths(make(kind, changes)) == want


def test_every_role_is_looked_at() -> None:
    roles = make("StormService", {"spec.template.spec.roles.0.template.metadata.name": "a"})
    twin = msgspec.to_builtins(roles)["spec"]["template"]["spec"]["roles"][0] | {"name": "twin"}
    service = make("StormService", {"spec.template.spec.roles": [twin, twin | {"name": "other"}]})
    assert paths(service) == [f"spec.template.spec.roles[{n}].template.metadata.name" for n in (0, 1)]


def test_the_condition_is_there_while_the_field_is_set() -> None:
    adapter = make("KVCache", {"spec.mode": "centralized"})
    adapter.metadata.generation = 3
    ready = StandardCondition(type="Ready", status="True", reason="Fine", message="", last_transition_time=EARLY)
    told = with_unsupported([ready], StandardCondition, adapter, EARLY)
    condition = find_condition(told, CONDITION)
    assert told[0] is ready
    assert condition is not None
    assert condition.is_true
    assert condition.observed_generation == 3
    assert condition.message.startswith("spec.mode has no effect: ")

    again = with_unsupported(told, StandardCondition, adapter, LATE)
    assert again == told
    assert with_unsupported(told, StandardCondition, make("KVCache"), LATE) == [ready]


def test_the_older_shape_of_conditions_is_served_as_well() -> None:
    (condition,) = with_unsupported([], RolloutCondition, make("PodSet", {"spec.stateful": True}), EARLY)
    assert (condition.type, condition.status, condition.last_transition_time) == (CONDITION, "True", EARLY)


def test_a_long_list_is_cut() -> None:
    role = example("RoleSet")["spec"]["roles"][0]
    roles = [changed(role, {"name": f"r{n}", "template.metadata.name": "mine"}) for n in range(30)]
    (condition,) = with_unsupported([], RolloutCondition, make("RoleSet", {"spec.roles": roles}), EARLY)
    assert condition.message.endswith("; and 20 more")
