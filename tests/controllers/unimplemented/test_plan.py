"""What is said of objects whose kind has no controller, and when nothing is."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from pybrix.api.markers import CustomResource
from pybrix.api.scheme import CUSTOM_KINDS, decode
from pybrix.controllers.unimplemented.plan import plan
from pybrix.kube.patch import apply_merge_patch
from pybrix.runtime.actions import Action, Emit, PatchStatus
from tests.support.manifests import changed, custom_schema, example

NOW = datetime(2026, 5, 1, 8, 0, tzinfo=UTC)
LATER = datetime(2026, 5, 1, 9, 0, tzinfo=UTC)
KINDS = [cls.gvk.kind for cls in CUSTOM_KINDS]


class World:
    """One object on a server that checks its status as a real one would."""

    def __init__(self, kind: str, changes: dict[str, Any] | None = None) -> None:
        self._schema = custom_schema(kind)
        self.document = self._schema.defaulted(changed(example(kind), changes or {}))
        self.document["metadata"] |= {"uid": "u", "resourceVersion": "1", "generation": 1}

    @property
    def obj(self) -> CustomResource:
        obj = decode(self.document)
        assert isinstance(obj, CustomResource)
        return obj

    @property
    def conditions(self) -> dict[str, dict[str, Any]]:
        return {c["type"]: c for c in self.document.get("status", {}).get("conditions", ())}

    def run(self, now: datetime = NOW) -> tuple[Action, ...]:
        """Make one pass and apply it."""
        actions = plan(self.obj, now).actions
        for action in actions:
            if isinstance(action, PatchStatus):
                assert action.resource_version == "1"
                after = apply_merge_patch(self.document, {"status": dict(action.status)})
                assert self._schema.check(copy.deepcopy(after), self.document) == []
                assert self._schema.prune(copy.deepcopy(after)) == []
                self.document = after
        return actions

    def set(self, **changes: Any) -> None:
        self.document = changed(self.document, {name.replace("__", "."): value for name, value in changes.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gets_a_status_that_the_server_takes_and_a_second_pass_writes_nothing(kind: str) -> None:
    world = World(kind)
    actions = world.run()
    assert [type(action) for action in actions] == [PatchStatus, Emit]
    ready = world.conditions["Ready"]
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("False", "NotImplemented", 1)
    assert kind in ready["message"]
    assert world.document["status"]["observedGeneration"] == 1
    assert world.run(LATER) == ()


def test_a_change_of_the_spec_is_answered_without_another_event() -> None:
    world = World("StormService")
    world.run()
    world.set(metadata__generation=2, spec__stateful=True)
    (action,) = world.run(LATER)
    assert isinstance(action, PatchStatus)
    assert world.document["status"]["observedGeneration"] == 2
    assert world.conditions["UnsupportedField"]["lastTransitionTime"] == "2026-05-01T09:00:00Z"
    assert world.conditions["Ready"]["lastTransitionTime"] == "2026-05-01T08:00:00Z"
    world.set(metadata__generation=3, spec__stateful=False)
    world.run(LATER)
    assert set(world.conditions) == {"Ready"}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (
            "StormService",
            {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": None}]},
        ),
        ("StormService", {"replicas": 3, "readyReplicas": 3}),
        ("ModelAdapter", {"phase": "Pending"}),
        (
            "PodAutoscaler",
            {
                "conditions": [
                    {
                        "type": "AbleToScale",
                        "status": "True",
                        "reason": "ReadyForNewScale",
                        "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }
                ]
            },
        ),
    ],
)
def test_what_another_controller_says_is_left_alone(kind: str, status: dict[str, Any]) -> None:
    world = World(kind)
    world.document["status"] = status
    assert world.run() == ()


@pytest.mark.parametrize("kind", ["StormService", "ModelAdapter", "KVCachePool"])
def test_what_was_said_is_taken_back_once_another_controller_comes(kind: str) -> None:
    world = World(kind)
    world.run()
    theirs = {"type": "Progressing", "status": "True", "reason": "Processing", "message": ""}
    world.document["status"]["conditions"].append(theirs | {"lastTransitionTime": "2026-05-01T08:30:00Z"})
    (action,) = world.run(LATER)
    assert isinstance(action, PatchStatus)
    assert set(world.conditions) == {"Progressing"}
    assert world.run(LATER) == ()


def test_counts_that_are_zero_are_nobody_else() -> None:
    world = World("RayClusterReplicaSet")
    world.document["status"] = {"replicas": 0}
    assert len(world.run()) == 2


def test_an_object_that_is_going_is_left_alone() -> None:
    world = World("RoleSet")
    world.set(metadata__deletionTimestamp="2026-05-01T07:59:00Z")
    assert world.run() == ()
