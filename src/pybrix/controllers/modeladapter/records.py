"""Bring the records of an adapter up to what its engines list and what came of requests. Pure.

A record says what this controller did in one pod. It is written to the status before an engine is asked for anything,
so every adapter that the controller ever loaded has one, and what has none is not ours to unload.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from pybrix.api.identity import Uid
from pybrix.api.model.v1alpha1.modeladapter import AdapterPod
from pybrix.base.clock import format_rfc3339_micro
from pybrix.controllers.modeladapter.state import (
    Observed,
    Outcome,
    PodFacts,
    State,
    Verb,
    expected_root,
    revision_of,
)

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 300.0
"""Cap of the backoff; as in AIBrix, whose own is never persisted and so never grows."""
MOST_ATTEMPTS = 3
"""Failures in a row after which another pod is preferred."""
NAME_TAKEN = "NameTaken"
NOT_LISTED = "NotListed"
LONGEST_MESSAGE = 256
HOPELESS = frozenset({"AdapterUnsupported", "SidecarNeeded", "CapacityFull", NAME_TAKEN})
"""Reasons that another attempt in the same pod is not likely to change."""


class Presence(StrEnum):
    """What the engine of a pod says about the adapter's name."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    LISTED = "listed"
    OTHER = "other"
    """It is the name of a model, not of an adapter."""


def presence_of(seen: Observed, uid: Uid) -> Presence:
    engine = seen.engines.get(uid)
    if engine is None or engine.models is None:
        return Presence.UNKNOWN
    model = engine.models.get(seen.adapter.metadata.name)
    if model is None:
        return Presence.ABSENT
    return Presence.LISTED if model.is_adapter else Presence.OTHER


def root_of(seen: Observed, uid: Uid) -> str | None:
    """Return what the engine lists the adapter as made from."""
    engine = seen.engines.get(uid)
    model = (engine.models or {}).get(seen.adapter.metadata.name) if engine is not None else None
    return model.root if model is not None else None


def is_failing(record: AdapterPod) -> bool:
    """Say whether another pod is to be preferred."""
    return record.state == State.FAILED and (record.attempts >= MOST_ATTEMPTS or record.reason in HOPELESS)


def settle(seen: Observed, now: datetime) -> dict[Uid, AdapterPod]:
    """Return the records as outcomes and lists make them, of pods that exist; adopt what is ours without a record."""
    wanted = revision_of(seen.adapter, seen.credentials)
    settled: dict[Uid, AdapterPod] = {}
    for uid, record in seen.records.items():
        pod = seen.members.get(uid) or seen.leavers.get(uid)
        if pod is None or pod.is_finished:
            continue
        found: AdapterPod | None = record
        if (outcome := seen.outcomes.get(uid)) is not None:
            found = _after(record, outcome, presence_of(seen, uid), now)
        if found is not None and uid not in seen.busy:
            found = _as_listed(seen, pod, found, wanted, now)
        if found is not None:
            settled[uid] = found
    for uid in (*seen.listed_in, *_inherited(seen)):
        pod = seen.members.get(uid)
        if pod is None or uid in settled or uid in seen.records:
            continue
        if (adopted := _adopt(seen, pod, wanted, now)) is not None:
            settled[uid] = adopted
    return settled


def failed(record: AdapterPod, reason: str, message: str, now: datetime, state: State = State.FAILED) -> AdapterPod:
    """Return the record after one more failure, with the moment of the next attempt."""
    # The exponent is bounded before the power is taken.
    delay_s = min(FIRST_RETRY_S * 2.0 ** min(record.attempts, 16), LAST_RETRY_S)
    if reason in HOPELESS:
        delay_s = max(delay_s, 10.0) if reason == "CapacityFull" else LAST_RETRY_S
    return msgspec.structs.replace(
        record,
        state=state,
        reason=reason,
        message=message[:LONGEST_MESSAGE],
        attempts=record.attempts + 1,
        retry_at=format_rfc3339_micro(now + timedelta(seconds=delay_s)),
    )


