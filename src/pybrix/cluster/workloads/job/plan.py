"""Decide what a Job does next: pods to create or delete, how it stands, and whether it is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pybrix.api.batch import Job, JobStatus, UncountedPods
from pybrix.api.core import Pod
from pybrix.api.meta import Condition, find_condition
from pybrix.base.clock import format_rfc3339, parse_rfc3339
from pybrix.cluster.workloads.job.indexes import matched_rule, print_indexes
from pybrix.cluster.workloads.job.render import render_pod
from pybrix.cluster.workloads.job.state import (
    Observed,
    backoff_left_s,
    backoff_limit,
    finished_at,
    finished_condition,
    has_limit_per_index,
    index_of,
    is_indexed,
    is_tracked,
    parallelism,
    restarts,
)
from pybrix.cluster.workloads.job.tally import Tally, index_failures, release, tally
from pybrix.runtime.actions import Action, Create, Delete, Emit
from pybrix.runtime.claims import claim_actions
from pybrix.runtime.differences import status_difference

BURST_PODS = 500
"""Pods created in one pass; upstream's cap."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Actions, the status after them, and when to look again (None: when something changes)."""

    actions: tuple[Action, ...]
    status: JobStatus
    again_s: float | None


@dataclass(frozen=True, slots=True)
class _End:
    """How a Job ends: `target` is FailureTarget or SuccessCriteriaMet, `final` Failed or Complete."""

    target: str
    final: str
    reason: str
    message: str


def plan(seen: Observed, now: datetime) -> Decision:
    """Return one step. The actions rest on what the status already says, so they hold even if it cannot be written."""
    job, counted = seen.job, tally(seen)
    actions: list[Action] = [*claim_actions(job, seen.claims), *counted.releases]
    status = _counts(seen, counted)
    if job.metadata.is_terminating:
        # Its pods go with it; nothing of theirs is needed any more.
        listed = {p.key for p in counted.releases}
        left = [p for p in seen.pods if is_tracked(p) and p.key not in listed]
        return Decision((*actions, *(release(p, "the Job is being deleted") for p in left)), status, None)
    if finished_condition(job):
        return Decision((*actions, *_expire(job, now)), status, _expires_in_s(job, now))
    waits: list[float] = []
    end = _end(seen, counted, now)
    if end is not None:
        actions += _end_actions(seen, end)
        _note_end(seen, status, counted, end, now)
        if finished_condition(_with(job, status)):
            actions.append(_told(job, end))
            waits += [float(job.spec.ttl_seconds_after_finished)] if job.spec.ttl_seconds_after_finished else []
    elif job.spec.suspend:
        actions += _stop(seen.active, seen, "the Job is suspended")
        if _set(status, "Suspended", "True", "JobSuspended", "Job suspended", now):
            actions.append(Emit(job, "Suspended", "Job suspended"))
        status.start_time = None
    else:
        if find_condition(status.conditions, "Suspended") is not None and _set(
            status, "Suspended", "False", "JobResumed", "Job resumed", now
        ):
            actions.append(Emit(job, "Resumed", "Job resumed"))
        status.start_time = status.start_time or format_rfc3339(now)
        if job.spec.active_deadline_seconds is not None:
            due = parse_rfc3339(status.start_time) + timedelta(seconds=job.spec.active_deadline_seconds)
            waits.append((due - now).total_seconds())
        more, wait_s = _pods(seen, counted, now)
        actions += more
        waits += [wait_s] if wait_s else []
    return Decision(tuple(actions), status, max(0.1, min(waits)) if waits else None)


def _counts(seen: Observed, counted: Tally) -> JobStatus:
    before = seen.job.status
    active = seen.active
    return JobStatus(
        conditions=list(before.conditions),
        start_time=before.start_time,
        completion_time=before.completion_time,
        active=len(active),
        terminating=len(seen.terminating),
        ready=sum(p.is_ready for p in active),
        succeeded=counted.succeeded,
        failed=counted.failed,
        completed_indexes=print_indexes(counted.indexes),
        failed_indexes=print_indexes(counted.failed_indexes),
        uncounted_terminated_pods=counted.uncounted,
    )


