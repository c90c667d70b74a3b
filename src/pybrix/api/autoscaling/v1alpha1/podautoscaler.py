"""PodAutoscaler: keeps the number of pods of a workload in step with what its metrics say."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, STANDARD_CONDITIONS, Int64, StandardCondition, Time
from pybrix.api.markers import Column, CustomResource, Definition, Rule, doc
from pybrix.api.meta import GroupVersionKind, Value, Wire
from pybrix.api.parts import OBJECT_REFERENCE
from pybrix.api.references import ScaleTargetReference

DEFAULT_OBSERVE_WINDOW_SECONDS = 180
DEFAULT_PANIC_WINDOW_SECONDS = 60
DEFAULT_MIN_REPLICAS = 1
_WEEKDAY_PATTERN = "^([Mm][Oo][Nn]|[Tt][Uu][Ee]|[Ww][Ee][Dd]|[Tt][Hh][Uu]|[Ff][Rr][Ii]|[Ss][Aa][Tt]|[Ss][Uu][Nn])$"
_TIME_PATTERN = "^([01][0-9]|2[0-3]):[0-5][0-9]$"
_NUMBER = r"^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?$"


def _given(name: str) -> str:
    return f"(has(self.{name}) && self.{name} != '')"


def _is_kind(*kinds: str) -> str:
    return f"self.metricSourceType in [{', '.join(repr(kind) for kind in kinds)}]"


class SubTargetSelector(Value, frozen=True):
    """A part of the workload that is scaled by itself."""

    role_name: Annotated[str, doc("Role of a StormService.", maxLength=63)] = ""


class MetricSource(Value, frozen=True):
    """Where one metric comes from, and the value to hold it at."""

    rules: ClassVar = (
        Rule(
            f"!({_is_kind('pod')}) || ({_given('protocolType')} && {_given('port')} && {_given('path')})",
            "a metric of type pod is read from each pod: set protocolType, port and path",
        ),
        Rule(
            f"!({_is_kind('pod')}) || !{_given('port')} || "
            f"(self.port.matches('^[0-9]{{1,9}}$') && int(self.port) >= 1 && int(self.port) <= 65535)",
            'port must be a number from 1 to 65535, such as "8000"',
            ".port",
        ),
        Rule(
            f"!({_is_kind('external', 'domain')}) || !{_given('endpoint')} || "
            f"({_given('protocolType')} && {_given('path')})",
            "an external metric with an endpoint is read from it: set protocolType and path",
        ),
        Rule(
            f"!({_is_kind('resource')}) || self.targetMetric in ['cpu', 'memory']",
            "a metric of type resource is cpu or memory",
            ".targetMetric",
        ),
        Rule(
            f"!({_is_kind('resource')}) || !({_given('port')} || {_given('endpoint')} || {_given('path')} || "
            f"{_given('protocolType')})",
            "a metric of type resource comes from the metrics API: leave protocolType, endpoint, port and path out",
        ),
    )

    metric_source_type: Annotated[
        str,
        doc(
            "pod: read from every pod; resource: cpu or memory; custom: custom metrics API; external: an endpoint, or "
            "the external metrics API without one; domain: an older name of external.",
            enum=["pod", "resource", "custom", "external", "domain"],
        ),
    ]
    target_metric: Annotated[str, doc("Name of the metric.", minLength=1, maxLength=512)]
    target_value: Annotated[
        str,
        doc(
            "Value to hold the metric at: a number greater than 0.",
            Rule(
                f"self.matches('{_NUMBER}') && double(self) > 0.0 && double(self) <= 1.7976931348623157e308",
                'targetValue must be a number greater than 0, such as "0.5" or "100"',
            ),
            maxLength=64,
        ),
    ]
    protocol_type: Annotated[str, doc("Protocol to read the metric with.", enum=["http", "https"])] = ""
    endpoint: Annotated[str, doc("host:port to read an external metric from.", maxLength=2048)] = ""
    path: Annotated[str, doc("HTTP path of the metric, such as /metrics.", maxLength=2048)] = ""
    port: Annotated[str, doc("Port of the pod to read the metric from.", maxLength=63)] = ""


class Schedule(Value, frozen=True):
    """Bounds on the number of pods for some hours of the week."""

    rules: ClassVar = (
        Rule(
            "self.startTime < self.endTime",
            "endTime must be later than startTime; split a window that crosses midnight into two schedules",
            ".endTime",
        ),
        Rule(
            "has(self.minReplicas) || has(self.maxReplicas)",
            "a schedule changes minReplicas, maxReplicas or both: set at least one",
        ),
    )

    name: Annotated[
        str, doc("Name, unique in the list.", minLength=1, maxLength=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    ]
    start_time: Annotated[str, doc("Start of the window, HH:MM, inclusive.", maxLength=5, pattern=_TIME_PATTERN)]
    end_time: Annotated[str, doc("End of the window, HH:MM, exclusive.", maxLength=5, pattern=_TIME_PATTERN)]
    timezone: Annotated[
        str,
        doc(
            "IANA time zone such as Europe/Berlin; UTC when absent. All schedules of an object share one.",
            maxLength=64,
            pattern="^([A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*)?$",
        ),
    ] = ""
    days_of_week: Annotated[
        list[str],
        doc(
            "Days on which the window applies, Mon to Sun; every day when absent.",
            minItems=1,
            maxItems=7,
            items={"maxLength": 3, "pattern": _WEEKDAY_PATTERN},
        ),
    ] = []
    min_replicas: Annotated[int | None, doc("Replaces spec.minReplicas within the window.", minimum=0)] = None
    max_replicas: Annotated[int | None, doc("Replaces spec.maxReplicas within the window.", minimum=1)] = None


_ZONE = "(has(s.timezone) && s.timezone != '' ? s.timezone : 'UTC')"
_FIRST_ZONE = _ZONE.replace("s.", "self.schedules[0].")
_SHARE_A_DAY = (
    "!has(a.daysOfWeek) || !has(b.daysOfWeek) || "
    "a.daysOfWeek.exists(d, b.daysOfWeek.exists(e, d.lowerAscii() == e.lowerAscii()))"
)


class PodAutoscalerSpec(Wire):
    """What is scaled, between which bounds, by which metrics."""

    rules: ClassVar = (
        Rule(
            "!has(self.minReplicas) || self.maxReplicas >= self.minReplicas",
            "maxReplicas must be at least minReplicas",
            ".maxReplicas",
        ),
        Rule(
            f"(has(self.panicWindowSeconds) ? self.panicWindowSeconds : {DEFAULT_PANIC_WINDOW_SECONDS}) <= "
            f"(has(self.observeWindowSeconds) ? self.observeWindowSeconds : {DEFAULT_OBSERVE_WINDOW_SECONDS})",
            f"panicWindowSeconds (default {DEFAULT_PANIC_WINDOW_SECONDS}) must not be longer than "
            f"observeWindowSeconds (default {DEFAULT_OBSERVE_WINDOW_SECONDS})",
            ".panicWindowSeconds",
        ),
        Rule(
            "self.scalingStrategy != 'HPA' || !has(self.subTargetSelector) || "
            "!has(self.subTargetSelector.roleName) || self.subTargetSelector.roleName == ''",
            "strategy HPA scales a whole workload: use KPA or APA to scale one role, or leave subTargetSelector out",
            ".subTargetSelector",
        ),
        Rule(
            "has(self.metricsSources) && size(self.metricsSources) > 0",
            "metricsSources must name at least one metric",
            ".metricsSources",
        ),
        Rule(
            f"!has(self.schedules) || self.schedules.all(s, {_ZONE} == {_FIRST_ZONE})",
            "all schedules must use the same timezone",
            ".schedules",
        ),
        Rule(
            "!has(self.schedules) || self.schedules.all(s, "
            f"(has(s.minReplicas) ? s.minReplicas : has(self.minReplicas) ? self.minReplicas : {DEFAULT_MIN_REPLICAS})"
            " <= (has(s.maxReplicas) ? s.maxReplicas : self.maxReplicas))",
            "within each schedule, minReplicas must not be greater than maxReplicas, "
            "counting the spec's own where the schedule sets none",
            ".schedules",
        ),
        Rule(
            "!has(self.schedules) || self.schedules.all(a, self.schedules.all(b, a.name == b.name || "
            f"a.startTime >= b.endTime || b.startTime >= a.endTime || !({_SHARE_A_DAY})))",
            "schedules must not overlap on the same day",
            ".schedules",
        ),
    )

    scale_target_ref: Annotated[
        ScaleTargetReference,
        doc(
            "The workload to scale, by apiVersion, kind and name; it lives in the autoscaler's namespace.",
            Rule("has(self.name) && self.name != ''", "name of the workload to scale is required", ".name"),
            Rule("has(self.kind) && self.kind != ''", "kind of the workload to scale is required", ".kind"),
            schema=OBJECT_REFERENCE,
        ),
    ]
    max_replicas: Annotated[int, doc("Most pods.", minimum=1)]
    scaling_strategy: Annotated[
        str,
        doc(
            "HPA: a HorizontalPodAutoscaler is made and does the work; KPA: panics on bursts; APA: tolerance bands.",
            enum=["HPA", "KPA", "APA"],
        ),
    ]
    min_replicas: Annotated[
        int | None, doc(f"Fewest pods; {DEFAULT_MIN_REPLICAS} when absent, 0 is allowed.", minimum=0)
    ] = None
    sub_target_selector: Annotated[
        SubTargetSelector | None, doc("Scale one role of a StormService instead of the whole.")
    ] = None
    metrics_sources: Annotated[
        list[MetricSource],
        doc("Metrics to follow; the one that asks for most pods wins.", minItems=1, maxItems=32),
    ] = []
    observe_window_seconds: Annotated[
        Int64 | None,
        doc(
            f"Length of the window that metrics are averaged over; {DEFAULT_OBSERVE_WINDOW_SECONDS} when absent.",
            minimum=1,
            maximum=3600,
        ),
    ] = None
    panic_window_seconds: Annotated[
        Int64 | None,
        doc(
            f"Length of the window that shows bursts; {DEFAULT_PANIC_WINDOW_SECONDS} when absent.",
            minimum=1,
            maximum=3600,
        ),
    ] = None
    schedules: Annotated[
        list[Schedule],
        doc("Other bounds at certain hours; they must not overlap.", minItems=1, maxItems=64, map_keys=["name"]),
    ] = []


class ScalingDecision(Value, frozen=True):
    """One change of the number of pods."""

    timestamp: Annotated[Time, doc("When it was decided.")]
    previous_scale: Annotated[int, doc("Pods before.")]
    new_scale: Annotated[int, doc("Pods wanted.")]
    reason: Annotated[str, doc("Why.")]
    success: Annotated[bool, doc("Whether the change was written.")]
    error: Annotated[str, doc("Why the change could not be written.")] = ""


class ScheduledBounds(Value, frozen=True):
    """The bounds that hold now."""

    effective_min_replicas: Annotated[int, doc("Fewest pods now.")]
    effective_max_replicas: Annotated[int, doc("Most pods now.")]
    active_schedule: Annotated[str, doc("Schedule that sets them; empty when none does.")] = ""


class PodAutoscalerStatus(Wire):
    """What the autoscaler last saw and did."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    desired_scale: Annotated[int, doc("Pods wanted.")] = 0
    actual_scale: Annotated[int, doc("Pods there are.")] = 0
    last_scale_time: Annotated[Time | None, doc("When the number of pods was last changed.")] = None
    scheduled_bounds: Annotated[ScheduledBounds | None, doc("The bounds that hold now.")] = None
    scaling_history: Annotated[list[ScalingDecision], doc("The last changes, oldest first.", maxItems=5)] = []
    conditions: Annotated[list[StandardCondition], STANDARD_CONDITIONS] = []


class PodAutoscaler(CustomResource, kw_only=True):
    """Keep the number of pods of a workload in step with its metrics."""

    gvk: ClassVar = GroupVersionKind("autoscaling.aibrix.ai", "v1alpha1", "PodAutoscaler", "podautoscalers")
    definition: ClassVar = Definition(
        columns=(
            Column("MINPODS", "integer", ".spec.minReplicas"),
            Column("MAXPODS", "integer", ".spec.maxReplicas"),
            Column("REPLICAS", "integer", ".status.actualScale"),
            Column("STRATEGY", "string", ".spec.scalingStrategy"),
            Column("AGE", "date", ".metadata.creationTimestamp"),
        ),
        # Strategy HPA makes a HorizontalPodAutoscaler named `<name>-hpa`.
        name={"maxLength": 249},
    )
    spec: Annotated[PodAutoscalerSpec, doc("What is scaled, between which bounds, by which metrics.")]
    status: Annotated[PodAutoscalerStatus, doc("What the autoscaler last saw and did.")] = msgspec.field(
        default_factory=PodAutoscalerStatus
    )
