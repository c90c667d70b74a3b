"""What taints and tolerations mean to each other. Pure.

https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from __future__ import annotations

from collections.abc import Iterable

from pybrix.api.core import Taint, Toleration


def toleration_of(taint: Taint, tolerations: Iterable[Toleration]) -> Toleration | None:
    """Return the first toleration that covers a taint; None: the taint is not tolerated."""
    return next((t for t in tolerations if _covers(t, taint)), None)


def _covers(toleration: Toleration, taint: Taint) -> bool:
    return (
        toleration.effect in ("", taint.effect)
        and (toleration.key == taint.key or (not toleration.key and toleration.operator == "Exists"))
        and (toleration.operator == "Exists" or toleration.value == taint.value)
    )
