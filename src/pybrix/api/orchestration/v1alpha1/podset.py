"""PodSet: pods that are one replica together."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, Int64, RolloutCondition
from pybrix.api.markers import AGE, Column, CustomResource, Definition, Rule, doc
from pybrix.api.meta import GroupVersionKind, Wire
from pybrix.api.names import DNS_LABEL_PATTERN
from pybrix.api.orchestration.v1alpha1.roleset import CONDITIONS
from pybrix.api.orchestration.v1alpha1.scheduling import SchedulingStrategy
from pybrix.api.templates import PodTemplate


class PodSetSpec(Wire):
    """How many pods make the group, and what they are made from."""

    pod_group_size: Annotated[int, doc("Pods of the group.", minimum=2, maximum=100)]
    template: Annotated[PodTemplate, doc("What the pods are made from.")]
    stateful: Annotated[bool, doc("Accepted for compatibility; it has no effect.")] = False
    recovery_policy: Annotated[
        str,
        doc(
            "ReplaceUnhealthy: only failed pods are replaced; Recreate: the whole group is.",
            default="ReplaceUnhealthy",
            enum=["ReplaceUnhealthy", "Recreate"],
        ),
    ] = "ReplaceUnhealthy"
    scheduling_strategy: Annotated[SchedulingStrategy | None, doc("Gang scheduler of the group.")] = None


class PodSetStatus(Wire):
    """How the group is."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    # Required on the wire, so no default of 0 is left out.
    ready_pods: Annotated[int | None, doc("Pods that are ready.", required=True)] = None
    total_pods: Annotated[int | None, doc("Pods of the group.", required=True)] = None
    phase: Annotated[str, doc("Pending, Running, Ready or Failed.")] = ""
    conditions: Annotated[list[RolloutCondition], CONDITIONS] = []


class PodSet(CustomResource, kw_only=True):
    """Run pods that are one replica together; made by RoleSets for roles with podGroupSize above 1."""

    gvk: ClassVar = GroupVersionKind("orchestration.aibrix.ai", "v1alpha1", "PodSet", "podsets")
    definition: ClassVar = Definition(
        columns=(
            Column("ReadyPods", "integer", ".status.readyPods"),
            Column("TotalPods", "integer", ".status.totalPods"),
            Column("Phase", "string", ".status.phase"),
            AGE,
        ),
        # The name is a label's value on every pod, and pods are named after it, which is their host name.
        name={"maxLength": 63, "pattern": DNS_LABEL_PATTERN},
        rules=(
            Rule(
                "size(self.metadata.name) + (self.spec.podGroupSize > 10 ? 3 : 2) <= 63",
                "names of pods are the name and their number: with a podGroupSize above 10 a name may have 60 "
                "characters, else 61",
                ".metadata.name",
            ),
        ),
    )
    spec: Annotated[PodSetSpec, doc("How many pods make the group, and what they are made from.")]
    status: Annotated[PodSetStatus, doc("How the group is.")] = msgspec.field(default_factory=PodSetStatus)
