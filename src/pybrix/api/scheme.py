"""The registry of typed kinds: which class decodes which `apiVersion` and `kind`."""

from __future__ import annotations

from typing import Any

from pybrix.api.apps import ControllerRevision, Deployment, ReplicaSet, StatefulSet
from pybrix.api.autoscaling.v1alpha1.podautoscaler import PodAutoscaler
from pybrix.api.batch import Job
from pybrix.api.core import (
    ConfigMap,
    EndpointSlice,
    Event,
    Lease,
    Namespace,
    Node,
    PersistentVolumeClaim,
    Pod,
    Secret,
    Service,
)
from pybrix.api.kvcache.v1alpha1.kvcachepool import KVCachePool
from pybrix.api.markers import CustomResource
from pybrix.api.meta import Object
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.model.v1alpha1.modelclaim import ModelClaim
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.api.orchestration.v1alpha1.podset import PodSet
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.orchestration.v1alpha1.roleset import RoleSet
from pybrix.api.orchestration.v1alpha1.stormservice import StormService
from pybrix.api.ray import RayCluster

CUSTOM_KINDS: tuple[type[CustomResource], ...] = (
    PodAutoscaler,
    ModelAdapter,
    ModelClaim,
    KVCachePool,
    KVCache,
    RayClusterReplicaSet,
    RayClusterFleet,
    StormService,
    RoleSet,
    PodSet,
)
"""The kinds that are installed by a CustomResourceDefinition of ours."""

KINDS: tuple[type[Object], ...] = (
    Namespace,
    Node,
    Pod,
    Service,
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
    Event,
    EndpointSlice,
    Lease,
    Deployment,
    ReplicaSet,
    StatefulSet,
    ControllerRevision,
    Job,
    RayCluster,
    *CUSTOM_KINDS,
)
_BY_NAME = {(cls.gvk.api_version, cls.gvk.kind): cls for cls in KINDS}


def kind_class(api_version: str, kind: str) -> type[Object] | None:
    """Return the class of a kind, or None for one that pybrix has no type for."""
    return _BY_NAME.get((api_version, kind))


def decode(data: dict[str, Any]) -> Object:
    """Decode a JSON-like object by its `apiVersion` and `kind`.

    Raises:
        ValueError: the kind has no type here.
        msgspec.ValidationError: a known field has the wrong type.
    """
    cls = kind_class(str(data.get("apiVersion", "")), str(data.get("kind", "")))
    if cls is None:
        raise ValueError(f"no type for {data.get('apiVersion')} {data.get('kind')}")
    return cls.from_dict(data)
