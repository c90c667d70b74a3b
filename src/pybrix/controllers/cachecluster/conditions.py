"""What the conditions of a cache say, whatever its kind. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from pybrix.api.apps import Deployment, StatefulSet
from pybrix.api.conditions import StandardCondition
from pybrix.api.core import Pod
from pybrix.api.markers import CustomResource
from pybrix.api.meta import find_condition, set_condition
from pybrix.api.names import CONTROLLER_REVISION_HASH
from pybrix.controllers.cachecluster.blueprint import Blueprint, Seen
from pybrix.controllers.cachecluster.members import NOBODY, Membership, has_labels, is_serving
from pybrix.controllers.membership.outcome import Outcome
from pybrix.controllers.unsupported import with_unsupported
from pybrix.runtime.actions import Emit

READY = "Ready"
PROGRESSING = "Progressing"
METADATA_REACHABLE = "MetadataReachable"
MEMBERSHIP_PUBLISHED = "MembershipPublished"

AVAILABLE = "Available"
INVALID = "Invalid"
NAME_TAKEN = "NameTaken"
NOT_WANTED = "NotWanted"


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass found and did."""

    seen: Seen
    blueprint: Blueprint
    outcome: Outcome | None = None
    """None: nothing was published, because there is nowhere to."""
    taken: tuple[str, ...] = ()
    failure: str = ""
    """What the API server said to a child."""
    is_waiting: bool = False
    membership: Membership = NOBODY
    """Who was to be published; nobody where there is nowhere to."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Cache servers."""

    present: int
    ready: int
    updated: int
    is_observed: bool
    """Whether the workload's controller has seen its present spec."""


def count(done: Pass) -> Counts:
    """Return how many cache servers there are, and how many are as they shall be."""
    workload = done.seen.children.get(done.blueprint.workload)
    pods = [p for p in done.seen.pods if has_labels(p, done.blueprint.members.labels) and not p.is_finished]
    ready = sum(1 for pod in pods if is_serving(pod))
    if not isinstance(workload, StatefulSet | Deployment):
        return Counts(len(pods), ready, 0, False)
    is_observed = workload.status.observed_generation >= workload.metadata.generation
    return Counts(len(pods), ready, _updated(workload, pods), is_observed)


def _updated(workload: StatefulSet | Deployment, pods: Sequence[Pod]) -> int:
    """Return how many of the pods are of the workload's present template."""
    if isinstance(workload, Deployment):
        return workload.status.updated_replicas
    # Not the number in its status: a set that adopts the pods of one before it is new in all its revisions, and nothing
    # else tells them from pods of its own.
    revision = workload.status.update_revision
    return sum(1 for pod in pods if revision and pod.metadata.labels.get(CONTROLLER_REVISION_HASH) == revision)


def conditions_of(
    obj: CustomResource, before: Sequence[StandardCondition], done: Pass, now: str
) -> list[StandardCondition]:
    """Return the conditions after a pass, `lastTransitionTime` kept where nothing changed."""
    counts = count(done)
    reachable, published = _reachable(done), _published(done)
    judged = [
        _ready(done, counts, reachable, published),
        _progressing(done, counts),
        reachable,
        published,
    ]
    found = list(before)
    for condition in judged:
        told = msgspec.structs.replace(condition, observed_generation=obj.metadata.generation)
        found = set_condition(found, told, now)
    return with_unsupported(found, StandardCondition, obj, now)


def _ready(done: Pass, counts: Counts, reachable: StandardCondition, published: StandardCondition) -> StandardCondition:
    blueprint = done.blueprint
    if blueprint.invalid:
        return _no(READY, INVALID, blueprint.invalid)
    if done.taken:
        return _no(READY, NAME_TAKEN, f"{', '.join(done.taken)} exists already and belongs to somebody else")
    if done.failure:
        return _no(READY, "ChildFailed", done.failure)
    if counts.ready < blueprint.replicas:
        return _no(READY, "MembersNotReady", f"{counts.ready} of {blueprint.replicas} cache servers are ready")
    if done.membership.waiting:
        return _no(READY, "MembersNotReady", _waiting(done))
    if published.status != "True" and published.reason != NOT_WANTED:
        of = reachable if reachable.status != "True" else published
        return _no(READY, of.reason, of.message)
    return _yes(READY, AVAILABLE, f"{counts.ready} of {blueprint.replicas} cache servers are ready")


