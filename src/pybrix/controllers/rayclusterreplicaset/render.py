"""What is written for one RayCluster: its manifest, and the patches by which its head takes no more requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pybrix.api import names
from pybrix.api.core import Pod
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import RayCluster
from pybrix.base.clock import format_rfc3339, format_rfc3339_micro
from pybrix.runtime.actions import Patch


def render_cluster(replica_set: RayClusterReplicaSet) -> dict[str, Any]:
    """Return the manifest of one more cluster; applying it adds the owner."""
    template = replica_set.spec.template
    assert template is not None
    name, namespace = replica_set.metadata.name, replica_set.metadata.namespace
    metadata: dict[str, Any] = {"generateName": f"{name}-", "namespace": namespace}
    for field in ("labels", "annotations", "finalizers"):
        if found := getattr(template.metadata, field):
            metadata[field] = found
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": template.spec}


def hold_set(replica_set: RayClusterReplicaSet) -> Patch:
    """Keep a set, when it is deleted, until its clusters are drained."""
    finalizers = [*replica_set.metadata.finalizers, names.DRAIN_FINALIZER]
    return _finalizers(replica_set, finalizers, "its clusters shall be drained before it goes")


def release_set(replica_set: RayClusterReplicaSet, why: str) -> Patch:
    finalizers = [name for name in replica_set.metadata.finalizers if name != names.DRAIN_FINALIZER]
    return _finalizers(replica_set, finalizers, why)


def begin_drain(cluster: RayCluster, now: datetime, why: str) -> Patch:
    """Note on the cluster that it is to go: whoever is controller next goes on with it."""
    annotations = {names.DRAINING_SINCE: format_rfc3339(now)}
    return _patch_cluster(cluster, annotations, why)


def end_drain(cluster: RayCluster, why: str) -> Patch:
    return _patch_cluster(cluster, {names.DRAINING_SINCE: None}, why)


def hide_head(head: Pod, now: datetime, why: str) -> Patch:
    """Take the model's name from a head pod, by which gateways and Services find it, and note when.

    Only from the pod as it was read: whether it was ready then decides how long it has to be waited for.
    """
    meta = head.metadata
    labelled, annotated = meta.labels.get(names.MODEL_NAME), meta.annotations.get(names.MODEL_NAME)
    noted: dict[str, str | None] = {names.HIDDEN_SINCE: format_rfc3339_micro(now)}
    changes: dict[str, Any] = {"annotations": noted}
    if labelled or annotated:
        # A label's name comes first for gateways, so that is the one to remember; the annotation keeps the other.
        noted[names.DRAINED_MODEL] = f"label:{labelled}" if labelled else f"annotation:{annotated}"
    if labelled:
        changes["labels"] = {names.MODEL_NAME: None}
    if annotated:
        noted[names.MODEL_NAME] = None
    return replace(_patch_head(head, changes, why), resource_version=meta.resource_version)


def show_head(head: Pod, why: str) -> Patch | None:
    """Give a head pod its model's name back; None when it was not taken."""
    noted = head.metadata.annotations
    annotations: dict[str, str | None] = {k: None for k in (names.DRAINED_MODEL, names.HIDDEN_SINCE) if k in noted}
    if not annotations:
        return None
    changes: dict[str, Any] = {"annotations": annotations}
    kind, _, model = noted.get(names.DRAINED_MODEL, "").partition(":")
    if model and kind == "label":
        changes["labels"] = {names.MODEL_NAME: model}
    elif model:
        annotations[names.MODEL_NAME] = model
    return _patch_head(head, changes, why)


def _finalizers(replica_set: RayClusterReplicaSet, finalizers: list[str], why: str) -> Patch:
    version = replica_set.metadata.resource_version
    patch = {"metadata": {"uid": replica_set.uid, "finalizers": finalizers}}
    return Patch(RayClusterReplicaSet, replica_set.key, patch, why, resource_version=version)


def _patch_cluster(cluster: RayCluster, annotations: Mapping[str, str | None], why: str) -> Patch:
    version = cluster.metadata.resource_version
    patch = {"metadata": {"uid": cluster.uid, "annotations": annotations}}
    return Patch(RayCluster, cluster.key, patch, why, resource_version=version)


def _patch_head(head: Pod, changes: dict[str, Any], why: str) -> Patch:
    # The UID keeps the patch from a new head of the same name; what else changes of the pod does not matter.
    return Patch(Pod, head.key, {"metadata": {"uid": head.uid, **changes}}, why)
