"""How many cache servers are as the spec has it."""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.api.apps import Deployment, StatefulSet
from pybrix.api.core import Pod
from pybrix.api.meta import Object
from pybrix.controllers.cachecluster.blueprint import Blueprint, MemberSource, Seen
from pybrix.controllers.cachecluster.conditions import Counts, Pass, count

LABELS = {"cache": "c"}
META = {"name": "c", "namespace": "d", "generation": 2}


def pod(revision: str, phase: str = "Running") -> Pod:
    labels = {**LABELS, "controller-revision-hash": revision}
    return Pod.from_dict({"metadata": {"name": "p", "labels": labels}, "spec": {}, "status": {"phase": phase}})


def stateful(**status: Any) -> StatefulSet:
    return StatefulSet.from_dict({"metadata": META, "status": {"observedGeneration": 2, "replicas": 2, **status}})


@pytest.mark.parametrize(
    ("workload", "pods", "updated", "is_observed"),
    [
        (stateful(updateRevision="new"), [pod("new"), pod("old")], 1, True),
        (stateful(updateRevision="new", currentRevision="new"), [pod("new"), pod("new")], 2, True),
        # One that was made anew over the pods of the one before: all its revisions are the new one.
        (stateful(updateRevision="new", currentRevision="new"), [pod("old"), pod("old")], 0, True),
        (stateful(updateRevision="new", observedGeneration=1), [pod("new")], 1, False),
        (stateful(), [pod("old")], 0, True),
        (Deployment.from_dict({"metadata": META, "status": {"updatedReplicas": 2}}), [pod("x"), pod("y")], 2, False),
        (None, [pod("old")], 0, False),
    ],
    ids=["under way", "done", "adopted", "not seen yet", "no revision yet", "a Deployment", "no workload"],
)
def test_servers_of_the_present_template(
    workload: Object | None, pods: list[Pod], updated: int, is_observed: bool
) -> None:
    key = ("StatefulSet", "c")
    blueprint = Blueprint(2, MemberSource(LABELS, 9600), key)
    children = {} if workload is None else {key: workload}
    found = count(Pass(Seen(tuple(pods), children), blueprint))
    assert found == Counts(present=len(pods), ready=0, updated=updated, is_observed=is_observed)


def test_one_that_has_ended_is_none() -> None:
    key = ("StatefulSet", "c")
    blueprint = Blueprint(2, MemberSource(LABELS, 9600), key)
    found = count(Pass(Seen((pod("new"), pod("old", "Failed")), {key: stateful(updateRevision="new")}), blueprint))
    assert (found.present, found.updated) == (1, 1)
