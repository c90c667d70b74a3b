"""StormService: replicas of a RoleSet with revisions and rollouts."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, Int64, RolloutCondition
from pybrix.api.markers import AGE, Column, CustomResource, Definition, Rule, Scale, doc
from pybrix.api.meta import GroupVersionKind, LabelSelector, Value, Wire
from pybrix.api.names import DNS_1035_PATTERN
from pybrix.api.orchestration.v1alpha1.roleset import CONDITIONS, READY, RoleSetSpec, RoleStatus
from pybrix.api.templates import (
    SELECTOR_FINDS_ITS_OWN,
    SELECTOR_IS_IMMUTABLE,
    Amount,
    DisruptionTolerance,
    TemplateMeta,
)

# What RoleSet, role hash and index add to the names of a pod group's pods.
POD_GROUP_NAME_EXTRA = 36
_ROLES = "self.spec.template.spec.roles"


class StormServiceUpdateStrategy(Value, frozen=True):
    """How RoleSets get a new template."""

    type: Annotated[
        str,
        doc(
            "RollingUpdate: new RoleSets replace old ones; InPlaceUpdate: the RoleSets stay and update their pods.",
            default="RollingUpdate",
            enum=["RollingUpdate", "InPlaceUpdate"],
        ),
    ] = "RollingUpdate"
    max_unavailable: Annotated[Amount | None, doc("Most RoleSets that may be missing: a number or a percentage.")] = (
        None
    )
    max_surge: Annotated[Amount | None, doc("Most RoleSets that may be extra: a number or a percentage.")] = None


class RoleSetTemplate(Value, frozen=True):
    """What RoleSets are made from."""

    metadata: Annotated[TemplateMeta, doc("Labels and annotations of the RoleSets.")] = TemplateMeta()
    spec: Annotated[RoleSetSpec | None, doc("The roles of each RoleSet.")] = None


class StormServiceSpec(Wire):
    """How many RoleSets, made from what, and how they are updated."""

    rules: ClassVar = SELECTOR_FINDS_ITS_OWN

    selector: Annotated[
        LabelSelector, doc("Finds the RoleSets of this object; template labels must match.", SELECTOR_IS_IMMUTABLE)
    ]
    template: Annotated[
        RoleSetTemplate,
        doc("What RoleSets are made from.", Rule("has(self.spec)", "template.spec is required", ".spec")),
    ]
    replicas: Annotated[int, doc("RoleSets that run.", default=1, minimum=0)] = 1
    update_strategy: Annotated[StormServiceUpdateStrategy | None, doc("How RoleSets get a new template.")] = None
    revision_history_limit: Annotated[int | None, doc("Old revisions that are kept; 10 when absent.", minimum=0)] = None
    paused: Annotated[bool, doc("Hold rollouts; scaling goes on.")] = False
    stateful: Annotated[bool, doc("Accepted for compatibility; it has no effect.")] = False
    disruption_tolerance: Annotated[DisruptionTolerance | None, doc("How much may be missing through disruptions.")] = (
        None
    )


class StormServiceStatus(Wire):
    """How the RoleSets are."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    replicas: Annotated[int, doc("RoleSets.")] = 0
    ready_replicas: Annotated[int, doc("RoleSets that are ready.")] = 0
    not_ready_replicas: Annotated[int, doc("RoleSets that are not ready.")] = 0
    current_replicas: Annotated[int, doc("RoleSets of the revision before the rollout.")] = 0
    updated_replicas: Annotated[int, doc("RoleSets of the newest revision.")] = 0
    updated_ready_replicas: Annotated[int, doc("Ready RoleSets of the newest revision.")] = 0
    current_revision: Annotated[str, doc("Revision before the rollout.")] = ""
    update_revision: Annotated[str, doc("Newest revision.")] = ""
    collision_count: Annotated[int | None, doc("Name clashes of revisions so far.")] = None
    scaling_target_selector: Annotated[str, doc("Label selector of the pods, for autoscalers.")] = ""
    role_statuses: Annotated[list[RoleStatus], doc("How each role is, over all RoleSets.")] = []
    conditions: Annotated[list[RolloutCondition], CONDITIONS] = []


class StormService(CustomResource, kw_only=True):
    """Run replicas of a set of roles, such as prefill and decode, with revisions and rollouts."""

    gvk: ClassVar = GroupVersionKind("orchestration.aibrix.ai", "v1alpha1", "StormService", "stormservices")
    definition: ClassVar = Definition(
        columns=(
            Column("Replicas", "integer", ".spec.replicas"),
            READY,
            Column("Paused", "boolean", ".spec.paused"),
            AGE,
        ),
        scale=Scale(selector=".status.scalingTargetSelector"),
        # A Service of the same name is made, and the name is a label's value.
        name={"maxLength": 63, "pattern": DNS_1035_PATTERN},
        rules=(
            Rule(
                f"!has(self.spec.template.spec) || !has({_ROLES}) || "
                f"!{_ROLES}.exists(r, has(r.podGroupSize) && r.podGroupSize > 1) || "
                f"{_ROLES}.all(r, size(self.metadata.name) + (has(r.name) ? size(r.name) : 0) + "
                f"{POD_GROUP_NAME_EXTRA} <= 63)",
                "with podGroupSize above 1, the names of the object and of its longest role may have "
                f"{63 - POD_GROUP_NAME_EXTRA} characters together, because pod names are made of both",
                ".metadata.name",
            ),
        ),
    )
    spec: Annotated[StormServiceSpec, doc("How many RoleSets, made from what, and how they are updated.")]
    status: Annotated[StormServiceStatus, doc("How the RoleSets are.")] = msgspec.field(
        default_factory=StormServiceStatus
    )
