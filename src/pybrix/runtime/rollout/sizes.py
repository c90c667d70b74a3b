"""How many replicas each revision should have next. Pure arithmetic, as that of upstream's Deployment controller.

Each function maps UIDs of revisions to new sizes; a revision that is not in the result keeps its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pybrix.api.identity import Uid
from pybrix.runtime.rollout.goal import Goal, Revision, total_size

Sizes = dict[Uid, int]


def active(revisions: Iterable[Revision]) -> list[Revision]:
    return [r for r in revisions if r.size > 0]


def size_of_new(goal: Goal, old: Iterable[Revision], current: int, leaving: int = 0) -> int:
    """Return the size of the present template's revision: as large as the surge allows, at most `replicas`.

    Args:
        current: its size now.
        leaving: replicas of it that are beyond that size and still there.

    Source: `NewRSNewReplicas`. What is still on its way out is no room for another one.
    """
    if current > goal.replicas or not goal.is_rolling:
        return goal.replicas
    old = list(old)
    still_there = leaving + sum(r.leaving for r in old)
    room = goal.replicas + goal.max_surge - total_size(old) - current - still_there
    return current + max(0, min(room, goal.replicas - current))


def roll(goal: Goal, new: Revision, old: Sequence[Revision]) -> Sizes:
    """Take one step of a rolling update: first the new one grows (or shrinks), then the old ones shrink.

    Source: `rolloutRolling`.
    """
    target = size_of_new(goal, old, new.size, new.leaving)
    if target != new.size:
        return {new.uid: target}
    return _shrink_old(goal, new, old)


def _shrink_old(goal: Goal, new: Revision, old: Sequence[Revision]) -> Sizes:
    least = goal.replicas - goal.max_unavailable
    spare = total_size(old) + new.size - least - (new.size - new.available)
    if spare <= 0 or not active(old):
        return {}
    sizes = {r.uid: r.size for r in old}
    # Replicas that serve nothing go first, so that a broken old revision never holds up the new one.
    for revision in old:
        unhealthy = min(spare, sizes[revision.uid] - revision.available)
        sizes[revision.uid] -= unhealthy
        spare -= unhealthy
    surplus = new.available + sum(r.available for r in old) - least
    for revision in old:
        if surplus <= 0:
            break
        step = min(surplus, sizes[revision.uid])
        sizes[revision.uid] -= step
        surplus -= step
    return {r.uid: sizes[r.uid] for r in old if sizes[r.uid] != r.size}


def recreate(goal: Goal, new: Revision | None, old: Sequence[Revision], *, is_clear: bool) -> Sizes:
    """Take one step of a recreation: the old ones to zero; then, when `is_clear` of their replicas, the new one up."""
    if doomed := active(old):
        return {r.uid: 0 for r in doomed}
    return {new.uid: goal.replicas} if is_clear and new is not None and new.size != goal.replicas else {}


def is_scaled(goal: Goal, revisions: Iterable[Revision]) -> bool:
    """Say whether `replicas` changed since the active revisions were last sized."""
    return any(r.desired is not None and r.desired != goal.replicas for r in active(revisions))


def scale(goal: Goal, new: Revision | None, old: Sequence[Revision]) -> Sizes:
    """Spread a new `replicas` over the revisions; unchanged sizes are in the result where they only re-note it.

    One active (or only the latest) gets it all; a finished rollout loses its leftovers; in mid-rollout each grows or
    shrinks in proportion, so that a bad new template gets no more weight than it has. Source: `scale` in `sync.go`.
    """
    every = [*old, new] if new is not None else list(old)
    running = active(every)
    if len(running) <= 1:
        target = running[0] if running else new if new is not None else max(old, key=lambda r: r.age, default=None)
        return {target.uid: goal.replicas} if target is not None else {}
    if new is not None and new.size == goal.replicas == new.desired == new.ready_for_long:
        return {r.uid: 0 for r in active(old)}
    return _proportional(goal, running) if goal.is_rolling else {}


def _proportional(goal: Goal, running: list[Revision]) -> Sizes:
    allowed = goal.replicas + goal.max_surge if goal.replicas else 0
    change = allowed - total_size(running)
    # Growing favours the large and new, shrinking takes from the large and old. The sort is stable.
    by_age = sorted(running, key=lambda r: r.age, reverse=change > 0)
    ordered = sorted(by_age, key=lambda r: r.size, reverse=True)
    sizes: Sizes = {}
    given = 0
    for revision in ordered:
        share = _share(goal, revision, change, given)
        given += share
        sizes[revision.uid] = revision.size + share
    largest = ordered[0].uid
    sizes[largest] = max(0, sizes[largest] + change - given)
    return sizes


def _share(goal: Goal, revision: Revision, change: int, given: int) -> int:
    """Return a revision's part of `change`, of which `given` is spent. Source: `GetReplicaSetProportion`."""
    left = change - given
    if not change or not left:
        return 0
    if goal.replicas == 0:
        fraction = -revision.size
    else:
        before = revision.most or goal.current
        if not before:
            return 0
        # Rounded half up: floor(a / b + 1/2), in integers.
        fraction = (2 * revision.size * (goal.replicas + goal.max_surge) + before) // (2 * before) - revision.size
    return min(fraction, left) if change > 0 else max(fraction, left)
