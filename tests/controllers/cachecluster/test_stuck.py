"""Which member a rollout is freed of."""

from __future__ import annotations

import pytest

from pybrix.api.apps import StatefulSet
from pybrix.api.core import Pod
from pybrix.controllers.cachecluster.stuck import plan_stuck

OWNER = StatefulSet.from_dict(
    {
        "metadata": {"name": "c", "namespace": "d", "uid": "s", "generation": 2},
        "status": {"observedGeneration": 2, "updateRevision": "new"},
    }
)


def pod(name: str, revision: str, *, ready: bool = False, **metadata: str) -> Pod:
    reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "c", "uid": "s", "controller": True}
    labels = {"controller-revision-hash": revision}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    meta = {"name": name, "namespace": "d", "uid": name, "labels": labels, "ownerReferences": [reference], **metadata}
    return Pod.from_dict({"metadata": meta, "spec": {}, "status": status})


@pytest.mark.parametrize(
    ("pods", "want"),
    [
        ([pod("c-0", "old", ready=True), pod("c-1", "old")], ["c-1"]),
        ([pod("c-2", "old"), pod("c-10", "old"), pod("c-9", "old")], ["c-10"]),
        ([pod("c-0", "old", ready=True), pod("c-1", "new")], []),
        # One that is on its way may serve in a moment: no two are away because of a rollout.
        ([pod("c-0", "old"), pod("c-1", "new")], []),
        ([pod("c-0", "old"), pod("c-1", "old", deletionTimestamp="2026-01-01T00:00:00Z")], []),
        ([pod("c-0", "old", ready=True), pod("c-1", "old", ready=True)], []),
        ([], []),
    ],
    ids=["old and away", "the last one", "new and away", "a new one is away, too", "one ends", "all serve", "nobody"],
)
def test_one_that_serves_nothing_and_is_of_an_old_spec(pods: list[Pod], want: list[str]) -> None:
    assert [action.key.name for action in plan_stuck(OWNER, OWNER, pods)] == want


def test_while_the_new_revision_is_not_known_nothing_is_deleted() -> None:
    late = StatefulSet.from_dict({**OWNER.to_dict(), "status": {"observedGeneration": 1, "updateRevision": "new"}})
    assert plan_stuck(OWNER, late, [pod("c-0", "old")]) == ()
    assert plan_stuck(OWNER, None, [pod("c-0", "old")]) == ()
