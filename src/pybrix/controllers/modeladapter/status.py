"""Say how an adapter is: phase and conditions in AIBrix's words, computed from what is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from pybrix.api.conditions import StandardCondition
from pybrix.api.meta import find_condition, set_condition
from pybrix.api.model.v1alpha1.modeladapter import AdapterPod, ModelAdapter, ModelAdapterStatus
from pybrix.base.clock import format_rfc3339
from pybrix.controllers.modeladapter.plan import Decision
from pybrix.controllers.modeladapter.state import API_KEY, Observed, Phase, State
from pybrix.controllers.unsupported import with_unsupported

INITIALIZED = "Initialized"
SCHEDULED = "Scheduled"
BOUND = "Bound"
RESOURCE_CREATED = "ResourceCreated"
READY = "Ready"
PLAINTEXT_API_KEY = "PlaintextAPIKey"
"""Ours: a key in the spec is readable by everybody who may read adapters."""
CREDENTIALS_UNAVAILABLE = "CredentialsUnavailable"
"""Ours: the Secret of `credentialsSecretRef` cannot be used. What serves goes on, and nothing is loaded anew."""
SECRET_UNREADABLE = "SecretUnreadable"

PENDING_REASON = "ModelAdapterPending"
SERVICE_ERROR = "ServiceCreateError"
SLICE_ERROR = "EndpointSliceCreateError"
LOADING_ERROR = "ModelAdapterLoadingError"
INVALID = "ValidationFailed"
STABLE = "StableInstanceFound"
NOT_FOUND = "ConditionNotFound"
POD_NOT_READY = "PodNotReady"
AVAILABLE = "ModelAdapterAvailable"
UNAVAILABLE = "ModelAdapterUnavailable"
SCHEDULED_REASON = "Scheduled"
SCALED = "Scaled"
MIGRATING = "AdapterMigrating"
RESCHEDULING = "Rescheduling"
RESCHEDULED = "Rescheduled"

UNANSWERED = 3
"""Questions without an answer after which an engine counts as silent."""
_ON_THE_WAY = frozenset({State.LOADING, State.RELOADING})
MOST_NAMED = 3
"""Pods that a message names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What kept the Service or the slices from being as planned."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Facts:
    """Counts and names that phase and conditions follow from."""

    loaded: tuple[AdapterPod, ...]
    failed: tuple[AdapterPod, ...]
    """Where loading failed, also while it is tried again: only what comes of that is news."""
    coming: tuple[AdapterPod, ...]
    leaving: tuple[AdapterPod, ...]
    ready: int
    is_counted: bool
    """Whether the spec says how many pods there shall be."""
    is_silent: bool
    """Everything that seems ready is in engines that do not answer."""
    credentials_problem: str
    refusal: str = ""
    """What an engine says that does not list its models, where no pod is chosen."""


def next_status(seen: Observed, decision: Decision, trouble: Trouble | None, now: datetime) -> ModelAdapterStatus:
    """Return the status after a pass, `lastTransitionTime` kept where nothing changed."""
    adapter, before = seen.adapter, seen.adapter.status
    facts = _facts(seen, decision)
    phase, wanted = _judge(before, decision, facts, trouble)
    stamp, generation = format_rfc3339(now), adapter.metadata.generation
    conditions = list(before.conditions)
    for condition in wanted:
        conditions = set_condition(
            conditions, msgspec.structs.replace(condition, observed_generation=generation), stamp
        )
    conditions = _with_key_warning(conditions, adapter, stamp)
    conditions = _with_credentials_warning(conditions, facts.credentials_problem, generation, stamp)
    pods = sorted(decision.records.values(), key=lambda record: (record.name, record.uid))
    return ModelAdapterStatus(
        observed_generation=generation,
        phase=phase,
        candidates=decision.candidates,
        desired_replicas=decision.desired if not decision.problem else before.desired_replicas,
        ready_replicas=facts.ready,
        instances=[record.name for record in pods if record.state == State.LOADED],
        pods=pods,
        conditions=with_unsupported(conditions, StandardCondition, adapter, stamp),
    )


