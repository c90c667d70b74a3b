"""RayClusterReplicaSet: keeps a number of equal RayClusters alive."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, STANDARD_CONDITIONS, Int64, StandardCondition
from pybrix.api.markers import AGE, Column, CustomResource, Definition, Rule, Scale, doc
from pybrix.api.meta import GroupVersionKind, LabelSelector, Wire
from pybrix.api.templates import SELECTOR_FINDS_ITS_OWN, SELECTOR_IS_IMMUTABLE, RayClusterTemplate


class RayClusterReplicaSetSpec(Wire):
    """How many RayClusters, made from what."""

    rules: ClassVar = (
        Rule("has(self.selector)", "selector is required: it finds the RayClusters of this object", ".selector"),
        Rule("has(self.template)", "template is required: RayClusters are made from it", ".template"),
        *SELECTOR_FINDS_ITS_OWN,
    )

    replicas: Annotated[int, doc("RayClusters that run.", default=1, minimum=0)] = 1
    min_ready_seconds: Annotated[
        int, doc("Seconds that a cluster must be ready before it counts as available.", minimum=0)
    ] = 0
    selector: Annotated[
        LabelSelector | None,
        doc("Finds the RayClusters of this object; template labels must match.", SELECTOR_IS_IMMUTABLE),
    ] = None
    template: Annotated[RayClusterTemplate | None, doc("What RayClusters are made from.")] = None


class RayClusterReplicaSetStatus(Wire):
    """How the RayClusters are."""

    # Required on the wire, so no default of 0 is left out.
    replicas: Annotated[int | None, doc("RayClusters.", required=True)] = None
    fully_labeled_replicas: Annotated[int, doc("RayClusters with all labels of the template.")] = 0
    ready_replicas: Annotated[int, doc("RayClusters that are ready.")] = 0
    available_replicas: Annotated[int, doc("RayClusters that have been ready for minReadySeconds.")] = 0
    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    conditions: Annotated[list[StandardCondition], STANDARD_CONDITIONS] = []


class RayClusterReplicaSet(CustomResource, kw_only=True):
    """Keep a number of equal RayClusters alive; made by RayClusterFleets."""

    gvk: ClassVar = GroupVersionKind(
        "orchestration.aibrix.ai", "v1alpha1", "RayClusterReplicaSet", "rayclusterreplicasets"
    )
    # Upstream has no scale of this kind; it takes nothing away.
    definition: ClassVar = Definition(
        columns=(
            Column("Desired", "integer", ".spec.replicas"),
            Column("Current", "integer", ".status.replicas"),
            Column("Ready", "integer", ".status.readyReplicas"),
            Column("Available", "integer", ".status.availableReplicas"),
            AGE,
        ),
        scale=Scale(),
    )
    spec: Annotated[RayClusterReplicaSetSpec, doc("How many RayClusters, made from what.")]
    status: Annotated[RayClusterReplicaSetStatus, doc("How the RayClusters are.")] = msgspec.field(
        default_factory=RayClusterReplicaSetStatus
    )
