"""Say as Events what changed with an adapter. Pure."""

from __future__ import annotations

from pybrix.api.meta import find_condition
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter, ModelAdapterStatus
from pybrix.controllers.modeladapter.state import Phase, State
from pybrix.controllers.modeladapter.status import (
    CREDENTIALS_UNAVAILABLE,
    PLAINTEXT_API_KEY,
    READY,
    SCHEDULED,
    SCHEDULED_REASON,
)
from pybrix.controllers.unsupported import CONDITION as UNSUPPORTED
from pybrix.runtime.actions import Emit

RELOADING = "Reloading"
RECOVERED = "ModelAdapterLoaded"
LOST = "ModelAdapterLost"
LOADING_FAILED = "ModelAdapterLoadingError"
_BAD = frozenset({Phase.FAILED, Phase.UNKNOWN})
_NOT_YET = frozenset({"", Phase.PENDING, Phase.SCHEDULED})
MOST_PODS = 3
"""Pods of one pass that get an Event of their own; what happens to many at once is told by the conditions."""


def transitions(adapter: ModelAdapter, before: ModelAdapterStatus, after: ModelAdapterStatus) -> list[Emit]:
    """Return an Event for each transition between two statuses.

    Waiting for pods and choosing them the first time need none: the status says it, and whatever comes of it is told.
    """
    found: list[Emit] = []
    ready, was_ready = find_condition(after.conditions, READY), find_condition(before.conditions, READY)
    is_lost = was_ready is not None and was_ready.is_true and (ready is None or not ready.is_true)
    is_beginning = after.phase == Phase.SCHEDULED or (after.phase == Phase.PENDING and before.phase in _NOT_YET)
    if after.phase != before.phase and not is_beginning and ready is not None:
        is_bad = after.phase in _BAD or is_lost or (after.phase == Phase.BOUND)
        found.append(Emit(adapter, ready.reason, f"{after.phase}: {ready.message}", "Warning" if is_bad else "Normal"))
    elif is_lost and ready is not None:
        found.append(Emit(adapter, ready.reason, f"{after.phase}: {ready.message}", "Warning"))
    scheduled, was = find_condition(after.conditions, SCHEDULED), find_condition(before.conditions, SCHEDULED)
    if (
        scheduled is not None
        and was is not None
        and scheduled.reason != was.reason
        and scheduled.is_true
        and scheduled.reason != SCHEDULED_REASON
    ):
        found.append(Emit(adapter, scheduled.reason, scheduled.message))
    for kind in (PLAINTEXT_API_KEY, CREDENTIALS_UNAVAILABLE, UNSUPPORTED):
        told = find_condition(after.conditions, kind)
        if told is not None and find_condition(before.conditions, kind) is None:
            found.append(Emit(adapter, told.reason, told.message, "Warning"))
    return [*found, *_pods(adapter, before, after)]


def _pods(adapter: ModelAdapter, before: ModelAdapterStatus, after: ModelAdapterStatus) -> list[Emit]:
    """Return what happened in single pods: failures, recoveries, reloads and losses."""
    known = {record.uid: record for record in before.pods}
    found: list[Emit] = []
    for record in after.pods:
        old = known.get(record.uid)
        if record.state == State.FAILED and (
            old is None or (old.reason, old.attempts) != (record.reason, record.attempts)
        ):
            why = f"{record.name}: {record.reason}: {record.message}"
            found.append(Emit(adapter, LOADING_FAILED, why, "Warning"))
        elif old is None:
            continue
        elif record.state == State.LOADED and old.attempts:
            found.append(Emit(adapter, RECOVERED, f"loaded in {record.name} after {old.attempts} failed attempts"))
        elif record.state == State.RELOADING and old.state in (State.LOADED, State.DRAINING):
            found.append(Emit(adapter, RELOADING, f"{record.name}: the spec changed"))
        elif record.state == State.LOADING and old.state == State.LOADED:
            found.append(Emit(adapter, LOST, f"the engine of {record.name} lost it; loading it again", "Warning"))
    return found[:MOST_PODS]
