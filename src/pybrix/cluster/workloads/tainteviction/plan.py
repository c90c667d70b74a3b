"""Decide whether, and when, a taint of its node evicts a pod. Pure.

As upstream's taint eviction controller: a pod that does not tolerate a `NoExecute` taint is deleted at once, one that
tolerates it for a time when that time is over, counted from when the taint was seen; budgets are not asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from pybrix.api.core import Pod, Taint
from pybrix.api.meta import Condition, set_condition
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.taints import toleration_of
from pybrix.runtime.actions import Delete, Emit, PatchStatus, Plan

REASON = "TaintManagerEviction"


_NOTHING = Plan()


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and when the pod is due: kept for the next pass. None: it may stay."""

    due: datetime | None = None
    plan: Plan = _NOTHING


def decide(pod: Pod, taints: Iterable[Taint], due: datetime | None, now: datetime) -> Decision:
    """Return what the taints of its node mean to a pod.

    Args:
        due: what an earlier pass decided; other tolerations or further taints do not put it off.
    """
    if pod.metadata.is_terminating:
        return Decision()
    stays_s = tolerated_s(pod, taints)
    if stays_s is None:
        told = Emit(pod, REASON, f"Cancelling deletion of Pod {pod.key}")
        return Decision(None, Plan((told,) if due is not None else ()))
    if stays_s == 0 or due is None:
        due = now + timedelta(seconds=stays_s)
    if now < due:
        return Decision(due, Plan(requeue_after_s=(due - now).total_seconds()))
    return Decision(due, _evict(pod, now))


def tolerated_s(pod: Pod, taints: Iterable[Taint]) -> float | None:
    """Return for how long a pod stands its node's `NoExecute` taints: 0 not at all, None for good."""
    times_s: list[int] = []
    for taint in taints:
        if taint.effect != "NoExecute":
            continue
        toleration = toleration_of(taint, pod.spec.tolerations)
        if toleration is None:
            return 0
        if toleration.toleration_seconds is not None:
            times_s.append(max(0, toleration.toleration_seconds))
    return min(times_s, default=None)


def _evict(pod: Pod, now: datetime) -> Plan:
    why = "Taint manager: deleting due to NoExecute taint"
    condition = Condition(type="DisruptionTarget", status="True", reason="DeletionByTaintManager", message=why)
    conditions = msgspec.to_builtins(set_condition(pod.status.conditions, condition, format_rfc3339(now)))
    version = pod.metadata.resource_version
    return Plan(
        (
            PatchStatus(Pod, pod.key, {"conditions": conditions}, why, resource_version=version),
            Delete(Pod, pod.key, pod.uid, why),
            Emit(pod, REASON, f"Marking for deletion Pod {pod.key}"),
        )
    )
