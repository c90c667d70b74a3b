"""The CustomResourceDefinition of RayCluster for an API server that has none of KubeRay's: the embedded one."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from pybrix.api.crds import render_crd
from pybrix.api.markers import AGE, Column, CustomResource, Definition, doc
from pybrix.api.parts import RAY_CLUSTER_SPEC
from pybrix.api.ray import RayCluster, RayClusterStatus


class _Defined(CustomResource, kw_only=True):
    """A Ray cluster: a head pod and worker pods, started by what stands in for KubeRay here."""

    gvk: ClassVar = RayCluster.gvk
    definition: ClassVar = Definition(
        columns=(
            Column("desired workers", "integer", ".status.desiredWorkerReplicas"),
            Column("available workers", "integer", ".status.availableWorkerReplicas"),
            Column("status", "string", ".status.state"),
            AGE,
            Column("head pod IP", "string", ".status.head.podIP", priority=1),
        )
    )
    # What is not read here passes through.
    spec: Annotated[dict[str, Any], doc("A head and its workers.", schema=RAY_CLUSTER_SPEC)]
    status: Annotated[RayClusterStatus, doc("How the cluster is.")] = msgspec.field(default_factory=RayClusterStatus)


def render_raycluster_crd() -> dict[str, Any]:
    """Return the definition; its columns are KubeRay's."""
    return render_crd(_Defined)
