"""The conditions of an object that rolls out; a rollout that stops making progress is told by time alone.

The rules are those of upstream's `syncRolloutStatus` and `checkPausedConditions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from pybrix.api.meta import find_condition
from pybrix.base.clock import format_rfc3339, parse_rfc3339

NO_DEADLINE = 2**31 - 1
"""A `progressDeadlineSeconds` that means: never."""


class RolloutConditionLike(Protocol):
    """A condition with both times, as Deployments have it."""

    @property
    def type(self) -> str: ...

    @property
    def status(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def last_transition_time(self) -> str | None: ...

    @property
    def last_update_time(self) -> str | None: ...


C = TypeVar("C", bound=RolloutConditionLike)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying the plan came to."""

    created: str = ""
    """Name of the revision that was created; empty for none."""
    is_collision: bool = False
    """Whether the name of the new revision is taken by one of another template."""
    create_error: str = ""
    """Why the new revision could not be created; empty when it could."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Replicas, of all templates but for `updated`."""

    replicas: int
    updated: int
    ready: int
    available: int


@dataclass(frozen=True, slots=True)
class Rollout(Generic[C]):
    """Everything that the conditions follow from.

    `kind` and `name` are those of the object, `new` is the name of the present template's revision (empty: there is
    none yet), `before` the counts of the last status, `deadline_s` None for never, `shape` the class of conditions.
    """

    kind: str
    name: str
    shape: type[C]
    replicas: int
    max_unavailable: int
    deadline_s: int | None
    is_paused: bool
    new: str
    before: Counts
    counts: Counts

    @property
    def is_complete(self) -> bool:
        counts = self.counts
        return counts.updated == counts.replicas == counts.available == self.replicas

    def condition(self, type_: str, status: str, reason: str, message: str) -> C:
        made: C = cast(Any, self.shape)(type=type_, status=status, reason=reason, message=message)
        return made


def next_conditions(
    rollout: Rollout[C], conditions: Sequence[C], outcome: Outcome, failure: C | None, now: datetime
) -> tuple[list[C], float | None]:
    """Return the conditions, and after how many seconds without an event to look again (None: never).

    Args:
        failure: `ReplicaFailure` of a revision, which the object takes over.
    """
    found = _pause_conditions(rollout, list(conditions), now)
    found = _set(found, _availability(rollout), now)
    if outcome.created:
        # Not the one of an earlier rollout: the deadline counts from this creation.
        found = [c for c in found if c.type != "Progressing"]
        created = f'Created new replica set "{outcome.created}"'
        found = _set(found, rollout.condition("Progressing", "True", "NewReplicaSetCreated", created), now)
    if not rollout.is_paused:
        found = _rollout_conditions(rollout, found, outcome, now)
    return failure_condition(found, failure), _recheck_after_s(rollout, found, now)


def _availability(rollout: Rollout[C]) -> C:
    if rollout.counts.available >= rollout.replicas - rollout.max_unavailable:
        message = f"{rollout.kind} has minimum availability."
        return rollout.condition("Available", "True", "MinimumReplicasAvailable", message)
    message = f"{rollout.kind} does not have minimum availability."
    return rollout.condition("Available", "False", "MinimumReplicasUnavailable", message)


def _pause_conditions(rollout: Rollout[C], conditions: list[C], now: datetime) -> list[C]:
    current = find_condition(conditions, "Progressing")
    reason = current.reason if current is not None else ""
    if rollout.deadline_s is None or reason == "ProgressDeadlineExceeded":
        return conditions
    if rollout.is_paused and reason != "DeploymentPaused":
        paused = rollout.condition("Progressing", "Unknown", "DeploymentPaused", f"{rollout.kind} is paused")
        return _set(conditions, paused, now)
    if not rollout.is_paused and reason == "DeploymentPaused":
        resumed = rollout.condition("Progressing", "Unknown", "DeploymentResumed", f"{rollout.kind} is resumed")
        return _set(conditions, resumed, now)
    return conditions