def _facts(seen: Observed, decision: Decision) -> _Facts:
    records = sorted(decision.records.values(), key=lambda record: record.name)
    targets = set(decision.targets)
    ready = decision.ready
    silent = [e for e in ready if (engine := seen.engines.get(e.pod.uid)) is None or engine.models is None]
    return _Facts(
        loaded=tuple(r for r in records if r.state == State.LOADED),
        failed=tuple(r for r in records if r.uid in targets and (r.state == State.FAILED or _is_retried(r))),
        coming=tuple(r for r in records if r.uid in targets and r.state in _ON_THE_WAY and not _is_retried(r)),
        leaving=tuple(r for r in records if r.state in (State.DRAINING, State.UNLOADING) and r.uid not in targets),
        ready=len(ready),
        is_counted=seen.adapter.spec.replicas is not None,
        credentials_problem=seen.credentials_problem,
        refusal="" if decision.targets else _refusal(seen),
        is_silent=bool(ready)
        and len(silent) == len(ready)
        and all((e := seen.engines.get(s.pod.uid)) is not None and e.failures >= UNANSWERED for s in silent),
    )


def _is_retried(record: AdapterPod) -> bool:
    return record.state in _ON_THE_WAY and record.attempts > 0


def _refusal(seen: Observed) -> str:
    for pod in sorted(seen.members.values(), key=lambda member: member.key):
        engine = seen.engines.get(pod.uid)
        if engine is not None and engine.models is None and engine.is_refusing:
            return f"the engine of {pod.key.name} does not list its models: {engine.error}"
    return ""


def _judge(
    before: ModelAdapterStatus, decision: Decision, facts: _Facts, trouble: Trouble | None
) -> tuple[Phase, list[StandardCondition]]:
    """Return the phase and the five conditions."""
    if decision.problem:
        ready = _condition(READY, facts.ready > 0, AVAILABLE if facts.ready else INVALID, decision.problem)
        return Phase.FAILED, [_condition(INITIALIZED, False, INVALID, decision.problem), ready]
    scheduled = _scheduled(before, decision, facts)
    bound = _bound(before, facts, decision)
    created = _created(before, facts, trouble)
    found = [_initialized(decision), scheduled, *bound, *created]
    serving = f"ready in {facts.ready} of {decision.desired} pods"
    if facts.is_silent:
        message = f"{serving} when last heard of; their engines do not answer"
        return Phase.UNKNOWN, [*found, _unknown(READY, NOT_FOUND, message)]
    if trouble is not None:
        return Phase.BOUND, [*found, _condition(READY, False, trouble.reason, trouble.message)]
    if facts.ready:
        message = "; ".join(filter(None, (serving, facts.credentials_problem))) + _worries(facts.failed)
        is_scaling = scheduled.reason == SCALED and bool(facts.leaving)
        return Phase.SCALED if is_scaling else Phase.RUNNING, [*found, _condition(READY, True, AVAILABLE, message)]
    was_serving = _was_serving(before)
    if facts.loaded:
        message = f"loaded in {_names(facts.loaded)}, and none of these pods is ready"
        return Phase.RESOURCE_CREATED, [*found, _condition(READY, False, POD_NOT_READY, message)]
    if facts.failed and not facts.coming:
        message = "Loading failed on all pods: " + _told(facts.failed)
        return Phase.FAILED, [*found, _condition(READY, False, LOADING_ERROR, message)]
    if decision.targets:
        reason = MIGRATING if was_serving else UNAVAILABLE
        message = f"being loaded in {_names(facts.coming)}" if facts.coming else "chosen, and not asked for yet"
        message = facts.credentials_problem or message
        return Phase.SCHEDULED, [*found, _condition(READY, False, reason, message + _worries(facts.failed))]
    reason = MIGRATING if was_serving else UNAVAILABLE
    return Phase.PENDING, [*found, _condition(READY, False, reason, scheduled.message)]


def _initialized(decision: Decision) -> StandardCondition:
    if decision.targets:
        return _condition(INITIALIZED, True, SCHEDULED_REASON, "the spec is valid and pods are chosen")
    return _unknown(INITIALIZED, PENDING_REASON, "no pod is chosen yet")