def _progressing(done: Pass, counts: Counts) -> StandardCondition:
    wanted = done.blueprint.replicas
    if done.blueprint.invalid:
        return _no(PROGRESSING, INVALID, "nothing is changed until the spec is valid")
    if done.is_waiting:
        return _yes(PROGRESSING, "Recreating", "a part is made anew once the old one is gone")
    if counts.present != wanted:
        return _yes(PROGRESSING, "Scaling", f"{counts.present} of {wanted} cache servers exist")
    if not counts.is_observed or counts.updated < wanted:
        return _yes(PROGRESSING, "RollingOut", f"{counts.updated} of {wanted} cache servers are as the spec has them")
    if counts.ready < wanted:
        return _yes(PROGRESSING, "Starting", f"{counts.ready} of {wanted} cache servers are ready")
    if done.membership.waiting:
        return _yes(PROGRESSING, "Starting", _waiting(done))
    return _no(PROGRESSING, "Settled", "all cache servers are as the spec has them")


def _waiting(done: Pass) -> str:
    return f"{', '.join(done.membership.waiting)}: ready, and published after a few seconds of it"


def _reachable(done: Pass) -> StandardCondition:
    blueprint, outcome = done.blueprint, done.outcome
    if blueprint.problem is not None:
        return _no(METADATA_REACHABLE, blueprint.problem.reason, blueprint.problem.message)
    if not blueprint.kind:
        return _unknown(METADATA_REACHABLE, NOT_WANTED, "the spec names no metadata server")
    if outcome is None:
        return _unknown(METADATA_REACHABLE, "NotTried", f"{blueprint.kind} was not asked yet")
    if outcome.error is not None and not outcome.error.is_reachable:
        return _no(METADATA_REACHABLE, outcome.error.reason, f"{blueprint.kind}: {outcome.error}")
    return _yes(METADATA_REACHABLE, "Answering", f"{blueprint.kind} at {blueprint.address} answers")


def _published(done: Pass) -> StandardCondition:
    blueprint, outcome = done.blueprint, done.outcome
    if not blueprint.kind and blueprint.problem is None:
        return _unknown(MEMBERSHIP_PUBLISHED, NOT_WANTED, "the spec names no metadata server")
    if outcome is None:
        return _no(MEMBERSHIP_PUBLISHED, "NotPublished", "there is no metadata server to publish to yet")
    if outcome.error is not None:
        last = f"; version {outcome.record.version} is what was published last" if outcome.record else ""
        return _no(MEMBERSHIP_PUBLISHED, outcome.error.reason, f"{outcome.error}{last}")
    record = outcome.record
    assert record is not None
    key = blueprint.keys.record if blueprint.keys is not None else ""
    members = f"{len(record.nodes)} member{'' if len(record.nodes) == 1 else 's'}"
    return _yes(MEMBERSHIP_PUBLISHED, "Published", f"version {record.version} with {members} in {key}")


def phase_of(conditions: Sequence[StandardCondition], ready_replicas: int) -> str:
    """Return the conditions in one word."""
    ready, progressing = find_condition(conditions, READY), find_condition(conditions, PROGRESSING)
    if ready is None or ready.reason in (INVALID, NAME_TAKEN):
        return "Failed" if ready is not None else "Pending"
    if progressing is not None and progressing.is_true:
        return "Progressing" if ready_replicas else "Pending"
    return "Running" if ready.is_true else "Degraded"


def transitions(
    obj: CustomResource, before: Sequence[StandardCondition], after: Sequence[StandardCondition]
) -> list[Emit]:
    """Return an Event for each condition that is another one than before."""
    found: list[Emit] = []
    for condition in after:
        was = find_condition(before, condition.type)
        is_same = was is not None and (was.status, was.reason) == (condition.status, condition.reason)
        is_beginning = was is None and condition.status != "True"
        if is_same or is_beginning or condition.status == "Unknown" or condition.type == PROGRESSING:
            continue
        is_good = condition.is_true == (condition.type in (READY, METADATA_REACHABLE, MEMBERSHIP_PUBLISHED))
        found.append(
            Emit(obj, condition.reason, f"{condition.type}: {condition.message}", "Normal" if is_good else "Warning")
        )
    return found


def _yes(kind: str, reason: str, message: str) -> StandardCondition:
    return StandardCondition(type=kind, status="True", reason=reason, message=message)


def _no(kind: str, reason: str, message: str) -> StandardCondition:
    return StandardCondition(type=kind, status="False", reason=reason, message=message)


def _unknown(kind: str, reason: str, message: str) -> StandardCondition:
    return StandardCondition(type=kind, status="Unknown", reason=reason, message=message)
