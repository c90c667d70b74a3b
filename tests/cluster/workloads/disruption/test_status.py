"""How many pods a disruption budget allows to be evicted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.disruption.status import BudgetPod, Observed, compute

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def budget(spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status}


def pods(ready: int, waiting: int = 0, ending: int = 0, workload: str = "w") -> tuple[BudgetPod, ...]:
    return (
        *(BudgetPod(f"r{n}", True, workload=workload) for n in range(ready)),
        *(BudgetPod(f"w{n}", False, workload=workload) for n in range(waiting)),
        *(BudgetPod(f"e{n}", True, True, workload) for n in range(ending)),
    )


@pytest.mark.parametrize(
    ("spec", "found", "replicas", "want"),
    [
        ({"minAvailable": 2}, pods(3), 3, (1, 3, 2, 3)),
        ({"minAvailable": 2}, pods(2, waiting=1), 3, (0, 2, 2, 3)),
        ({"minAvailable": 0}, pods(2), 2, (2, 2, 0, 2)),
        ({"minAvailable": 1}, (), 0, (0, 0, 1, 0)),
        ({"minAvailable": "50%"}, pods(3), 3, (1, 3, 2, 3)),
        ({"maxUnavailable": 1}, pods(3), 3, (1, 3, 2, 3)),
        ({"maxUnavailable": 1}, pods(2), 3, (0, 2, 2, 3)),
        ({"maxUnavailable": "25%"}, pods(4), 4, (1, 4, 3, 4)),
        ({"maxUnavailable": 5}, pods(3), 3, (3, 3, 0, 3)),
        ({"minAvailable": 1}, pods(1, ending=1), 2, (0, 1, 1, 2)),
    ],
)
def test_numbers(
    spec: dict[str, Any], found: tuple[BudgetPod, ...], replicas: int, want: tuple[int, int, int, int]
) -> None:
    status = compute(Observed(budget(spec), found, {"w": replicas}), NOW).status
    names = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    assert tuple(status[name] for name in names) == want
    assert status["observedGeneration"] == 3
    (condition,) = status["conditions"]
    assert condition["reason"] == ("SufficientPods" if want[0] else "InsufficientPods")


def test_percentage_of_pods_that_nobody_keeps_allows_nothing_and_says_why() -> None:
    status = compute(Observed(budget({"maxUnavailable": "10%"}), pods(3, workload="")), NOW).status
    assert status["disruptionsAllowed"] == 0
    assert status["conditions"][0]["reason"] == "SyncFailed"
    assert "found no controllers" in status["conditions"][0]["message"]


def test_evicted_pod_does_not_count_until_it_is_seen_to_end_or_is_given_up() -> None:
    noted = {"r0": format_rfc3339(NOW - timedelta(seconds=30)), "gone": format_rfc3339(NOW)}
    computed = compute(Observed(budget({"minAvailable": 1}, disruptedPods=noted), pods(2)), NOW)
    assert (computed.status["currentHealthy"], computed.status["disruptionsAllowed"]) == (1, 0)
    assert computed.status["disruptedPods"] == {"r0": noted["r0"]}
    assert computed.again_s == 90
    later = compute(Observed(budget({"minAvailable": 1}, disruptedPods=noted), pods(2)), NOW + timedelta(minutes=2))
    assert (later.status["disruptionsAllowed"], "disruptedPods" in later.status) == (1, False)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.sampled_from(["minAvailable", "maxUnavailable"]))
def test_what_is_allowed_leaves_what_is_desired(ready: int, waiting: int, number: int, field: str) -> None:
    seen = Observed(budget({field: number}), pods(ready, waiting), {"w": ready + waiting})
    first = compute(seen, NOW)
    status = first.status
    assert 0 <= status["disruptionsAllowed"] <= ready
    assert not status["disruptionsAllowed"] or ready - status["disruptionsAllowed"] >= status["desiredHealthy"]
    again = compute(Observed({**seen.budget, "status": status}, seen.pods, seen.replicas), NOW)
    assert again == first
