"""What the Job controller sees in one pass, and the facts that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pybrix.api.batch import Job
from pybrix.api.core import Pod
from pybrix.api.meta import find_condition
from pybrix.api.names import JOB_INDEX, JOB_INDEX_FAILURES, JOB_TRACKING
from pybrix.base.clock import parse_rfc3339
from pybrix.runtime.claims import Claims, claim, compile_selector

FIRST_BACKOFF_S = 10.0
LAST_BACKOFF_S = 600.0
_DEFAULT_BACKOFF_LIMIT = 6


@dataclass(frozen=True, slots=True)
class Observed:
    """One Job and its pods, those that have ended included."""

    job: Job
    claims: Claims[Pod]
    is_settled: bool = True
    """Whether the cache shows every creation and deletion of earlier passes."""
    is_namespace_ending: bool = False
    """Whether the namespace is being deleted, so that nothing can be created in it."""

    @property
    def pods(self) -> tuple[Pod, ...]:
        return self.claims.owned

    @property
    def active(self) -> list[Pod]:
        """Pods that work, the one to go last first."""
        found = [p for p in self.pods if not p.is_finished and not p.metadata.is_terminating]
        return sorted(found, key=lambda p: (not p.is_ready, p.metadata.creation_timestamp or "", p.metadata.name))

    @property
    def terminating(self) -> list[Pod]:
        return [p for p in self.pods if not p.is_finished and p.metadata.is_terminating]


def observe(job: Job, pods: Iterable[Pod], *, is_settled: bool = True, is_namespace_ending: bool = False) -> Observed:
    """Sort the pods of the namespace that the Job controls, or that no controller owns.

    Raises:
        ValueError: the selector selects everything or is malformed.
    """
    return Observed(job, claim(job, compile_selector(job.spec.selector), pods), is_settled, is_namespace_ending)


def is_indexed(job: Job) -> bool:
    return job.spec.completion_mode == "Indexed"


def finished_condition(job: Job) -> str:
    """Return Complete or Failed when the Job is over; empty while it is not."""
    conditions = job.status.conditions
    return next((c.type for c in conditions if c.type in ("Complete", "Failed") and c.is_true), "")


def is_ending(job: Job) -> bool:
    """Say whether it was decided how the Job ends."""
    decided = ("FailureTarget", "SuccessCriteriaMet", "Complete", "Failed")
    return any(c.type in decided and c.is_true for c in job.status.conditions)


def finished_at(job: Job) -> datetime | None:
    condition = find_condition(job.status.conditions, finished_condition(job))
    if condition is None or not condition.last_transition_time:
        return None
    return parse_rfc3339(condition.last_transition_time)


def backoff_limit(job: Job) -> int:
    return _DEFAULT_BACKOFF_LIMIT if job.spec.backoff_limit is None else job.spec.backoff_limit


def parallelism(job: Job) -> int:
    return 1 if job.spec.parallelism is None else job.spec.parallelism


def is_tracked(pod: Pod) -> bool:
    """Say whether how the pod ends is still to be counted."""
    return JOB_TRACKING in pod.metadata.finalizers


def has_failed(job: Job, pod: Pod) -> bool:
    """Say whether a pod counts as failed: one that somebody deletes does, unless replacements wait for its end."""
    if pod.status.phase == "Failed":
        return True
    is_replaced_early = job.spec.pod_replacement_policy != "Failed"
    return is_replaced_early and pod.metadata.is_terminating and pod.status.phase != "Succeeded"


def index_of(pod: Pod) -> int | None:
    """Return the index of an indexed Job's pod; None when it has none."""
    text = pod.metadata.annotations.get(JOB_INDEX, "")
    return int(text) if text.isascii() and text.isdigit() else None


def has_limit_per_index(job: Job) -> bool:
    return is_indexed(job) and job.spec.backoff_limit_per_index is not None


def failures_before(pod: Pod) -> int:
    """Return how often its index had failed when a pod was made."""
    text = pod.metadata.annotations.get(JOB_INDEX_FAILURES, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def ended_at(pod: Pod) -> datetime | None:
    """Return when the last container of a pod ended."""
    ends = (s.state.terminated.finished_at for s in pod.status.container_statuses if s.state.terminated is not None)
    return max((parse_rfc3339(end) for end in ends if end), default=None)


def restarts(pod: Pod) -> int:
    return sum(s.restart_count for s in (*pod.status.init_container_statuses, *pod.status.container_statuses))


def backoff_left_s(seen: Observed, now: datetime, index: int | None = None) -> float:
    """Return how long the next pod has to wait: 10 s after a failure, twice as long after each further one in a row.

    With an index only its own pods count.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy
    """
    pods = [p for p in seen.pods if index is None or index_of(p) == index]
    successes = (ended_at(p) for p in pods if p.status.phase == "Succeeded")
    last_success = max(filter(None, successes), default=None)
    failures = [at for p in pods if p.status.phase == "Failed" and (at := ended_at(p)) is not None]
    row = [at for at in failures if last_success is None or at > last_success]
    if not row:
        return 0.0
    wait_s = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(len(row) - 1, 10))
    return max(0.0, (max(row) + timedelta(seconds=wait_s) - now).total_seconds())
