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
