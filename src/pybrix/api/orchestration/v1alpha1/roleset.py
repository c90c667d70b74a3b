"""RoleSet: groups of pods, one per role, that are updated together."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, Int64, RolloutCondition
from pybrix.api.markers import AGE, Column, CustomResource, Definition, Rule, doc
from pybrix.api.meta import GroupVersionKind, Value, Wire
from pybrix.api.orchestration.v1alpha1.scheduling import SchedulingStrategy, TopologyPolicy
from pybrix.api.templates import Amount, DisruptionTolerance, PodTemplate

MAX_ROLES = 64
_HAS_ROLES = "(has(self.spec) && has(self.spec.roles))"
CONDITIONS = doc("The latest judgements of the object's state, one per type.", map_keys=["type"])
READY = Column("Ready", "string", ".status.conditions[?(@.type=='Ready')].status")


class RoleUpdateStrategy(Value, frozen=True):
    """How the pods of a role get a new template."""

    type: Annotated[
        str,
        doc(
            "Recreate: new pods replace old ones; InPlaceIfPossible: only the image changes, the pod stays.",
            default="Recreate",
            enum=["Recreate", "InPlaceIfPossible"],
        ),
    ] = "Recreate"
    max_unavailable: Annotated[Amount | None, doc("Most pods that may be missing: a number or a percentage.")] = None
    max_surge: Annotated[Amount | None, doc("Most pods that may be extra: a number or a percentage.")] = None


class Role(Value, frozen=True):
    """A group of equal pods, such as prefill or decode."""

    rules: ClassVar = (
        Rule(
            "has(self.template) && has(self.template.spec)",
            "template.spec is required: without it no pod of the role can be made",
            ".template",
        ),
    )

    name: Annotated[
        str,
        doc(
            "Name of the role, unique in the list; part of the names of its pods.",
            default="",
            maxLength=63,
            pattern="^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        ),
    ] = ""
    replicas: Annotated[int, doc("Pods of the role, or groups of pods.", default=1, minimum=0)] = 1
    upgrade_order: Annotated[
        int | None, doc("Roles with a lower number are updated first; those without one last.", minimum=1)
    ] = None
    pod_group_size: Annotated[
        int | None,
        doc("Pods that make one replica; above 1, each replica is a PodSet.", minimum=1, maximum=100),
    ] = None
    update_strategy: Annotated[RoleUpdateStrategy | None, doc("How the pods get a new template.")] = None
    stateful: Annotated[bool, doc("Give each pod a lasting index and name.")] = False
    template: Annotated[PodTemplate | None, doc("What the pods are made from.")] = None
    disruption_tolerance: Annotated[DisruptionTolerance | None, doc("How much may be missing through disruptions.")] = (
        None
    )
    scheduling_strategy: Annotated[SchedulingStrategy | None, doc("Gang scheduler of each replica.")] = None


class RoleSetSpec(Wire):
    """The roles, and how they are updated and placed together."""

    roles: Annotated[list[Role], doc("The roles.", maxItems=MAX_ROLES, map_keys=["name"])] = []
    update_strategy: Annotated[
        str,
        doc(
            "Sequential: one role after the other; Parallel: all at once; Interleave: all, step by step.",
            default="Sequential",
            enum=["Parallel", "Sequential", "Interleave"],
        ),
    ] = "Sequential"
    scheduling_strategy: Annotated[SchedulingStrategy | None, doc("Gang scheduler of all pods together.")] = None
    topology_policy: Annotated[TopologyPolicy | None, doc("Which pods share a domain of nodes.")] = None


class RoleStatus(Value, frozen=True):
    """How a role is."""

    # Required on the wire, so it has no default that would be left out.
    replicas: Annotated[int, doc("Pods of the role.")]
    name: Annotated[str, doc("Name of the role.")] = ""
    ready_replicas: Annotated[int, doc("Pods that are ready.")] = 0
    not_ready_replicas: Annotated[int, doc("Pods that are not ready.")] = 0
    updated_replicas: Annotated[int, doc("Pods of the newest template.")] = 0
    updated_ready_replicas: Annotated[int, doc("Ready pods of the newest template.")] = 0


class RoleSetStatus(Wire):
    """How the roles are."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    roles: Annotated[list[RoleStatus], doc("How each role is.")] = []
    conditions: Annotated[list[RolloutCondition], CONDITIONS] = []


class RoleSet(CustomResource):
    """Run groups of pods, one per role, that are updated together."""

    gvk: ClassVar = GroupVersionKind("orchestration.aibrix.ai", "v1alpha1", "RoleSet", "rolesets")
    definition: ClassVar = Definition(
        columns=(READY, AGE),
        # The name is a label's value on every pod.
        name={"maxLength": 63},
        rules=(
            Rule(
                f"!self.metadata.name.contains('.') || !{_HAS_ROLES} || "
                "!self.spec.roles.exists(r, (has(r.stateful) && r.stateful) || "
                "(has(r.podGroupSize) && r.podGroupSize > 1))",
                "with a stateful role or podGroupSize above 1 the name may have no dot: host names are made of it",
                ".metadata.name",
            ),
            Rule(
                f"!{_HAS_ROLES} || self.spec.roles.all(r, !has(r.podGroupSize) || r.podGroupSize < 2 || "
                "size(self.metadata.name) + (has(r.name) ? size(r.name) : 0) + "
                "(has(r.stateful) && r.stateful ? 10 : 7) + (r.podGroupSize > 10 ? 3 : 2) <= 63)",
                "with podGroupSize above 1, host names are made of the names of the object and of the role and of "
                "numbers, and have at most 63 characters: shorten one of the names",
                ".metadata.name",
            ),
        ),
    )
    spec: Annotated[RoleSetSpec, doc("The roles, and how they are updated and placed together.")] = msgspec.field(
        default_factory=RoleSetSpec
    )
    status: Annotated[RoleSetStatus, doc("How the roles are.")] = msgspec.field(default_factory=RoleSetStatus)
