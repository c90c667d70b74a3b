"""Who is published, by how long pods are ready or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pybrix.api.core import Pod
from pybrix.base.clock import format_rfc3339
from pybrix.controllers.cachecluster.blueprint import MemberSource
from pybrix.controllers.cachecluster.members import NOBODY, Membership, plan_members
from pybrix.controllers.membership.records import Node, Record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = MemberSource({"role": "cache"}, 9600)


def pod(name: str, for_s: float, *, is_ready: bool = True, phase: str = "Running", **metadata: Any) -> Pod:
    """Return a pod that has been ready, or not ready, for so long; its number is part of its address."""
    ready = {
        "type": "Ready",
        "status": "True" if is_ready else "False",
        "lastTransitionTime": format_rfc3339(NOW - timedelta(seconds=for_s)),
    }
    meta = {"name": name, "namespace": "d", "uid": name, "labels": {"role": "cache"}, **metadata}
    status = {"phase": phase, "podIP": f"10.0.0.{name[-1]}", "conditions": [ready]}
    return Pod.from_dict({"metadata": meta, "spec": {}, "status": status})


def planned(published: list[str], pods: list[Pod]) -> Membership:
    nodes = tuple(Node(name, f"10.0.0.{name[-1]}", 9600) for name in published)
    return plan_members(pods, SOURCE, Record(nodes, 1) if nodes else None, min_ready_s=5, now=NOW)


def away(name: str, for_s: float) -> Pod:
    return pod(name, for_s, is_ready=False)


ENDING: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("published", "pods", "members", "waiting", "again_s"),
    [
        ([], [pod("c-0", 0), pod("c-1", 0)], ["c-0", "c-1"], [], None),
        (["c-0"], [pod("c-0", 2), pod("c-1", 0)], ["c-0", "c-1"], [], None),
        (["c-0"], [pod("c-0", 60), pod("c-1", 2), pod("c-2", 4)], ["c-0"], ["c-1", "c-2"], 1),
        (["c-0"], [pod("c-0", 60), pod("c-1", 5)], ["c-0", "c-1"], [], None),
        (["c-0", "c-1"], [pod("c-0", 60), pod("c-1", 1)], ["c-0", "c-1"], [], None),
        (["c-0", "c-1"], [pod("c-0", 60), away("c-1", 1)], ["c-0", "c-1"], [], 4),
        (["c-0", "c-1"], [pod("c-0", 60), away("c-1", 5)], ["c-0"], [], None),
        (["c-0"], [pod("c-0", 60), away("c-1", 1)], ["c-0"], [], None),
        (["c-0", "c-1"], [pod("c-0", 60), pod("c-1", 60, **ENDING)], ["c-0"], [], None),
        (["c-0", "c-1"], [pod("c-0", 60), pod("c-1", 1, is_ready=False, phase="Failed")], ["c-0"], [], None),
        (["c-0"], [pod("c-0", 60, **ENDING), pod("c-1", 0)], ["c-1"], [], None),
        (["c-0"], [away("c-0", 2), pod("c-1", 0)], ["c-0", "c-1"], [], 3),
        (["c-0"], [pod("c-0", 60), pod("c-1", -60)], ["c-0"], ["c-1"], 65),
    ],
    ids=[
        "a new cache comes at once",
        "nothing is lost of one that has just come",
        "one that has just come waits while another has served for long",
        "it has been ready for long enough",
        "a member that was away for a moment stays",
        "a member that is away for a moment stays",
        "a member that is away for longer goes",
        "one that was no member does not come by being away",
        "one that ends goes at once",
        "one that has ended goes at once",
        "in place of the last one another one comes at once",
        "so it does while the only one is away",
        "a clock that is ahead only delays",
    ],
)
def test_who_comes_and_who_goes(
    published: list[str], pods: list[Pod], members: list[str], waiting: list[str], again_s: float | None
) -> None:
    got = planned(published, pods)
    assert ([m.name for m in got.members], list(got.waiting), got.again_s) == (members, waiting, again_s)


def test_another_pod_by_the_name_of_a_member_keeps_its_slots_only_when_it_answers() -> None:
    record = Record((Node("c-0", "10.0.0.9", 9600),), 1)
    for is_ready, want in ((True, ["10.0.0.0"]), (False, [])):
        got = plan_members([pod("c-0", 0, is_ready=is_ready)], SOURCE, record, min_ready_s=5, now=NOW)
        assert [member.addr for member in got.members] == want


def test_pods_of_others_and_without_an_address_are_no_members() -> None:
    nowhere = Pod.from_dict({**pod("c-0", 60).to_dict(), "status": {"phase": "Running"}})
    assert planned([], [nowhere, pod("c-1", 60, labels={"role": "metadata"})]) == NOBODY
