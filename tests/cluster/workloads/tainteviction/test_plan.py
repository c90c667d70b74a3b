"""Taints that evict: at once, after a time, never, and not any more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pybrix.api.core import Pod, Taint, Toleration
from pybrix.cluster.workloads.tainteviction.plan import decide, tolerated_s
from pybrix.runtime.actions import Delete, Emit, PatchStatus
from tests.support.workloads import at, make_pod

BAD = Taint(key="bad", value="yes", effect="NoExecute")
WORSE = Taint(key="worse", effect="NoExecute")
SOFT = Taint(key="soft", effect="NoSchedule")


def tolerating(*tolerations: dict[str, Any]) -> Pod:
    pod = make_pod()
    pod.spec.tolerations = msgspec.convert(tolerations, list[Toleration])
    return pod


@pytest.mark.parametrize(
    ("tolerations", "taints", "want"),
    [
        pytest.param([], [SOFT], None, id="other effects evict nobody"),
        pytest.param([], [SOFT, BAD], 0, id="not tolerated"),
        pytest.param([{"key": "bad", "value": "no"}], [BAD], 0, id="another value"),
        pytest.param([{"key": "bad", "operator": "Exists", "effect": "NoSchedule"}], [BAD], 0, id="another effect"),
        pytest.param([{"key": "bad", "value": "yes"}], [BAD], None, id="tolerated for good"),
        pytest.param([{"operator": "Exists"}], [BAD, WORSE], None, id="everything is tolerated"),
        pytest.param([{"key": "bad", "value": "yes"}], [BAD, WORSE], 0, id="one of two is not tolerated"),
        pytest.param([{"operator": "Exists", "tolerationSeconds": 5}], [BAD], 5, id="for a time"),
        pytest.param([{"operator": "Exists", "tolerationSeconds": -1}], [BAD], 0, id="a negative time is none"),
        pytest.param(
            [
                {"key": "worse", "operator": "Exists", "tolerationSeconds": 9},
                {"key": "bad", "operator": "Exists", "tolerationSeconds": 3},
            ],
            [BAD, WORSE],
            3,
            id="the shortest time counts",
        ),
        pytest.param(
            [
                {"key": "bad", "operator": "Exists"},
                {"operator": "Exists", "tolerationSeconds": 3},
            ],
            [BAD],
            None,
            id="the first toleration that covers a taint counts",
        ),
    ],
)
def test_how_long_taints_are_stood(tolerations: list[dict[str, Any]], taints: list[Taint], want: float | None) -> None:
    assert tolerated_s(tolerating(*tolerations), taints) == want


def test_a_pod_that_does_not_tolerate_goes_at_once_and_says_why() -> None:
    status, delete, told = decide(make_pod(), [BAD], None, at(0)).plan.actions
    assert isinstance(status, PatchStatus)
    assert {c["type"]: c.get("reason") for c in status.status["conditions"]} == {
        "Ready": None,
        "DisruptionTarget": "DeletionByTaintManager",
    }
    assert isinstance(delete, Delete)
    assert delete.uid == make_pod().uid
    assert isinstance(told, Emit)
    assert (told.reason, told.why) == ("TaintManagerEviction", "Marking for deletion Pod default/web-1")


def test_a_pod_that_tolerates_for_a_time_goes_when_it_is_over_whatever_comes_then() -> None:
    pod = tolerating({"operator": "Exists", "tolerationSeconds": 60})
    first = decide(pod, [BAD], None, at(0))
    assert (first.due, first.plan.actions, first.plan.requeue_after_s) == (at(60), (), 60)
    again = decide(pod, [BAD, WORSE], first.due, at(40))
    assert (again.due, again.plan.requeue_after_s) == (at(60), 20)
    assert any(isinstance(a, Delete) for a in decide(pod, [BAD, WORSE], again.due, at(60)).plan.actions)


def test_another_taint_that_is_not_tolerated_ends_the_wait() -> None:
    pod = tolerating({"key": "bad", "operator": "Exists", "tolerationSeconds": 60})
    due = decide(pod, [BAD], None, at(0)).due
    assert any(isinstance(a, Delete) for a in decide(pod, [BAD, WORSE], due, at(1)).plan.actions)


def test_a_taint_that_goes_in_time_is_told_once_and_the_next_one_counts_anew() -> None:
    pod = tolerating({"operator": "Exists", "tolerationSeconds": 60})
    due = decide(pod, [BAD], None, at(0)).due
    spared = decide(pod, [], due, at(30))
    assert [a.why for a in spared.plan.actions] == ["Cancelling deletion of Pod default/web-1"]
    assert decide(pod, [], spared.due, at(31)).plan.actions == ()
    assert decide(pod, [BAD], spared.due, at(40)).due == at(100)


def test_a_pod_on_its_way_out_is_left_alone() -> None:
    assert decide(make_pod(terminating=True), [BAD], None, at(0)).plan.actions == ()
