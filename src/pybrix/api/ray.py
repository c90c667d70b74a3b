"""RayCluster (`ray.io/v1`): the parts that pybrix reads and writes of KubeRay's kind.

Its definition on a real cluster is KubeRay's own; that of the embedded cluster is in `api.raydefinition`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from pybrix.api.conditions import STANDARD_CONDITIONS, StandardCondition
from pybrix.api.markers import doc
from pybrix.api.meta import GroupVersionKind, Object, Value, Wire

NODE_TYPE = "ray.io/node-type"
"""Label of Ray pods: head or worker."""
CLUSTER = "ray.io/cluster"
"""Label of Ray pods: name of their RayCluster."""
GROUP = "ray.io/group"
"""Label of Ray pods: `headgroup`, or the name of their worker group."""
IS_RAY_NODE = "ray.io/is-ray-node"
IDENTIFIER = "ray.io/identifier"
OVERWRITE_COMMAND = "ray.io/overwrite-container-cmd"
"""Annotation: the container's command is the user's, who starts Ray by $KUBERAY_GEN_RAY_START_CMD."""
HEAD, WORKER = "head", "worker"
HEAD_GROUP = "headgroup"

PROVISIONED = "RayClusterProvisioned"
"""Condition: all pods of the cluster were ready once. It stays True."""
HEAD_READY = "HeadPodReady"
"""Condition: the head pod is ready."""
REPLICA_FAILURE = "ReplicaFailure"
"""Condition: pods could not be created or deleted."""
READY = "ready"
"""`status.state` of a cluster whose pods all ran at the same time."""


class HeadGroup(Value, frozen=True):
    """The head of a Ray cluster."""

    ray_start_params: dict[str, str] = {}
    service_type: str = ""
    template: dict[str, Any] = {}


class WorkerGroup(Value, frozen=True):
    """A group of equal workers."""

    group_name: str = ""
    replicas: int | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    num_of_hosts: int = 1
    suspend: bool = False
    ray_start_params: dict[str, str] = {}
    template: dict[str, Any] = {}


class RayClusterSpec(Wire):
    """A head and its workers."""

    ray_version: str = ""
    head_group_spec: HeadGroup = HeadGroup()
    worker_group_specs: list[WorkerGroup] = []
    enable_in_tree_autoscaling: bool = False
    autoscaler_options: dict[str, Any] | None = None
    suspend: bool = False


class HeadInfo(Value, frozen=True):
    """Where the head is."""

    pod_ip: Annotated[str, doc("IP of the head pod.")] = msgspec.field(default="", name="podIP")
    pod_name: Annotated[str, doc("Name of the head pod.")] = ""
    service_ip: Annotated[str, doc("IP of the head's Service.")] = msgspec.field(default="", name="serviceIP")
    service_name: Annotated[str, doc("Name of the head's Service.")] = ""


class RayClusterStatus(Wire):
    """How the cluster is, as KubeRay tells it with the feature gate RayClusterStatusConditions."""

    state: Annotated[str, doc("ready, failed or suspended; empty before that.")] = ""
    reason: Annotated[str, doc("Why pods could not be reconciled.")] = ""
    desired_worker_replicas: Annotated[int, doc("Workers asked for.")] = 0
    min_worker_replicas: Annotated[int, doc("Fewest workers.")] = 0
    max_worker_replicas: Annotated[int, doc("Most workers.")] = 0
    available_worker_replicas: Annotated[int, doc("Workers that run.")] = 0
    ready_worker_replicas: Annotated[int, doc("Workers that are ready.")] = 0
    last_update_time: Annotated[str | None, doc("When this status last changed.")] = None
    endpoints: Annotated[dict[str, str], doc("Ports of the head's Service by name.")] = {}
    head: Annotated[HeadInfo | None, doc("Where the head is.")] = None
    observed_generation: Annotated[int, doc("`metadata.generation` that this status is about.")] = 0
    conditions: Annotated[list[StandardCondition], STANDARD_CONDITIONS] = []


class RayCluster(Object):
    """A Ray cluster: a head pod and worker pods."""

    gvk: ClassVar = GroupVersionKind("ray.io", "v1", "RayCluster", "rayclusters")
    spec: RayClusterSpec = msgspec.field(default_factory=RayClusterSpec)
    status: RayClusterStatus = msgspec.field(default_factory=RayClusterStatus)
