"""Decide what a deletion does: remove at once, or mark and wait for the node or the finalizers. Pure.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/ and
https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pybrix.api.names import FOREGROUND_DELETION, ORPHAN
from pybrix.base.clock import format_rfc3339, parse_rfc3339

_DEFAULT_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Doom:
    """The object after the deletion was asked for, and whether it goes now."""

    data: dict[str, Any]
    is_removed: bool


def plan_deletion(
    kind: str, data: Mapping[str, Any], now: datetime, *, propagation: str | None, grace_period_s: int | None
) -> Doom:
    """Return what becomes of an object.

    Args:
        kind: its kind; only built-in pods end gracefully.
        data: the object as it is.
        now: when the deletion was asked for.
        propagation: Background, Foreground, Orphan, or None for what the finalizers say already.
        grace_period_s: None means the pod's own period.
    """
    metadata = dict(data["metadata"])
    finalizers = _finalizers(metadata.get("finalizers", []), propagation)
    grace_s = _grace_s(data, grace_period_s) if kind == "Pod" else 0
    marked_before = metadata.get("deletionTimestamp")
    if marked_before is not None:
        # A second deletion may shorten what is left, never lengthen it.
        grace_s = min(grace_s, metadata.get("deletionGracePeriodSeconds") or 0)
    deadline = now + timedelta(seconds=grace_s)
    if marked_before is None or grace_s < (metadata.get("deletionGracePeriodSeconds") or 0):
        earlier = deadline if marked_before is None else min(deadline, parse_rfc3339(marked_before))
        metadata["deletionTimestamp"] = format_rfc3339(earlier)
        metadata["deletionGracePeriodSeconds"] = grace_s
        if "generation" in metadata:
            metadata["generation"] += 1
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    doomed = {**data, "metadata": metadata}
    if kind == "Namespace":
        doomed["status"] = {**data.get("status", {}), "phase": "Terminating"}
    return Doom(doomed, is_removable(doomed))


def _finalizers(present: list[str], propagation: str | None) -> list[str]:
    kept = [f for f in present if propagation is None or f not in (FOREGROUND_DELETION, ORPHAN)]
    if propagation == "Foreground":
        kept.append(FOREGROUND_DELETION)
    elif propagation == "Orphan":
        kept.append(ORPHAN)
    return kept


def _grace_s(pod: Mapping[str, Any], asked_s: int | None) -> int:
    spec = pod.get("spec", {})
    # Nothing runs: there is nobody to wait for.
    if not spec.get("nodeName") or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if asked_s is not None:
        return asked_s
    return max(int(spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE_S)), 0)


def is_removable(data: Mapping[str, Any]) -> bool:
    """Say whether nothing holds back an object that is being deleted: no finalizer, no grace period."""
    metadata = data["metadata"]
    return bool(
        metadata.get("deletionTimestamp")
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
        and not (data.get("kind") == "Namespace" and data.get("spec", {}).get("finalizers"))
    )
