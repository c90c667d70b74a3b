"""What an upgrade of a running installation does, step by step. Pure.

Every step leaves the installation serving, and either the old release or the new one running in each place: both
understand each other's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

SUPERVISOR = "supervisor"


class Seen(msgspec.Struct, frozen=True, rename="camel"):
    """A component that runs. `is_overlapping`: its successor takes over while it still runs."""

    name: str
    pid: int
    is_overlapping: bool = False
    stop_grace_s: float = 0.0


class Action(StrEnum):
    """How a part gets its successor."""

    HAND_OVER = "hand-over"
    """The supervisor becomes the new one, in the same process."""
    TAKE_OVER = "take-over"
    """A new supervisor finds what runs; the old one, which cannot hand over, is ended first."""
    RESTART = "restart"
    """The part is ended, then its successor starts."""
    HOT_RESTART = "hot-restart"
    """The successor takes the listeners over, then the part drains."""


class Step(msgspec.Struct, frozen=True, rename="camel"):
    """One part, what is done with it, and what that means to those who use it."""

    name: str
    action: Action
    why: str


_MEANING = {
    "cluster": "pods go on running and are found again; kubectl waits for a moment",
    "brain": "Envoy routes by itself for about a second",
    "controllers": "objects wait for a moment",
}


def plan_upgrade(components: Sequence[Seen], *, takes_orders: bool) -> tuple[Step, ...]:
    """Return the steps, in order: who starts things, what others talk to, then what talks to it.

    Args:
        components: what runs, in the order in which it is to be replaced.
        takes_orders: whether the supervisor does; releases before this one do not.
    """
    if takes_orders:
        first = Step(SUPERVISOR, Action.HAND_OVER, "the same process goes on with the new release")
    else:
        first = Step(SUPERVISOR, Action.TAKE_OVER, "its release takes no orders: a new one watches in the background")
    return (first, *(_step(each) for each in components))


def _step(seen: Seen) -> Step:
    if seen.is_overlapping:
        why = "the new one takes the port over, the old one finishes what it has"
        if seen.stop_grace_s:
            why += f", at most {seen.stop_grace_s:.0f} s"
        return Step(seen.name, Action.HOT_RESTART, why)
    kind = seen.name.partition("-")[0]
    return Step(seen.name, Action.RESTART, _MEANING.get(kind, "it is started again"))
