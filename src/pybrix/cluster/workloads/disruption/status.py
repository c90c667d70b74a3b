"""How many pods of a disruption budget may be evicted now.

https://kubernetes.io/docs/tasks/run-application/configure-pdb/; numbers as upstream's disruption controller has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from pybrix.api.meta import Condition, set_condition
from pybrix.base.clock import format_rfc3339, parse_rfc3339
from pybrix.base.quantity import parse_int_or_percent

EVICTION_TIMEOUT = timedelta(minutes=2)
"""How long an allowed eviction may take to be seen; after it the pod counts again."""
_CONDITION = "DisruptionAllowed"


@dataclass(frozen=True, slots=True)
class BudgetPod:
    """A pod that the budget selects and that has not finished."""

    name: str
    is_ready: bool
    is_terminating: bool = False
    workload: str = ""
    """Identity of the workload that keeps it; empty: none does."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A budget, its pods, and how many replicas the workloads that keep them want."""

    budget: Mapping[str, Any]
    pods: tuple[BudgetPod, ...] = ()
    replicas: Mapping[str, int] = field(default_factory=dict)
    """By identity of the workload; one that has no replicas, or is not there, is left out."""


@dataclass(frozen=True, slots=True)
class Computed:
    """The status, and after how many seconds it may differ without any change (None: never)."""

    status: dict[str, Any]
    again_s: float | None = None


def compute(seen: Observed, now: datetime) -> Computed:
    """Return the status of a budget; one that cannot be counted allows nothing and says why."""
    metadata, before = seen.budget["metadata"], seen.budget.get("status") or {}
    disrupted, again_s = _still_disrupted(before.get("disruptedPods") or {}, seen.pods, now)
    healthy = sum(p.is_ready and not p.is_terminating and p.name not in disrupted for p in seen.pods)
    try:
        expected, desired = _expectation(seen)
    except ValueError as err:
        numbers = {"disruptionsAllowed": 0, "currentHealthy": healthy, "desiredHealthy": 0, "expectedPods": 0}
        condition = Condition(type=_CONDITION, status="False", reason="SyncFailed", message=str(err))
    else:
        allowed = max(healthy - desired, 0) if expected > 0 else 0
        numbers = {"disruptionsAllowed": allowed, "currentHealthy": healthy}
        numbers |= {"desiredHealthy": desired, "expectedPods": expected}
        reason = "SufficientPods" if allowed else "InsufficientPods"
        condition = Condition(type=_CONDITION, status="True" if allowed else "False", reason=reason)
    condition = msgspec.structs.replace(condition, observed_generation=metadata.get("generation", 0))
    conditions = set_condition(
        msgspec.convert(before.get("conditions") or [], list[Condition]), condition, format_rfc3339(now)
    )
    status: dict[str, Any] = {"observedGeneration": metadata.get("generation", 0), **numbers}
    if disrupted:
        status["disruptedPods"] = disrupted
    status["conditions"] = msgspec.to_builtins(conditions)
    return Computed(status, again_s)


def _still_disrupted(
    noted: Mapping[str, str], pods: tuple[BudgetPod, ...], now: datetime
) -> tuple[dict[str, str], float | None]:
    """Return the evictions that nobody has seen yet, and after how many seconds the first is given up."""
    kept: dict[str, str] = {}
    again_s: float | None = None
    running = {pod.name for pod in pods if not pod.is_terminating}
    for name, since in noted.items():
        left_s = (parse_rfc3339(since) + EVICTION_TIMEOUT - now).total_seconds()
        if name in running and left_s > 0:
            kept[name] = since
            again_s = left_s if again_s is None else min(again_s, left_s)
    return kept, again_s


def _expectation(seen: Observed) -> tuple[int, int]:
    """Return (pods there should be, pods that must stay).

    Raises:
        ValueError: percentages and `maxUnavailable` count replicas, and a pod is kept by no workload that has them.
    """
    spec = seen.budget["spec"]
    if "maxUnavailable" in spec:
        expected = _wanted_replicas(seen)
        return expected, max(expected - parse_int_or_percent(spec["maxUnavailable"], expected, round_up=True), 0)
    minimum = spec.get("minAvailable", 0)
    if isinstance(minimum, int):
        return len(seen.pods), minimum
    expected = _wanted_replicas(seen)
    return expected, parse_int_or_percent(minimum, expected, round_up=True)


def _wanted_replicas(seen: Observed) -> int:
    for pod in seen.pods:
        if pod.workload not in seen.replicas:
            raise ValueError(f'found no controllers for pod "{pod.name}"')
    return sum(seen.replicas[workload] for workload in {pod.workload for pod in seen.pods})