def moved(record: AdapterPod, state: State, *, revision: str | None = None, due: datetime | None = None) -> AdapterPod:
    """Return the record in another state, its failures forgotten unless it goes on trying.

    Args:
        revision: what is loaded then; None: as before.
        due: when the next step is to be taken; None: nothing waits.
    """
    is_trying = state in (State.LOADING, State.RELOADING, State.UNLOADING)
    return msgspec.structs.replace(
        record,
        state=state,
        revision=record.revision if revision is None else revision,
        reason=record.reason if is_trying else "",
        message=record.message if is_trying else "",
        attempts=record.attempts if is_trying else 0,
        retry_at=format_rfc3339_micro(due) if due is not None else None,
    )


def _after(record: AdapterPod, outcome: Outcome, presence: Presence, now: datetime) -> AdapterPod | None:
    """Return the record after a request; None when nothing is left of it."""
    if outcome.verb is Verb.LOAD:
        if outcome.reason:
            return failed(record, outcome.reason, outcome.message, now)
        if presence is Presence.LISTED:
            return moved(record, State.LOADED)
        return failed(record, NOT_LISTED, "the engine accepted the adapter and does not list it", now)
    if outcome.reason:
        return failed(record, outcome.reason, outcome.message, now, State.UNLOADING)
    if presence is Presence.LISTED:
        return failed(record, "StillListed", "the engine unloaded the adapter and lists it still", now, State.UNLOADING)
    return None


def _as_listed(
    seen: Observed, pod: PodFacts, record: AdapterPod, wanted: str | None, now: datetime
) -> AdapterPod | None:
    """Return the record as the engine's list has it."""
    presence = presence_of(seen, pod.uid)
    match presence:
        case Presence.UNKNOWN:
            return record
        case Presence.OTHER:
            return record if record.reason == NAME_TAKEN else _taken(record, now)
        case Presence.ABSENT:
            if record.state == State.LOADED:
                # The engine restarted, or dropped it: to be loaded where it is still wanted.
                return moved(record, State.LOADING)
            is_over = record.state in (State.DRAINING, State.UNLOADING) or record.reason == NAME_TAKEN
            return None if is_over else record
        case Presence.LISTED:
            return _as_present(seen, pod, record, wanted)


def _as_present(seen: Observed, pod: PodFacts, record: AdapterPod, wanted: str | None) -> AdapterPod:
    root, expected = root_of(seen, pod.uid), expected_root(seen.adapter, pod.protocol)
    is_as_wanted = expected is not None and root == expected
    match record.state:
        case State.LOADING if record.attempts == 0:
            # Nothing of ours was there before: a controller loaded it and did not live to say so.
            return moved(record, State.LOADED)
        case State.FAILED if is_as_wanted and wanted is not None and record.revision in ("", wanted):
            # It came about after all: past the deadline, or by somebody else's hand.
            return moved(record, State.LOADED, revision=wanted)
        case State.LOADED if record.revision == wanted and expected is not None and root not in (None, expected):
            return msgspec.structs.replace(record, revision="")
        case _:
            return record


def _adopt(seen: Observed, pod: PodFacts, wanted: str | None, now: datetime) -> AdapterPod | None:
    """Return a record for what an engine has without one: ours if it can only be, else somebody else's."""
    presence = presence_of(seen, pod.uid)
    if presence is Presence.ABSENT or pod.is_terminating:
        return None
    fresh = AdapterPod(uid=pod.uid, name=pod.key.name, state=State.LOADED)
    is_inherited = pod.uid in _inherited(seen)
    if presence is Presence.UNKNOWN:
        return fresh if is_inherited else None
    if presence is Presence.LISTED:
        expected = expected_root(seen.adapter, pod.protocol)
        if expected is not None and root_of(seen, pod.uid) == expected:
            return msgspec.structs.replace(fresh, revision=wanted or "")
        if is_inherited:
            return fresh
    return _taken(fresh, now)


def _inherited(seen: Observed) -> list[Uid]:
    """Return the pods that AIBrix's controller says to have the adapter; it writes no generation and knows names."""
    status = seen.adapter.status
    if status.observed_generation or status.pods or not status.instances:
        return []
    names = set(status.instances)
    return [uid for uid, pod in seen.members.items() if pod.key.name in names]


def _taken(record: AdapterPod, now: datetime) -> AdapterPod:
    message = "the engine serves something else under the adapter's name"
    # When to try again is not a matter of time: the list tells when the name is free.
    return msgspec.structs.replace(failed(record, NAME_TAKEN, message, now), retry_at=None)
