"""Count how pods ended, each exactly once, also when they are deleted or the controller is killed in between. Pure.

A pod holds a finalizer until its end is counted. Its UID goes to `status.uncountedTerminatedPods` first; then it loses
the finalizer; and when that is seen, the UID becomes a number. An indexed Job's successes are a set of indexes, which
needs no such care. Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-tracking-with-finalizers
"""

from __future__ import annotations

from dataclasses import dataclass

from pybrix.api.batch import Job, PodFailureRule, UncountedPods
from pybrix.api.core import Pod
from pybrix.api.names import JOB_TRACKING
from pybrix.cluster.workloads.job.indexes import parse_indexes
from pybrix.cluster.workloads.job.state import (
    Observed,
    failures_before,
    finished_condition,
    has_failed,
    has_limit_per_index,
    index_of,
    is_ending,
    is_indexed,
    is_tracked,
)
from pybrix.runtime.actions import Patch


@dataclass(frozen=True, slots=True)
class Tally:
    """The numbers after this pass."""

    succeeded: int
    failed: int
    uncounted: UncountedPods
    indexes: frozenset[int]
    """Those that have succeeded, of an indexed Job."""
    failed_indexes: frozenset[int]
    """Those that have failed for good, of a Job that counts failures by index."""
    releases: tuple[Patch, ...]
    """Finalizers that can go."""
    failure: str
    """What the failure policy says when a pod failed in a way that fails the Job; empty."""

    @property
    def all_succeeded(self) -> int:
        """Every success that was seen, in a count or not."""
        return self.succeeded + len(self.uncounted.succeeded)

    @property
    def all_failed(self) -> int:
        return self.failed + len(self.uncounted.failed)


def tally(seen: Observed) -> Tally:
    """Count the pods that have ended, on top of what the status says."""
    job = seen.job
    before = job.status.uncounted_terminated_pods or UncountedPods()
    tracked = {str(p.uid): p for p in seen.pods if is_tracked(p)}
    winners = [uid for uid in before.succeeded if uid in tracked]
    losers = [uid for uid in before.failed if uid in tracked]
    succeeded = job.status.succeeded + len(before.succeeded) - len(winners)
    failed = job.status.failed + len(before.failed) - len(losers)
    known = parse_indexes(job.status.completed_indexes)
    indexes = set(known)
    listed = {*before.succeeded, *before.failed}
    failed_indexes = set(parse_indexes(job.status.failed_indexes))
    counted = [tracked[uid] for uid in sorted(listed & tracked.keys())]
    releases = [release(p, "its end is counted") for p in counted if not _is_remembered_by(p, seen, failed_indexes)]
    failure = ""
    is_over = bool(finished_condition(job))
    for uid, pod in tracked.items():
        if uid in listed:
            continue
        if pod.status.phase == "Succeeded":
            index = index_of(pod)
            if not is_indexed(job):
                winners.append(uid)
            elif index is None or index >= (job.spec.completions or 0) or index in known:
                releases.append(release(pod, f"index {index} is counted"))
            else:
                indexes.add(index)
        elif has_failed(job, pod) or (is_over and pod.metadata.is_terminating):
            rule = failure_rule(seen, pod)
            if rule is not None and rule.action == "Ignore" and pod.is_finished:
                releases.append(release(pod, "the failure policy ignores how it failed"))
                continue
            if rule is not None and rule.action == "FailJob" and pod.is_finished:
                failure = failure or _explain(pod, rule)
            losers.append(uid)
            if _fails_index(job, pod, rule) and (index := index_of(pod)) is not None and index not in indexes:
                failed_indexes.add(index)
    if is_indexed(job):
        succeeded = len(indexes)
    return Tally(
        succeeded,
        failed,
        UncountedPods(succeeded=winners, failed=losers),
        frozenset(indexes),
        frozenset(failed_indexes),
        tuple(releases),
        failure,
    )


def _fails_index(job: Job, pod: Pod, rule: PodFailureRule | None) -> bool:
    """Say whether a failed pod was the last of its index. One that the Job's end cut short says nothing of its own."""
    if not has_limit_per_index(job) or is_ending(job):
        return False
    is_last = failures_before(pod) >= (job.spec.backoff_limit_per_index or 0)
    return is_last or (rule is not None and rule.action == "FailIndex" and pod.is_finished)


def _is_remembered_by(pod: Pod, seen: Observed, failed_indexes: set[int]) -> bool:
    """Say whether a failed pod is all that tells how often its index has failed: no other was made after it."""
    job, index = seen.job, index_of(pod)
    if not has_limit_per_index(job) or index is None or index in failed_indexes or is_ending(job):
        return False
    others = (p for p in seen.pods if p.uid != pod.uid and index_of(p) == index)
    return has_failed(job, pod) and not any(failures_before(p) > failures_before(pod) for p in others)


def index_failures(seen: Observed, index: int) -> int:
    """Return how often an index has failed, as far as its pods tell, without what the failure policy ignores."""
    return max((failures_before(p) + _counts(seen, p) for p in seen.pods if index_of(p) == index), default=0)


def _counts(seen: Observed, pod: Pod) -> bool:
    rule = failure_rule(seen, pod) if pod.is_finished else None
    return has_failed(seen.job, pod) and (rule is None or rule.action != "Ignore")


def failure_rule(seen: Observed, pod: Pod) -> PodFailureRule | None:
    """Return the first rule of the failure policy that fits a failed pod."""
    policy = seen.job.spec.pod_failure_policy
    return next((r for r in policy.rules if _fits(r, pod)), None) if policy is not None else None


def _fits(rule: PodFailureRule, pod: Pod) -> bool:
    if rule.on_exit_codes is None:
        present = {(c.type, c.status) for c in pod.status.conditions}
        return any((p.type, p.status) in present for p in rule.on_pod_conditions)
    wanted = rule.on_exit_codes
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        ended = status.state.terminated
        if ended is None or ended.exit_code == 0 or wanted.container_name not in ("", status.name):
            continue
        if (ended.exit_code in wanted.values) == (wanted.operator == "In"):
            return True
    return False


def _explain(pod: Pod, rule: PodFailureRule) -> str:
    what = "exit code" if rule.on_exit_codes is not None else "condition"
    return f"Pod {pod.key} failed with a {what} that fails the Job: {rule.action} of the pod failure policy"


def release(pod: Pod, why: str) -> Patch:
    """Take the finalizer off a pod."""
    rest = [f for f in pod.metadata.finalizers if f != JOB_TRACKING]
    patch = {"metadata": {"uid": pod.uid, "finalizers": rest or None}}
    return Patch(Pod, pod.key, patch, why, resource_version=pod.metadata.resource_version)
