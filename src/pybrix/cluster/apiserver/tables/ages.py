"""Durations as `kubectl` prints them. Pure. Source of the steps: `k8s.io/apimachinery/pkg/util/duration`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pybrix.base.clock import parse_rfc3339


def age(since: Any, now: datetime) -> str:
    """Return how long ago an RFC 3339 instant was; `<unknown>` when there is none."""
    if not isinstance(since, str):
        return "<unknown>"
    try:
        return human_duration((now - parse_rfc3339(since)).total_seconds())
    except ValueError:
        return "<invalid>"


def human_duration(seconds: float) -> str:
    """Return two or three significant digits of a duration: 45s, 3m20s, 5h, 2d4h, 40d."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return f"{days // 365}y{days % 365}d" if days % 365 else f"{days // 365}y"
    return f"{days // 365}y"
