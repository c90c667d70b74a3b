"""Facts about a pod that several controllers decide by. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from pybrix.api.core import Pod
from pybrix.api.meta import find_condition
from pybrix.base.clock import parse_rfc3339


def is_active(pod: Pod) -> bool:
    """Say whether a pod counts as a replica: neither finished nor on its way out."""
    return not pod.is_finished and not pod.metadata.is_terminating


def ready_since(pod: Pod) -> datetime | None:
    """Return when the pod became ready; None while it is not, or when its condition has no time."""
    ready = find_condition(pod.status.conditions, "Ready")
    if ready is None or not ready.is_true or not ready.last_transition_time:
        return None
    return parse_rfc3339(ready.last_transition_time)


def available_in_s(pod: Pod, min_ready_seconds: int, now: datetime) -> float | None:
    """Return in how many seconds the pod counts as available: 0 when it does, None while it is not ready."""
    if not pod.is_ready:
        return None
    if min_ready_seconds <= 0:
        return 0.0
    since = ready_since(pod)
    if since is None:
        return None
    return max(0.0, (since + timedelta(seconds=min_ready_seconds) - now).total_seconds())
