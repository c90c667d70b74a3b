"""ModelClaim: asks a pool of warm pods to run a model."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, STANDARD_CONDITIONS, Int64, StandardCondition
from pybrix.api.markers import AGE, Column, CustomResource, Definition, doc
from pybrix.api.meta import GroupVersionKind, LabelSelector, Value, Wire


class EngineConfig(Value, frozen=True):
    """How the engine is started."""

    args: Annotated[dict[str, str], doc("Flags of the engine and their values.")] = {}


class ModelClaimSpec(Wire):
    """Which model is wanted, in which pool."""

    pod_selector: Annotated[LabelSelector, doc("Warm pods that may run the model.")]
    artifact_url: Annotated[str, doc("Where the model's files are.", maxLength=4096)] = msgspec.field(
        name="artifactURL"
    )
    model_name: Annotated[
        str | None, doc("Name under which the model is served; the object's name when absent.", maxLength=253)
    ] = None
    engine: Annotated[str, doc("Engine that runs the model.", default="vllm", enum=["vllm", "sglang"])] = "vllm"
    replicas: Annotated[int, doc("Pods that run the model.", default=1, minimum=1)] = 1
    engine_config: Annotated[EngineConfig | None, doc("How the engine is started.")] = None


class ModelClaimInstance(Value, frozen=True):
    """The model in one pod."""

    pod: Annotated[str, doc("Name of the pod.")]
    port: Annotated[int, doc("Port of the engine; 0 while requests cannot go there.")] = 0
    phase: Annotated[str, doc("Activating, Active, Sleeping or Failed.")] = ""


class ModelClaimStatus(Wire):
    """Where the model runs."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    phase: Annotated[str, doc("Pending, Scheduling, Loading, Activating, Active, Sleeping, Failed or Unknown.")] = ""
    candidates: Annotated[int, doc("Pods that could run the model.")] = 0
    desired_replicas: Annotated[int, doc("Pods that shall run the model.")] = 0
    ready_replicas: Annotated[int, doc("Pods that run it and answer.")] = 0
    instances: Annotated[list[ModelClaimInstance], doc("The model in each of its pods.")] = []
    conditions: Annotated[list[StandardCondition], STANDARD_CONDITIONS] = []


class ModelClaim(CustomResource, kw_only=True):
    """Run a model on a pool of warm pods."""

    gvk: ClassVar = GroupVersionKind("model.aibrix.ai", "v1alpha1", "ModelClaim", "modelclaims")
    definition: ClassVar = Definition(
        short_names=("mc",),
        columns=(
            Column("Phase", "string", ".status.phase"),
            Column("Desired", "integer", ".status.desiredReplicas"),
            Column("Ready", "integer", ".status.readyReplicas"),
            Column("Engine", "string", ".spec.engine"),
            Column("Artifact", "string", ".spec.artifactURL"),
            AGE,
        ),
        # The name is part of an annotation's key on each pod, whose name part has at most 63 characters.
        name={"maxLength": 63},
    )
    spec: Annotated[ModelClaimSpec, doc("Which model is wanted, in which pool.")]
    status: Annotated[ModelClaimStatus, doc("Where the model runs.")] = msgspec.field(default_factory=ModelClaimStatus)
