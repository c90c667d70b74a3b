"""How Jobs start, count, end and are forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.api.batch import Job
from pybrix.api.core import Pod
from pybrix.api.meta import find_condition
from pybrix.api.names import JOB_INDEX_FAILURES, JOB_TRACKING
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.job.indexes import parse_indexes, print_indexes
from pybrix.cluster.workloads.job.plan import Decision, difference, plan
from pybrix.cluster.workloads.job.state import index_of, observe
from pybrix.runtime.actions import Create, Delete, PatchStatus, Plan
from tests.support.workloads import START, World, at

LABELS = {"batch.kubernetes.io/controller-uid": "uid-work"}


def make_job(**spec: Any) -> Job:
    container = {"name": "main", "image": "v1"}
    template = {"metadata": {"labels": LABELS}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata = {"name": "work", "namespace": "default", "uid": "uid-work", "resourceVersion": "1", "generation": 1}
    selector = {"matchLabels": LABELS}
    given_spec = {"selector": selector, "template": template, "parallelism": 1, "completions": 1, **spec}
    return Job.from_dict({"metadata": metadata, "spec": {k: v for k, v in given_spec.items() if v is not None}})


class Scene:
    """A world with one Job; the test is the kubelet and the garbage collector."""

    def __init__(self, job: Job) -> None:
        self.world = World()
        self.world.put(job)

    @property
    def job(self) -> Job:
        return self.world.get(Job, "work")

    @property
    def pods(self) -> list[Pod]:
        return self.world.list(Pod)

    @property
    def active(self) -> list[Pod]:
        return [p for p in self.pods if not p.is_finished and not p.metadata.is_terminating]

    def step(self, *, is_status_lost: bool = False) -> Decision:
        """Plan and apply one pass; the status may not reach the server."""
        decision = plan(observe(self.job, self.pods), self.world.now)
        for action in decision.actions:
            if isinstance(action, Delete) and action.cls is Pod:
                self._delete(action.key.name)
            else:
                self.world.apply(Plan((action,)))
        if not is_status_lost and self.world.list(Job):
            patch = difference(self.job.status, decision.status)
            self.world.apply(Plan((PatchStatus(Job, self.job.key, patch, ""),)))
        return decision

    def _delete(self, name: str) -> None:
        """Delete as a server does: what has a finalizer stays, on its way out."""
        pod = self.world.get(Pod, name)
        if pod.metadata.finalizers or not pod.is_finished:
            self.world.edit(Pod, name, {"metadata": {"deletionTimestamp": format_rfc3339(self.world.now)}})
        self.bury()

    def bury(self) -> None:
        """Remove pods that are deleted, have ended, and nothing holds."""
        for pod in self.pods:
            if pod.metadata.is_terminating and not pod.metadata.finalizers:
                del self.world.objects[(Pod, pod.key)]

    def end(self, pod: Pod, code: int) -> None:
        ended = {"exitCode": code, "finishedAt": format_rfc3339(self.world.now)}
        status = {"name": "main", "state": {"terminated": ended}, "ready": False, "restartCount": 0}
        phase = "Succeeded" if code == 0 else "Failed"
        containers = [{**status, "image": "v1", "imageID": ""}]
        self.world.edit(Pod, pod.metadata.name, {"status": {"phase": phase, "containerStatuses": containers}})

    def wait(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)

    def settle(self) -> None:
        for _ in range(10):
            self.step()
            self.bury()

    def condition(self, kind: str) -> str:
        found = find_condition(self.job.status.conditions, kind)
        return found.reason if found is not None and found.is_true else ""

    def change(self, **spec: Any) -> None:
        self.world.edit(Job, "work", {"spec": spec})


def created(decision: Decision) -> int:
    return sum(isinstance(a, Create) for a in decision.actions)


@settings(max_examples=60)
@given(
    completions=st.one_of(st.none(), st.integers(1, 5)),
    parallelism=st.integers(1, 4),
    limit=st.integers(0, 4),
    is_indexed=st.booleans(),
    per_index=st.one_of(st.none(), st.integers(0, 2)),
    data=st.data(),
)
def test_every_end_is_counted_once_and_the_job_ends_as_its_numbers_say(
    completions: int | None, parallelism: int, limit: int, is_indexed: bool, per_index: int | None, data: st.DataObject
) -> None:
    mode = "Indexed" if is_indexed and completions is not None else "NonIndexed"
    if mode == "NonIndexed":
        per_index = None
    limit = limit if per_index is None else 1000
    more = {"backoffLimit": limit, "backoffLimitPerIndex": per_index, "completionMode": mode}
    scene = Scene(make_job(completions=completions, parallelism=parallelism, **more))
    ends = {0: 0, 1: 0}
    indexes: set[int | None] = set()
    for _ in range(40):
        scene.step(is_status_lost=data.draw(st.booleans()))
        assert len(scene.active) <= parallelism
        scene.wait(700)
        for pod in scene.active:
            if data.draw(st.booleans()):
                code = data.draw(st.integers(0, 1))
                scene.end(pod, code)
                ends[code] += 1
                if code == 0:
                    indexes.add(index_of(pod))
        if not scene.active and ends[0] + ends[1] == 0:
            continue
    for _ in range(3):
        scene.settle()
        scene.wait(700)
        for pod in scene.active:
            scene.end(pod, 0)
            ends[0] += 1
            indexes.add(index_of(pod))
    scene.settle()
    status = scene.job.status
    uncounted = status.uncounted_terminated_pods
    assert uncounted is None or uncounted == type(uncounted)()
    assert not any(JOB_TRACKING in p.metadata.finalizers for p in scene.pods if p.is_finished)
    assert status.succeeded == (len(indexes) if mode == "Indexed" else ends[0])
    if scene.condition("Complete"):
        assert status.succeeded >= (completions or 1)
        assert ends[1] <= limit
    elif scene.condition("Failed") == "FailedIndexes":
        assert per_index is not None
        assert status.failed == ends[1]
        assert len(parse_indexes(status.failed_indexes) | indexes) == completions
        assert not parse_indexes(status.failed_indexes) & indexes
    elif scene.condition("Failed"):
        # Pods that the end of the Job cut short count as failed, too.
        assert status.failed >= ends[1] > limit
        assert scene.condition("Failed") == "BackoffLimitExceeded"


def test_failures_put_off_the_next_pod_twice_as_long_each_time() -> None:
    scene = Scene(make_job(backoffLimit=6))
    waits = []
    for _ in range(4):
        scene.settle()
        scene.end(scene.active[0], 1)
        scene.settle()
        assert not scene.active
        wait_s = scene.step().again_s
        assert wait_s is not None
        waits.append(round(wait_s))
        scene.wait(wait_s)
    assert waits == [10, 20, 40, 80]


def test_past_its_limit_a_job_fails_and_its_other_pods_are_ended() -> None:
    scene = Scene(make_job(parallelism=2, completions=2, backoffLimit=0))
    scene.settle()
    scene.end(scene.active[0], 1)
    scene.step()
    assert scene.condition("FailureTarget") == "BackoffLimitExceeded"
    assert not scene.active
    scene.settle()
    assert scene.condition("Failed") == "BackoffLimitExceeded"
    assert scene.job.status.failed == 2
    assert ("BackoffLimitExceeded", "Warning") in [(e.reason, e.type) for e in scene.world.events]


def test_a_deadline_ends_it_even_while_all_is_well() -> None:
    scene = Scene(make_job(activeDeadlineSeconds=60))
    scene.settle()
    again_s = scene.step().again_s
    assert again_s == 60
    scene.wait(60)
    scene.settle()
    assert scene.condition("Failed") == "DeadlineExceeded"


def test_a_queue_of_work_starts_nothing_after_the_first_success_and_ends_with_the_last_pod() -> None:
    scene = Scene(make_job(completions=None, parallelism=3))
    scene.settle()
    assert len(scene.active) == 3
    first, *others = scene.active
    scene.end(first, 0)
    scene.settle()
    assert len(scene.active) == 2
    assert not scene.condition("Complete")
    for pod in others:
        scene.end(pod, 0)
    scene.settle()
    assert scene.condition("Complete")
    assert (scene.job.status.succeeded, bool(scene.job.status.completion_time)) == (3, True)


def test_suspending_ends_pods_without_counting_them_and_resuming_starts_anew() -> None:
    scene = Scene(make_job(parallelism=2, completions=2))
    scene.settle()
    assert len(scene.active) == 2
    scene.change(suspend=True)
    scene.settle()
    assert (scene.active, scene.job.status.failed, scene.job.status.start_time) == ([], 0, None)
    assert scene.condition("Suspended") == "JobSuspended"
    scene.change(suspend=False)
    scene.settle()
    assert len(scene.active) == 2
    assert not scene.condition("Suspended")
    assert [e.reason for e in scene.world.events if e.reason in ("Suspended", "Resumed")] == ["Suspended", "Resumed"]


def test_fewer_at_a_time_deletes_the_rest_without_counting_them() -> None:
    scene = Scene(make_job(parallelism=4, completions=4))
    scene.settle()
    scene.change(parallelism=1)
    scene.settle()
    assert (len(scene.active), scene.job.status.failed) == (1, 0)


def test_a_pod_that_somebody_deletes_counts_as_failed_and_is_replaced_at_once_or_after_its_end() -> None:
    for policy, is_replaced in (("TerminatingOrFailed", True), ("Failed", False)):
        scene = Scene(make_job(podReplacementPolicy=policy))
        scene.settle()
        name = scene.active[0].metadata.name
        scene.world.edit(Pod, name, {"metadata": {"deletionTimestamp": format_rfc3339(START)}})
        scene.step()
        assert bool(scene.active) == is_replaced


def test_an_index_that_fails_is_tried_again_and_the_others_are_not() -> None:
    scene = Scene(make_job(completions=3, parallelism=3, completionMode="Indexed"))
    scene.settle()
    by_index = {index_of(p): p for p in scene.active}
    assert sorted(i for i in by_index if i is not None) == [0, 1, 2]
    assert by_index[1].spec.hostname == "work-1"
    scene.end(by_index[0], 0)
    scene.end(by_index[1], 1)
    scene.end(by_index[2], 0)
    scene.settle()
    assert scene.job.status.completed_indexes == "0,2"
    scene.wait(10)
    scene.settle()
    assert [index_of(p) for p in scene.active] == [1]
    scene.end(scene.active[0], 0)
    scene.settle()
    assert scene.job.status.completed_indexes == "0-2"
    assert scene.condition("Complete")


@pytest.mark.parametrize(
    ("action", "failed", "reason"), [("Ignore", 0, ""), ("Count", 1, ""), ("FailJob", 1, "PodFailurePolicy")]
)
def test_the_failure_policy_says_what_an_exit_code_means(action: str, failed: int, reason: str) -> None:
    rules = [
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [42]}},
        {"action": action, "onExitCodes": {"operator": "In", "values": [42], "containerName": "main"}},
    ]
    scene = Scene(make_job(podFailurePolicy={"rules": rules}))
    scene.settle()
    scene.end(scene.active[0], 42)
    scene.settle()
    assert (scene.job.status.failed, scene.condition("Failed")) == (failed, reason)


def indexed(**spec: Any) -> Scene:
    return Scene(make_job(**{"completions": 3, "parallelism": 3, "completionMode": "Indexed", **spec}))


def of_index(scene: Scene, index: int) -> Pod:
    (found,) = [p for p in scene.active if index_of(p) == index]
    return found


def test_an_index_that_fails_too_often_fails_alone_and_the_job_when_the_others_are_through() -> None:
    scene = indexed(backoffLimitPerIndex=1, backoffLimit=1000)
    scene.settle()
    for failures in (0, 1):
        pod = of_index(scene, 1)
        assert pod.metadata.annotations[JOB_INDEX_FAILURES] == str(failures)
        scene.end(pod, 1)
        scene.settle()
        scene.wait(10)
        scene.settle()
    assert scene.job.status.failed_indexes == "1"
    assert sorted(index_of(p) or 0 for p in scene.active) == [0, 2]
    for index in (0, 2):
        scene.end(of_index(scene, index), 0)
    scene.settle()
    assert scene.condition("Failed") == "FailedIndexes"
    status = scene.job.status
    assert (status.completed_indexes, status.failed_indexes, status.succeeded, status.failed) == ("0,2", "1", 2, 2)
    assert not any(JOB_TRACKING in p.metadata.finalizers for p in scene.pods)


def test_a_failed_pod_is_kept_until_its_successor_knows_how_often_the_index_has_failed() -> None:
    scene = indexed(backoffLimitPerIndex=2, backoffLimit=1000)
    scene.settle()
    scene.end(of_index(scene, 0), 1)
    scene.settle()
    (failed,) = [p for p in scene.pods if p.is_finished]
    assert JOB_TRACKING in failed.metadata.finalizers, "it waits 10 s for its successor"
    scene._delete(failed.metadata.name)
    scene.wait(10)
    scene.settle()
    assert of_index(scene, 0).metadata.annotations[JOB_INDEX_FAILURES] == "1"
    assert failed.metadata.name not in [p.metadata.name for p in scene.pods]
    assert scene.job.status.failed == 1


def test_pauses_are_of_each_index() -> None:
    scene = indexed(backoffLimitPerIndex=5, backoffLimit=1000, parallelism=2)
    scene.settle()
    scene.end(of_index(scene, 0), 1)
    scene.settle()
    assert sorted(index_of(p) or 0 for p in scene.active) == [1, 2], "another takes its turn"


def test_too_many_failed_indexes_end_the_job_at_once() -> None:
    scene = indexed(backoffLimitPerIndex=0, backoffLimit=1000, maxFailedIndexes=1)
    scene.settle()
    scene.end(of_index(scene, 0), 1)
    scene.settle()
    assert not scene.condition("FailureTarget")
    scene.end(of_index(scene, 2), 1)
    scene.settle()
    assert scene.condition("Failed") == "MaxFailedIndexesExceeded"
    assert scene.job.status.failed_indexes == "0,2"


@pytest.mark.parametrize(("action", "want"), [("FailIndex", "0"), ("Ignore", ""), ("Count", "")])
def test_the_failure_policy_can_fail_an_index(action: str, want: str) -> None:
    rules = [{"action": action, "onExitCodes": {"operator": "In", "values": [42]}}]
    scene = indexed(backoffLimitPerIndex=1, backoffLimit=1000, podFailurePolicy={"rules": rules})
    scene.settle()
    for _ in range(2 if action == "Ignore" else 1):
        scene.end(of_index(scene, 0), 42)
        scene.settle()
        scene.wait(30)
        scene.settle()
    assert scene.job.status.failed_indexes == want
    if action == "Ignore":
        assert of_index(scene, 0).metadata.annotations[JOB_INDEX_FAILURES] == "0"


@pytest.mark.parametrize(
    ("rule", "succeeded", "want"),
    [
        ({"succeededIndexes": "0"}, {0}, True),
        ({"succeededIndexes": "0,2"}, {0, 1}, False),
        ({"succeededCount": 2}, {0, 1}, True),
        ({"succeededCount": 2}, {1}, False),
        ({"succeededIndexes": "0-1", "succeededCount": 1}, {1}, True),
        ({"succeededIndexes": "0-1", "succeededCount": 1}, {2}, False),
    ],
)
def test_some_successes_can_be_enough(rule: dict[str, Any], succeeded: set[int], want: bool) -> None:
    scene = indexed(successPolicy={"rules": [{"succeededCount": 3}, rule]})
    scene.settle()
    for index in succeeded:
        scene.end(of_index(scene, index), 0)
    scene.settle()
    assert scene.condition("Complete") == ("SuccessPolicy" if want else "")
    assert bool(scene.active) != want
    if want:
        assert find_condition(scene.job.status.conditions, "Complete").message == "Matched rules at index 1"  # type: ignore[union-attr]


def test_a_finished_job_is_deleted_when_its_time_has_passed() -> None:
    scene = Scene(make_job(ttlSecondsAfterFinished=30))
    scene.settle()
    scene.end(scene.active[0], 0)
    scene.settle()
    assert scene.condition("Complete")
    assert scene.step().again_s == 30
    scene.wait(30)
    (deletion,) = scene.step().actions
    assert isinstance(deletion, Delete)
    assert deletion.cls is Job


def test_pods_of_a_job_that_is_being_deleted_are_let_go() -> None:
    scene = Scene(make_job())
    scene.settle()
    scene.world.edit(Job, "work", {"metadata": {"deletionTimestamp": format_rfc3339(at(1))}})
    scene.step()
    assert [p.metadata.finalizers for p in scene.pods] == [[]]


def test_nothing_is_created_while_the_cache_lags_or_the_namespace_ends() -> None:
    job = make_job()
    assert created(plan(observe(job, [], is_settled=False), START)) == 0
    assert created(plan(observe(job, [], is_namespace_ending=True), START)) == 0


@given(st.sets(st.integers(0, 40)))
def test_indexes_are_read_as_they_were_written(indexes: set[int]) -> None:
    assert parse_indexes(print_indexes(indexes)) == indexes


@pytest.mark.parametrize(
    ("indexes", "text"), [([], ""), ([3], "3"), ([0, 1], "0,1"), ([0, 1, 2, 4, 6, 7, 8], "0-2,4,6-8")]
)
def test_indexes_are_written_short(indexes: list[int], text: str) -> None:
    assert print_indexes(indexes) == text
