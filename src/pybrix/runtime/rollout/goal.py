"""What a rollout is asked for, and what there is of each template: plain numbers, whatever the kinds are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pybrix.api.identity import Uid
from pybrix.base.quantity import parse_int_or_percent

_QUARTER = "25%"


@dataclass(frozen=True, slots=True)
class Goal:
    """What the object that rolls out asks for."""

    replicas: int
    max_surge: int = 0
    """Replicas above `replicas` that a rollout may have; 0 unless it rolls."""
    max_unavailable: int = 0
    """Of `replicas`, how many a rollout may take away; 0 unless it rolls."""
    is_rolling: bool = True
    """False: all of the old template go before one of the new comes (Recreate)."""
    current: int = 0
    """Replicas of all templates, as the status last said."""


@dataclass(frozen=True, slots=True)
class Revision:
    """The replicas of one template."""

    uid: Uid
    age: tuple[str, str]
    """Time of creation and name: a sort key."""
    size: int
    """Replicas asked for."""
    ready_for_long: int = 0
    """Available replicas, as its status says: it may be older than `size`."""
    desired: int | None = None
    """`replicas` of the goal when it was last sized; None: it does not say."""
    most: int | None = None
    """`replicas` and surge of the goal when it was last sized; None: it does not say."""
    leaving: int = 0
    """Replicas above `size` that still hold what they need. 0 where nobody counts them."""

    @property
    def available(self) -> int:
        """Return how many of the asked-for replicas are available; what is above the size counts as gone."""
        return min(self.size, self.ready_for_long)


def fenceposts(replicas: int, max_surge: int | str | None, max_unavailable: int | str | None) -> tuple[int, int]:
    """Resolve surge (rounded up) and unavailable (rounded down), 25% each when absent; both 0 would be a standstill.

    Raises:
        ValueError: text that is no percentage, or a negative number.
    """
    most = parse_int_or_percent(_QUARTER if max_surge is None else max_surge, replicas, round_up=True)
    least = parse_int_or_percent(_QUARTER if max_unavailable is None else max_unavailable, replicas, round_up=False)
    if most < 0 or least < 0:
        raise ValueError("maxSurge and maxUnavailable must not be negative")
    return (most, least) if most or least else (0, 1)


def rolling_goal(
    replicas: int, max_surge: int | str | None, max_unavailable: int | str | None, *, current: int
) -> Goal:
    """Return the goal of a rolling update.

    Raises:
        ValueError: see `fenceposts`.
    """
    surge, unavailable = fenceposts(replicas, max_surge, max_unavailable)
    return Goal(replicas, surge, min(unavailable, replicas), is_rolling=True, current=current)


def total_size(revisions: Iterable[Revision]) -> int:
    return sum(r.size for r in revisions)
