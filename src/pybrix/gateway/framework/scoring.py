"""From what endpoints are like to scores. Pure.

lowest_first:  score = 1 - (v - min v) / (max v - min v);  1 for all when max v = min v
in_order:      score = 1 - place / number of places; equal keys share a place
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint


def lowest_first(values: Sequence[float | None]) -> list[float]:
    """Return scores in [0, 1], 1 for the lowest value.

    None (nobody says) counts as the mean of the others: such an endpoint neither draws traffic nor starves.
    """
    known = [value for value in values if value is not None]
    if not known:
        return [1.0] * len(values)
    least, most = min(known), max(known)
    if most == least:
        return [1.0] * len(values)
    spread = most - least
    if len(known) < len(values):
        mean = sum(known) / len(known)
        known = [mean if value is None else value for value in values]
    return [1.0 - (value - least) / spread for value in known]


def in_order(keys: Sequence[Any]) -> list[float]:
    """Return scores in (0, 1] by the order of the keys: 1 for the lowest one."""
    places = {key: place for place, key in enumerate(sorted(set(keys)))}
    return [1.0 - places[key] / len(places) for key in keys]


def requests_in_flight(endpoints: Sequence[Endpoint], signals: Signals) -> list[float]:
    """Return requests in flight by endpoint, more for one that is warming up: count / warmth."""
    load = signals.load
    if not signals.has_new:
        return [load(endpoint.id).requests for endpoint in endpoints]
    return [load(endpoint.id).requests / signals.warmth(endpoint) for endpoint in endpoints]