def _end(seen: Observed, counted: Tally, now: datetime) -> _End | None:
    """Say whether and how the Job ends; what was decided once stays."""
    job = seen.job
    for target, final in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
        decided = find_condition(job.status.conditions, target)
        if decided is not None and decided.is_true:
            return _End(target, final, decided.reason, decided.message)
    if counted.failure:
        return _failed("PodFailurePolicy", counted.failure)
    limit = backoff_limit(job)
    started_again = sum(restarts(p) for p in seen.active)
    is_restarting = (job.spec.template.get("spec") or {}).get("restartPolicy") == "OnFailure"
    if counted.all_failed > limit or (is_restarting and started_again > 0 and started_again >= limit):
        return _failed("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    deadline_s, since = job.spec.active_deadline_seconds, job.status.start_time
    has_deadline = deadline_s is not None and since and not job.spec.suspend
    if has_deadline and now >= parse_rfc3339(since or "") + timedelta(seconds=deadline_s or 0):
        return _failed("DeadlineExceeded", "Job was active longer than specified deadline")
    most = job.spec.max_failed_indexes
    if most is not None and len(counted.failed_indexes) > most:
        message = "Job has exceeded the specified maximal number of failed indexes"
        return _failed("MaxFailedIndexesExceeded", message)
    policy = job.spec.success_policy
    if policy is not None and (rule := matched_rule(policy, counted.indexes)) is not None:
        return _End("SuccessCriteriaMet", "Complete", "SuccessPolicy", f"Matched rules at index {rule}")
    if counted.failed_indexes and len(counted.failed_indexes | counted.indexes) >= (job.spec.completions or 0):
        return _failed("FailedIndexes", "Job has failed indexes")
    if _is_complete(seen, counted):
        message = "Reached expected number of succeeded pods"
        return _End("SuccessCriteriaMet", "Complete", "CompletionsReached", message)
    return None


def _is_complete(seen: Observed, counted: Tally) -> bool:
    wanted = seen.job.spec.completions
    if wanted is None:
        # A queue of work: one success says that it is empty, and the others finish what they have.
        return counted.all_succeeded > 0 and not seen.active and not seen.terminating
    return counted.all_succeeded >= wanted


def _failed(reason: str, message: str) -> _End:
    return _End("FailureTarget", "Failed", reason, message)


def _end_actions(seen: Observed, end: _End) -> list[Action]:
    """Delete what still runs: pods of a Job that fails count as failed, those beyond its completions as nothing."""
    if end.final == "Complete":
        return _stop(seen.active, seen, "the Job is complete")
    return [Delete(Pod, p.key, p.uid, end.message, owner=seen.job) for p in seen.active] if seen.is_settled else []


def _note_end(seen: Observed, status: JobStatus, counted: Tally, end: _End, now: datetime) -> None:
    """Say what was decided at once, and that the Job is over when every pod has ended and is counted."""
    _set(status, end.target, "True", end.reason, end.message, now)
    left = counted.uncounted != UncountedPods() or counted.releases or any(is_tracked(p) for p in seen.pods)
    if not left and not seen.active and not seen.terminating:
        _set(status, end.final, "True", end.reason, end.message, now)
        if end.final == "Complete":
            status.completion_time = format_rfc3339(now)


def difference(before: JobStatus, after: JobStatus) -> dict[str, Any]:
    """Return the merge patch between two statuses; UIDs that left a list are to leave it on the server, too."""
    patch = status_difference(before, after)
    if patch.get("uncountedTerminatedPods") is not None:
        uncounted = after.uncounted_terminated_pods or UncountedPods()
        patch["uncountedTerminatedPods"] = {"succeeded": uncounted.succeeded, "failed": uncounted.failed}
    return patch


def _told(job: Job, end: _End) -> Emit:
    if end.final == "Complete":
        return Emit(job, "Completed", "Job completed")
    return Emit(job, end.reason, end.message, type="Warning")


def _pods(seen: Observed, counted: Tally, now: datetime) -> tuple[list[Action], float | None]:
    """Bring the number of pods that work to what is wanted; return the wait of those that are held back."""
    job, active = seen.job, seen.active
    if not seen.is_settled:
        return [], None
    wanted = _wanted(seen, counted)
    if len(active) > wanted:
        return _stop(active[wanted:], seen, f"{len(active)} pods work, {wanted} are wanted"), None
    # With this policy a replacement waits until the one before it has ended.
    occupied = len(active) + (len(seen.terminating) if job.spec.pod_replacement_policy == "Failed" else 0)
    missing = min(wanted - occupied, BURST_PODS)
    if missing <= 0 or seen.is_namespace_ending:
        return [], None
    why = f"{len(active)}/{wanted} pods work, {counted.all_succeeded} have succeeded"
    taken = {index_of(p) for p in (*active, *seen.terminating)} | counted.indexes | counted.failed_indexes
    free = [i for i in range(job.spec.completions or 0) if i not in taken] if is_indexed(job) else []
    if has_limit_per_index(job):
        waits = {i: backoff_left_s(seen, now, i) for i in free}
        due = [i for i in free if not waits[i]][:missing]
        pods = [render_pod(job, i, index_failures(seen, i)) for i in due]
        return [Create(pod, why, owner=job) for pod in pods], min(filter(None, waits.values()), default=None)
    if wait_s := backoff_left_s(seen, now):
        return [], wait_s
    if not is_indexed(job):
        return [Create(render_pod(job), why, owner=job) for _ in range(missing)], None
    return [Create(render_pod(job, index), why, owner=job) for index in free[:missing]], None


def _wanted(seen: Observed, counted: Tally) -> int:
    job = seen.job
    if job.spec.completions is None:
        return len(seen.active) if counted.all_succeeded else parallelism(job)
    left = job.spec.completions - counted.all_succeeded - len(counted.failed_indexes)
    return max(0, min(parallelism(job), left))


def _stop(pods: list[Pod], seen: Observed, why: str) -> list[Action]:
    """Delete pods that are to count as nothing."""
    if not seen.is_settled:
        return []
    actions: list[Action] = []
    for pod in pods:
        if is_tracked(pod):
            actions.append(release(pod, why))
        actions.append(Delete(Pod, pod.key, pod.uid, why, owner=seen.job))
        actions.append(Emit(seen.job, "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}"))
    return actions


def _set(status: JobStatus, kind: str, value: str, reason: str, message: str, now: datetime) -> bool:
    """Set a condition; say whether its status changed."""
    old = find_condition(status.conditions, kind)
    if old is not None and old.status == value:
        return False
    stamp = format_rfc3339(now)
    new = Condition(
        type=kind, status=value, reason=reason, message=message, last_transition_time=stamp, last_probe_time=stamp
    )
    status.conditions = [*(c for c in status.conditions if c.type != kind), new]
    return True


def _with(job: Job, status: JobStatus) -> Job:
    return Job(metadata=job.metadata, spec=job.spec, status=status)


def _expire(job: Job, now: datetime) -> list[Action]:
    wait_s = _expires_in_s(job, now)
    if wait_s is None or wait_s > 0:
        return []
    why = f"it finished more than {job.spec.ttl_seconds_after_finished} s ago"
    return [Delete(Job, job.key, job.uid, why)]


def _expires_in_s(job: Job, now: datetime) -> float | None:
    since, ttl_s = finished_at(job), job.spec.ttl_seconds_after_finished
    if since is None or ttl_s is None:
        return None
    return (since + timedelta(seconds=ttl_s) - now).total_seconds()