def _scheduled(before: ModelAdapterStatus, decision: Decision, facts: _Facts) -> StandardCondition:
    old = find_condition(before.conditions, SCHEDULED)
    if not decision.targets:
        if decision.without_room:
            message, reason = f"all {decision.without_room} candidates have as many adapters as they take", UNAVAILABLE
        elif decision.matched:
            message, reason = f"none of the {decision.matched} pods that match can load it yet", POD_NOT_READY
            message += f"; {facts.refusal}" if facts.refusal else ""
        else:
            message, reason = "no pod matches podSelector", PENDING_REASON
        return _condition(SCHEDULED, False, RESCHEDULING if _was_serving(before) else reason, message)
    reason = old.reason if old is not None and old.is_true else SCHEDULED_REASON
    if old is not None and not old.is_true and old.reason == RESCHEDULING:
        reason = RESCHEDULED
    if facts.is_counted and before.desired_replicas > decision.desired and before.observed_generation:
        reason = SCALED
    elif reason == SCALED and not facts.leaving:
        reason = SCHEDULED_REASON
    message = f"{len(decision.targets)} of {decision.desired} pods are chosen"
    if decision.without_room:
        message += f"; {decision.without_room} have as many adapters as they take"
    return _condition(SCHEDULED, True, reason, "; ".join(filter(None, (message, decision.note))))


def _bound(before: ModelAdapterStatus, facts: _Facts, decision: Decision) -> list[StandardCondition]:
    if facts.loaded:
        return [_condition(BOUND, True, STABLE, f"loaded in {_names(facts.loaded)}" + _worries(facts.failed))]
    if facts.failed:
        return [_condition(BOUND, False, LOADING_ERROR, _told(facts.failed))]
    if find_condition(before.conditions, BOUND) is None and not facts.coming:
        return []
    message = f"being loaded in {_names(facts.coming)}" if facts.coming else "loaded in no pod"
    return [_condition(BOUND, False, PENDING_REASON, message)]


def _created(before: ModelAdapterStatus, facts: _Facts, trouble: Trouble | None) -> list[StandardCondition]:
    if trouble is not None:
        return [_condition(RESOURCE_CREATED, False, trouble.reason, trouble.message)]
    if facts.loaded or find_condition(before.conditions, RESOURCE_CREATED) is not None:
        return [_condition(RESOURCE_CREATED, True, AVAILABLE, "Service and EndpointSlices are as they should be")]
    return []


def _was_serving(before: ModelAdapterStatus) -> bool:
    """Say whether the adapter served and lost all of its pods since."""
    ready = find_condition(before.conditions, READY)
    return ready is not None and (ready.is_true or ready.reason in (MIGRATING, POD_NOT_READY))


def _with_key_warning(
    conditions: list[StandardCondition], adapter: ModelAdapter, stamp: str
) -> list[StandardCondition]:
    if not adapter.spec.additional_config.get(API_KEY):
        return [c for c in conditions if c.type != PLAINTEXT_API_KEY]
    message = (
        f"additionalConfig[{API_KEY}] is readable by everybody who may read adapters; "
        f"put it into the Secret of credentialsSecretRef, under the key {API_KEY}"
    )
    told = StandardCondition(
        type=PLAINTEXT_API_KEY,
        status="True",
        reason="KeyInSpec",
        message=message,
        observed_generation=adapter.metadata.generation,
    )
    return set_condition(conditions, told, stamp)


def _with_credentials_warning(
    conditions: list[StandardCondition], problem: str, generation: int, stamp: str
) -> list[StandardCondition]:
    if not problem:
        return [c for c in conditions if c.type != CREDENTIALS_UNAVAILABLE]
    told = StandardCondition(
        type=CREDENTIALS_UNAVAILABLE,
        status="True",
        reason=SECRET_UNREADABLE,
        message=problem,
        observed_generation=generation,
    )
    return set_condition(conditions, told, stamp)


def _condition(kind: str, is_true: bool, reason: str, message: str) -> StandardCondition:
    return StandardCondition(type=kind, status="True" if is_true else "False", reason=reason, message=message)


def _unknown(kind: str, reason: str, message: str) -> StandardCondition:
    return StandardCondition(type=kind, status="Unknown", reason=reason, message=message)


def _names(records: tuple[AdapterPod, ...]) -> str:
    more = f" and {len(records) - MOST_NAMED} more" if len(records) > MOST_NAMED else ""
    return ", ".join(record.name for record in records[:MOST_NAMED]) + more


def _told(records: tuple[AdapterPod, ...]) -> str:
    more = f"; and {len(records) - MOST_NAMED} more" if len(records) > MOST_NAMED else ""
    return "; ".join(f"{r.name}: {r.reason}: {r.message}" for r in records[:MOST_NAMED]) + more


def _worries(failed: tuple[AdapterPod, ...]) -> str:
    return f"; loading failed in {_told(failed)}" if failed else ""
