"""A RayClusterReplicaSet a revision: which template it is of, its name, its manifest. Pure.

Templates are sent without what servers own in metadata, whatever a manifest or an older object brought along.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from pybrix.api import names
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.templates import RayClusterTemplate, TemplateMeta
from pybrix.base.hashing import template_hash
from pybrix.kube.patch import diff_merge_patch
from pybrix.runtime.rollout.revisions import without_nulls

_SENT_METADATA = ("labels", "annotations", "finalizers")
"""What metadata of a template may say; the rest belongs to servers, or to the objects that are made."""
_ADDED_LABELS = (names.POD_TEMPLATE_HASH, names.RAYCLUSTERFLEET_NAME)
_NAME_LIMIT = 63


def comparable_template(template: RayClusterTemplate | None) -> Any:
    """Return what makes a template a revision: all of it but labels that controllers add, and what means nothing."""
    if template is None:
        return {}
    plain = _clean(template)
    for metadata in (plain["metadata"], *(pod.setdefault("metadata", {}) for pod in _pod_templates(plain["spec"]))):
        labels = {k: v for k, v in metadata.pop("labels", {}).items() if k not in _ADDED_LABELS}
        if labels:
            metadata["labels"] = labels
    return plain


def is_same_template(one: RayClusterTemplate | None, other: RayClusterTemplate | None) -> bool:
    return bool(comparable_template(one) == comparable_template(other))


def new_name(fleet: RayClusterFleet) -> tuple[str, str]:
    """Return the name and the pod-template-hash of the present template's RayClusterReplicaSet.

    Names of clusters, and of KubeRay's pods and Services, are made of it: a long fleet's name is cut.
    """
    digest = template_hash(comparable_template(fleet.spec.template), fleet.status.collision_count or 0)[:6]
    return f"{fleet.metadata.name[: _NAME_LIMIT - 1 - len(digest)].rstrip('-.')}-{digest}", digest


def render_replica_set(fleet: RayClusterFleet, annotations: dict[str, str], size: int) -> dict[str, Any]:
    """Return the manifest of the present template's RayClusterReplicaSet; applying it adds the owner.

    The hash is in every label set and selector that tells revisions apart: the set's, its clusters', and those of
    their head and worker pods, which have the fleet's name as well.
    """
    name, digest = new_name(fleet)
    template = _clean(fleet.spec.template)
    hashed = {names.POD_TEMPLATE_HASH: digest}
    labels = {**template["metadata"].get("labels", {}), **hashed}
    template["metadata"]["labels"] = labels
    of_pods = {**hashed, names.RAYCLUSTERFLEET_NAME: fleet.metadata.name}
    for pod in _pod_templates(template["spec"]):
        metadata = pod.setdefault("metadata", {})
        metadata["labels"] = {**metadata.get("labels", {}), **of_pods}
    selector: dict[str, Any] = msgspec.to_builtins(fleet.spec.selector)
    spec: dict[str, Any] = {
        "replicas": size,
        "selector": {**selector, "matchLabels": {**selector.get("matchLabels", {}), **hashed}},
        "template": template,
    }
    if fleet.spec.min_ready_seconds:
        spec["minReadySeconds"] = fleet.spec.min_ready_seconds
    gvk = RayClusterReplicaSet.gvk
    return {
        "apiVersion": gvk.api_version,
        "kind": gvk.kind,
        "metadata": {
            "name": name,
            "namespace": fleet.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "finalizers": [names.DRAIN_FINALIZER],
        },
        "spec": spec,
    }


def template_patch(fleet: RayClusterFleet, template: RayClusterTemplate | None) -> dict[str, Any]:
    """Return the merge patch of `spec.template` that gives a fleet the template of one of its revisions."""
    present = {"metadata": _plain(fleet.spec.template.metadata), "spec": fleet.spec.template.spec}
    return diff_merge_patch(present, comparable_template(template))


def _clean(template: RayClusterTemplate) -> dict[str, Any]:
    """Return a template as plain data of its own, without nulls and server-owned metadata, pod templates included."""
    spec = copy.deepcopy(without_nulls(template.spec))
    for pod in _pod_templates(spec):
        pod["metadata"] = _sent(pod.get("metadata") or {})
    return {"metadata": _sent(_plain(template.metadata)), "spec": spec}


def _plain(metadata: TemplateMeta) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(metadata)
    return built


def _sent(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {field: metadata[field] for field in _SENT_METADATA if metadata.get(field)}


def _pod_templates(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the templates of the head's and the workers' pods of a RayCluster's spec; malformed ones left out."""
    groups = [spec.get("headGroupSpec"), *(spec.get("workerGroupSpecs") or ())]
    templates = (group.get("template") for group in groups if isinstance(group, dict))
    return [template for template in templates if isinstance(template, dict)]
