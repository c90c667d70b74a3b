"""ModelAdapter: a LoRA adapter that is loaded into the engines of a base model."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, STANDARD_CONDITIONS, Int64, StandardCondition, Time
from pybrix.api.markers import AGE, Column, CustomResource, Definition, Rule, doc
from pybrix.api.meta import GroupVersionKind, LabelSelector, Value, Wire
from pybrix.api.parts import SECRET_REFERENCE
from pybrix.api.references import SecretReference

ARTIFACT_SCHEMES = ("s3", "gcs", "gs", "tos", "huggingface", "hf", "http", "https", "file")
SELECTS_SOMETHING = Rule(
    "(has(self.matchLabels) && size(self.matchLabels) > 0) || "
    "(has(self.matchExpressions) && size(self.matchExpressions) > 0)",
    "podSelector must select by at least one label; an empty selector would mean every pod of the namespace",
)


class ModelAdapterSpec(Wire):
    """Which adapter goes into which pods."""

    pod_selector: Annotated[LabelSelector, doc("Pods of the base model that may load the adapter.", SELECTS_SOMETHING)]
    artifact_url: Annotated[
        str,
        doc(
            "Where the adapter's files are: " + ", ".join(f"{scheme}://" for scheme in ARTIFACT_SCHEMES) + " or an "
            "absolute path in the pods.",
            Rule(
                f"self.matches('^({'|'.join(ARTIFACT_SCHEMES)})://[^ ]+$') || self.matches('^/[^ ]*$')",
                "artifactURL must be an absolute path or start with one of "
                + ", ".join(f"{scheme}://" for scheme in ARTIFACT_SCHEMES),
            ),
            maxLength=4096,
        ),
    ] = msgspec.field(name="artifactURL")
    base_model: Annotated[str | None, doc("Name of the model that the adapter belongs to.", maxLength=253)] = None
    replicas: Annotated[
        int | None, doc("Pods that load the adapter; all that podSelector finds when absent.", minimum=1)
    ] = None
    scheduler_name: Annotated[str, doc("Policy that chooses the pods.", default="default", maxLength=253)] = "default"
    credentials_secret_ref: Annotated[
        SecretReference | None, doc("Secret with what the download needs.", schema=SECRET_REFERENCE)
    ] = None
    additional_config: Annotated[
        dict[str, str], doc("Further settings; `api-key` is sent to the engine as a bearer token.")
    ] = {}


class AdapterPod(Value, frozen=True):
    """The adapter in one pod. Written before the engine is asked, so that a restart of the controller loses nothing."""

    # Required on the wire, so without a default that would be left out.
    uid: Annotated[str, doc("`metadata.uid` of the pod.", maxLength=253)]
    name: Annotated[str, doc("Name of the pod.", maxLength=253)]
    state: Annotated[
        str,
        doc(
            "Loading, Reloading (the old one is unloaded first), Loaded, Draining (out of the slices, not unloaded "
            "yet), Unloading or Failed.",
            maxLength=32,
        ),
    ]
    revision: Annotated[str, doc("Hash of what is or shall be loaded; empty when it is not known.", maxLength=63)] = ""
    reason: Annotated[str, doc("Why the last attempt failed, in one word.", maxLength=256)] = ""
    message: Annotated[str, doc("Why the last attempt failed, in a sentence.", maxLength=1024)] = ""
    attempts: Annotated[int, doc("Failed attempts in a row.", minimum=0)] = 0
    retry_at: Annotated[Time | None, doc("When the next step is due.")] = None


class ModelAdapterStatus(Wire):
    """Where the adapter is loaded."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    phase: Annotated[
        str,
        doc("Pending, Scheduled, Bound, ResourceCreated, Running, Failed, Unknown or Scaled."),
    ] = ""
    candidates: Annotated[int, doc("Ready pods that podSelector finds.")] = 0
    desired_replicas: Annotated[int, doc("Pods that shall load the adapter.")] = 0
    ready_replicas: Annotated[int, doc("Pods that have loaded it.")] = 0
    instances: Annotated[list[str], doc("Names of the pods that have loaded it.")] = []
    pods: Annotated[
        list[AdapterPod], doc("Every pod that has, gets or loses the adapter, one by one.", map_keys=["uid"])
    ] = []
    conditions: Annotated[list[StandardCondition], STANDARD_CONDITIONS] = []


class ModelAdapter(CustomResource, kw_only=True):
    """Load a LoRA adapter into engines of its base model and serve it under its own name."""

    gvk: ClassVar = GroupVersionKind("model.aibrix.ai", "v1alpha1", "ModelAdapter", "modeladapters")
    definition: ClassVar = Definition(
        columns=(
            Column("Phase", "string", ".status.phase"),
            Column("Desired", "integer", ".status.desiredReplicas"),
            Column("Ready", "integer", ".status.readyReplicas"),
            Column("Candidates", "integer", ".status.candidates"),
            Column("Model Path", "string", ".spec.artifactURL"),
            AGE,
        ),
        # A Service of the same name is made, and Services are DNS labels that start with a letter.
        name={"maxLength": 63, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
    )
    spec: Annotated[ModelAdapterSpec, doc("Which adapter goes into which pods.")]
    status: Annotated[ModelAdapterStatus, doc("Where the adapter is loaded.")] = msgspec.field(
        default_factory=ModelAdapterStatus
    )
