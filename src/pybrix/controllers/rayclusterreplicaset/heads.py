"""Facts about the head pod of a cluster: whether gateways may still send it requests, and since when not. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from pybrix.api import names
from pybrix.api.core import Pod
from pybrix.base.clock import parse_rfc3339


def is_named(head: Pod) -> bool:
    """Say whether a head has the model's name, by which gateways and Services find it."""
    meta = head.metadata
    return bool(meta.labels.get(names.MODEL_NAME) or meta.annotations.get(names.MODEL_NAME))


def hidden_since(head: Pod, now: datetime) -> datetime | None:
    """Return when the model's name was taken from a head; None when it has one, or nobody noted a time that can be."""
    try:
        since = parse_rfc3339(head.metadata.annotations[names.HIDDEN_SINCE])
    except (KeyError, ValueError):
        return None
    return None if is_named(head) or since > now else since


def out_for_s(head: Pod, now: datetime) -> float:
    """Return for how long gateways cannot have found a head: hidden, or not ready. 0 while they may."""
    if not head.status.pod_ip:
        # There is no address to send anything to, and there never was.
        return float("inf")
    times = [since for since in (hidden_since(head, now), _not_ready_since(head)) if since is not None]
    return max((now - min(times)) / timedelta(seconds=1), 0.0) if times else 0.0


def _not_ready_since(head: Pod) -> datetime | None:
    condition = next((c for c in head.status.conditions if c.type == "Ready"), None)
    if condition is None or condition.is_true or not condition.last_transition_time:
        return None
    return parse_rfc3339(condition.last_transition_time)