def _rollout_conditions(rollout: Rollout[C], conditions: list[C], outcome: Outcome, now: datetime) -> list[C]:
    if rollout.deadline_s is None:
        return [c for c in conditions if c.type != "Progressing"]
    if outcome.create_error:
        failed = rollout.condition("Progressing", "False", "ReplicaSetCreateError", outcome.create_error)
        return _set(conditions, failed, now)
    if find_condition(conditions, "Progressing") is None and rollout.new:
        message = f'Found new replica set "{rollout.new}"'
        conditions = _set(conditions, rollout.condition("Progressing", "True", "FoundNewReplicaSet", message), now)
    current = find_condition(conditions, "Progressing")
    counts = rollout.counts
    if counts.replicas == counts.updated and current is not None and current.reason == "NewReplicaSetAvailable":
        return conditions
    name = outcome.created or rollout.new
    subject = f'ReplicaSet "{name}"' if name else f'{rollout.kind} "{rollout.name}"'
    if rollout.new and rollout.is_complete:
        message = f"{subject} has successfully progressed."
        return _set(conditions, rollout.condition("Progressing", "True", "NewReplicaSetAvailable", message), now)
    if _has_progressed(rollout.before, counts):
        # The time of the last update counts for the deadline, so it moves with every bit of progress.
        others = [c for c in conditions if c.type != "Progressing"]
        new = rollout.condition("Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.")
        since = current.last_transition_time if current is not None and current.status == "True" else None
        return [*others, _stamped(new, since or format_rfc3339(now), now)]
    if current is not None and _is_late(current, rollout.deadline_s, now):
        message = f"{subject} has timed out progressing."
        return _set(conditions, rollout.condition("Progressing", "False", "ProgressDeadlineExceeded", message), now)
    return conditions


def failure_condition(conditions: Sequence[C], failure: C | None) -> list[C]:
    """Return the conditions with `ReplicaFailure` as it is now: this failure, or not there."""
    others = [c for c in conditions if c.type != "ReplicaFailure"]
    if failure is None:
        return others
    before = find_condition(conditions, "ReplicaFailure")
    if before is not None and (before.status, before.reason) == (failure.status, failure.reason):
        return list(conditions)
    since = failure.last_transition_time
    return [*others, msgspec.structs.replace(cast(Any, failure), last_update_time=since)]


def _has_progressed(before: Counts, after: Counts) -> bool:
    return (
        after.updated > before.updated
        or after.replicas - after.updated < before.replicas - before.updated
        or after.ready > before.ready
        or after.available > before.available
    )


def _is_late(progressing: RolloutConditionLike, deadline_s: int, now: datetime) -> bool:
    """Say whether the last progress is longer ago than the deadline; a finished rollout is never late."""
    if progressing.reason == "NewReplicaSetAvailable":
        return False
    if progressing.reason == "ProgressDeadlineExceeded":
        return True
    due = _due(progressing, deadline_s)
    return due is not None and due < now


def _due(progressing: RolloutConditionLike, deadline_s: int) -> datetime | None:
    since = progressing.last_update_time or progressing.last_transition_time
    return parse_rfc3339(since) + timedelta(seconds=deadline_s) if since else None


def _recheck_after_s(rollout: Rollout[C], conditions: list[C], now: datetime) -> float | None:
    """Return when the deadline passes if nothing happens; a second later, as times on the wire are whole seconds."""
    progressing = find_condition(conditions, "Progressing")
    if rollout.deadline_s is None or progressing is None or rollout.is_paused or rollout.is_complete:
        return None
    if progressing.reason in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    due = _due(progressing, rollout.deadline_s)
    return max(0.0, (due - now).total_seconds()) + 1.0 if due is not None else None


def _set(conditions: list[C], new: C, now: datetime) -> list[C]:
    """Put a condition in place of its type's; one of the same status and reason stays as it is."""
    old = find_condition(conditions, new.type)
    if old is not None and (old.status, old.reason) == (new.status, new.reason):
        return conditions
    since = old.last_transition_time if old is not None and old.status == new.status else None
    return [*(c for c in conditions if c.type != new.type), _stamped(new, since or format_rfc3339(now), now)]


def _stamped(condition: C, since: str, now: datetime) -> C:
    stamped: C = msgspec.structs.replace(
        cast(Any, condition), last_transition_time=since, last_update_time=format_rfc3339(now)
    )
    return stamped
