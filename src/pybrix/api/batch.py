"""Jobs (`batch/v1`): pods that run to their end."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from pybrix.api.meta import Condition, GroupVersionKind, LabelSelector, Object, Value, Wire


class ExitCodesRequirement(Value, frozen=True):
    """Containers (one, or all) whose exit code is In or NotIn `values`; 0 counts for neither."""

    operator: str
    values: list[int]
    container_name: str = ""


class PodConditionPattern(Value, frozen=True):
    type: str
    status: str = "True"


class PodFailureRule(Value, frozen=True):
    """What a pod that failed in this way means: FailJob, FailIndex, Ignore or Count."""

    action: str
    on_exit_codes: ExitCodesRequirement | None = None
    on_pod_conditions: list[PodConditionPattern] = []


class PodFailurePolicy(Value, frozen=True):
    """The first rule that fits a failed pod decides; without one it counts."""

    rules: list[PodFailureRule] = []


class SuccessRule(Value, frozen=True):
    """How many of which indexes (as `0,2-4`; all) have to succeed; without a number all of those that are named."""

    succeeded_indexes: str = ""
    succeeded_count: int | None = None


class SuccessPolicy(Value, frozen=True):
    """The first rule that holds completes the Job."""

    rules: list[SuccessRule] = []


class JobSpec(Wire):
    """Numbers without a default here are set by the server, or mean something when they are absent."""

    parallelism: int | None = None
    completions: int | None = None
    active_deadline_seconds: int | None = None
    pod_failure_policy: PodFailurePolicy | None = None
    success_policy: SuccessPolicy | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    selector: LabelSelector | None = None
    template: dict[str, Any] = {}
    ttl_seconds_after_finished: int | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    pod_replacement_policy: str = ""
    managed_by: str = ""


class UncountedPods(Value, frozen=True):
    """UIDs of pods that have ended and are in no count yet."""

    succeeded: list[str] = []
    failed: list[str] = []


class JobStatus(Wire):
    conditions: list[Condition] = []
    start_time: str | None = None
    completion_time: str | None = None
    active: int = 0
    terminating: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    completed_indexes: str = ""
    failed_indexes: str = ""
    uncounted_terminated_pods: UncountedPods | None = None


class Job(Object):
    """Run pods until enough of them have succeeded."""

    gvk: ClassVar = GroupVersionKind("batch", "v1", "Job", "jobs")
    spec: JobSpec = msgspec.field(default_factory=JobSpec)
    status: JobStatus = msgspec.field(default_factory=JobStatus)
