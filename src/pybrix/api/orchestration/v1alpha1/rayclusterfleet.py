"""RayClusterFleet: what a Deployment is to pods, for RayClusters."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, Int64, RolloutCondition
from pybrix.api.markers import AGE, Column, CustomResource, Definition, Rule, Scale, doc
from pybrix.api.meta import GroupVersionKind, LabelSelector, Value, Wire
from pybrix.api.orchestration.v1alpha1.roleset import CONDITIONS
from pybrix.api.templates import (
    SELECTOR_FINDS_ITS_OWN,
    SELECTOR_IS_IMMUTABLE,
    RayClusterTemplate,
    RollingUpdate,
)


class RayClusterFleetStrategy(Value, frozen=True):
    """How RayClusters get a new template."""

    rules: ClassVar = (
        Rule(
            "!has(self.type) || self.type != 'Recreate' || !has(self.rollingUpdate)",
            "rollingUpdate does not go with type Recreate: leave one of them out",
            ".rollingUpdate",
        ),
    )

    type: Annotated[
        str,
        doc(
            "RollingUpdate (when absent): step by step; Recreate: all old clusters go before new ones come.",
            enum=["", "RollingUpdate", "Recreate"],
        ),
    ] = ""
    rolling_update: Annotated[RollingUpdate | None, doc("How many may be missing or extra; 25% each when absent.")] = (
        None
    )


class RayClusterFleetSpec(Wire):
    """How many RayClusters, made from what, and how they are updated."""

    rules: ClassVar = (
        *SELECTOR_FINDS_ITS_OWN,
        Rule(
            "!has(self.progressDeadlineSeconds) || self.progressDeadlineSeconds > "
            "(has(self.minReadySeconds) ? self.minReadySeconds : 0)",
            "progressDeadlineSeconds must be greater than minReadySeconds",
            ".progressDeadlineSeconds",
        ),
    )

    selector: Annotated[
        LabelSelector, doc("Finds the RayClusters of this object; template labels must match.", SELECTOR_IS_IMMUTABLE)
    ]
    template: Annotated[RayClusterTemplate, doc("What RayClusters are made from.")]
    replicas: Annotated[int, doc("RayClusters that run.", default=1, minimum=0)] = 1
    strategy: Annotated[RayClusterFleetStrategy | None, doc("How RayClusters get a new template.")] = None
    min_ready_seconds: Annotated[
        int, doc("Seconds that a cluster must be ready before it counts as available.", minimum=0)
    ] = 0
    revision_history_limit: Annotated[int, doc("Old revisions that are kept.", default=10, minimum=0)] = 10
    paused: Annotated[bool, doc("Hold rollouts; scaling goes on.")] = False
    progress_deadline_seconds: Annotated[
        int, doc("Seconds without progress after which a rollout counts as failed.", default=600, minimum=0)
    ] = 600


class RayClusterFleetStatus(Wire):
    """How the RayClusters are."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    replicas: Annotated[int, doc("RayClusters.")] = 0
    updated_replicas: Annotated[int, doc("RayClusters of the newest template.")] = 0
    ready_replicas: Annotated[int, doc("RayClusters that are ready.")] = 0
    available_replicas: Annotated[int, doc("RayClusters that have been ready for minReadySeconds.")] = 0
    unavailable_replicas: Annotated[int, doc("RayClusters that are missing or not available.")] = 0
    collision_count: Annotated[int | None, doc("Name clashes of revisions so far.")] = None
    scaling_target_selector: Annotated[str, doc("Label selector of the head pods, for autoscalers.")] = ""
    conditions: Annotated[list[RolloutCondition], CONDITIONS] = []


class RayClusterFleet(CustomResource, kw_only=True):
    """Run replicas of a RayCluster, with revisions and rollouts."""

    gvk: ClassVar = GroupVersionKind("orchestration.aibrix.ai", "v1alpha1", "RayClusterFleet", "rayclusterfleets")
    # The name is a label's value on every pod.
    definition: ClassVar = Definition(
        columns=(
            Column("Desired", "integer", ".spec.replicas"),
            Column("Updated", "integer", ".status.updatedReplicas"),
            Column("Ready", "integer", ".status.readyReplicas"),
            Column("Available", "integer", ".status.availableReplicas"),
            AGE,
        ),
        scale=Scale(selector=".status.scalingTargetSelector"),
        name={"maxLength": 63},
    )
    spec: Annotated[RayClusterFleetSpec, doc("How many RayClusters, made from what, and how they are updated.")]
    status: Annotated[RayClusterFleetStatus, doc("How the RayClusters are.")] = msgspec.field(
        default_factory=RayClusterFleetStatus
    )
