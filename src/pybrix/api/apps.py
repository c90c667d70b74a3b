"""Workload kinds (`apps/v1`). Pod templates stay plain dicts: they are passed on, never interpreted."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from pybrix.api.core import IntOrString
from pybrix.api.meta import Condition, GroupVersionKind, LabelSelector, Object, Value, Wire


class ReplicaSetSpec(Wire):
    """`replicas` has no default here, so that 0 reaches the wire."""

    replicas: int | None = None
    min_ready_seconds: int = 0
    selector: LabelSelector | None = None
    template: dict[str, Any] = {}


class ReplicaSetStatus(Wire):
    # Required on the wire, so no default of 0 is left out.
    replicas: int | None = None
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    observed_generation: int = 0
    conditions: list[Condition] = []


class ReplicaSet(Object):
    """Keep `replicas` pods of a template alive."""

    gvk: ClassVar = GroupVersionKind("apps", "v1", "ReplicaSet", "replicasets")
    spec: ReplicaSetSpec = msgspec.field(default_factory=ReplicaSetSpec)
    status: ReplicaSetStatus = msgspec.field(default_factory=ReplicaSetStatus)


class RollingUpdate(Value, frozen=True):
    """Numbers of pods or percentages of `replicas`; None means the default, 25%."""

    max_unavailable: IntOrString | None = None
    max_surge: IntOrString | None = None


class DeploymentStrategy(Value, frozen=True):
    """`type` is RollingUpdate or Recreate."""

    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(Wire):
    replicas: int | None = None
    selector: LabelSelector | None = None
    template: dict[str, Any] = {}
    strategy: DeploymentStrategy = DeploymentStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int | None = None
    paused: bool = False
    progress_deadline_seconds: int | None = None


class DeploymentStatus(Wire):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: list[Condition] = []
    collision_count: int | None = None


class Deployment(Object):
    """Move pods from one template to the next, a ReplicaSet a revision."""

    gvk: ClassVar = GroupVersionKind("apps", "v1", "Deployment", "deployments")
    spec: DeploymentSpec = msgspec.field(default_factory=DeploymentSpec)
    status: DeploymentStatus = msgspec.field(default_factory=DeploymentStatus)


class StatefulRollingUpdate(Value, frozen=True):
    """Pods with an ordinal below `partition` keep the revision they have; at most `max_unavailable` (1) are away."""

    partition: int = 0
    max_unavailable: IntOrString | None = None


class StatefulSetUpdateStrategy(Value, frozen=True):
    """`type` is RollingUpdate or OnDelete."""

    type: str = "RollingUpdate"
    rolling_update: StatefulRollingUpdate | None = None


class ClaimRetentionPolicy(Value, frozen=True):
    """What becomes of claims when the set is deleted or scaled down: Retain or Delete."""

    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


class Ordinals(Value, frozen=True):
    """The number of the first pod."""

    start: int = 0


class StatefulSetSpec(Wire):
    """`volume_claim_templates` are claims without a namespace; each pod gets one of each, which outlives it."""

    replicas: int | None = None
    selector: LabelSelector | None = None
    template: dict[str, Any] = {}
    volume_claim_templates: list[dict[str, Any]] = []
    service_name: str = ""
    pod_management_policy: str = "OrderedReady"
    update_strategy: StatefulSetUpdateStrategy = StatefulSetUpdateStrategy()
    revision_history_limit: int | None = None
    min_ready_seconds: int = 0
    persistent_volume_claim_retention_policy: ClaimRetentionPolicy | None = None
    ordinals: Ordinals | None = None


class StatefulSetStatus(Wire):
    observed_generation: int = 0
    # Required on the wire, so no default of 0 is left out.
    replicas: int | None = None
    ready_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    collision_count: int | None = None
    conditions: list[Condition] = []
    available_replicas: int | None = None


class StatefulSet(Object):
    """Keep numbered pods, each with a name and claims of its own."""

    gvk: ClassVar = GroupVersionKind("apps", "v1", "StatefulSet", "statefulsets")
    spec: StatefulSetSpec = msgspec.field(default_factory=StatefulSetSpec)
    status: StatefulSetStatus = msgspec.field(default_factory=StatefulSetStatus)


class ControllerRevision(Object, kw_only=True):
    """A template as it was: `data` is a patch that brings it back."""

    gvk: ClassVar = GroupVersionKind("apps", "v1", "ControllerRevision", "controllerrevisions")
    data: dict[str, Any] = {}
    # Required on the wire.
    revision: int
