"""Which pods go first when a ReplicaSet shrinks. Pure.

The order of upstream's `controller.ActivePodsWithRanks`, as one sort key: unassigned, pending, not ready, low deletion
cost, many siblings on the node, ready for a short time, many restarts, young. Times count by powers of two, so that
pods of about one age are drawn by UID and not always the newest node loses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from pybrix.api import names
from pybrix.api.core import Pod
from pybrix.base.clock import parse_rfc3339
from pybrix.cluster.workloads.pods import is_active, ready_since

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def rank_for_deletion(pods: Iterable[Pod], related: Iterable[Pod], now: datetime) -> list[Pod]:
    """Return the pods, the first to go first. `related` are the siblings counted per node."""
    siblings = Counter(p.spec.node_name for p in related if is_active(p) and p.spec.node_name)

    def key(pod: Pod) -> tuple[object, ...]:
        return (
            bool(pod.spec.node_name),
            _PHASES.get(pod.status.phase, 0),
            pod.is_ready,
            deletion_cost(pod),
            -siblings[pod.spec.node_name],
            _age_power(ready_since(pod), now) if pod.is_ready else 0,
            -max((s.restart_count for s in pod.status.container_statuses), default=0),
            _age_power(_created(pod), now),
            pod.uid,
        )

    return sorted(pods, key=key)


def deletion_cost(pod: Pod) -> int:
    """Return the cost of `controller.kubernetes.io/pod-deletion-cost`; 0 when it is absent or no 32-bit number."""
    text = pod.metadata.annotations.get(names.POD_DELETION_COST, "0")
    digits = text[1:] if text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit()) or (len(digits) > 1 and digits[0] == "0"):
        return 0
    cost = int(text)
    return cost if -(2**31) <= cost < 2**31 else 0


def _created(pod: Pod) -> datetime | None:
    text = pod.metadata.creation_timestamp
    return parse_rfc3339(text) if text else None


def _age_power(since: datetime | None, now: datetime) -> int:
    """Return floor(log2(age in ns)); -1 without a time or with one to come, which counts as youngest."""
    if since is None:
        return -1
    age_us = int((now - since).total_seconds() * 1_000_000)
    return (age_us * 1000).bit_length() - 1 if age_us > 0 else -1
