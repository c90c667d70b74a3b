"""A ReplicaSet a revision: which template it is of, its name, its manifest. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from pybrix.api import names
from pybrix.api.apps import Deployment
from pybrix.base.hashing import template_hash
from pybrix.cluster.workloads.templates import comparable_template


def new_name(deployment: Deployment) -> tuple[str, str]:
    """Return the name and the pod-template-hash of the present template's ReplicaSet."""
    digest = template_hash(comparable_template(deployment.spec.template), deployment.status.collision_count or 0)
    return f"{deployment.metadata.name}-{digest}", digest


def render_replica_set(deployment: Deployment, annotations: dict[str, str], size: int) -> dict[str, Any]:
    """Return the manifest of the present template's ReplicaSet; applying it adds the owner."""
    name, digest = new_name(deployment)
    template = deployment.spec.template
    of_template = template.get("metadata") or {}
    labels = {**(of_template.get("labels") or {}), names.POD_TEMPLATE_HASH: digest}
    selector: dict[str, Any] = msgspec.to_builtins(deployment.spec.selector)
    spec: dict[str, Any] = {
        "replicas": size,
        "selector": {
            **selector,
            "matchLabels": {**selector.get("matchLabels", {}), names.POD_TEMPLATE_HASH: digest},
        },
        "template": {**template, "metadata": {**of_template, "labels": labels}},
    }
    if deployment.spec.min_ready_seconds:
        spec["minReadySeconds"] = deployment.spec.min_ready_seconds
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": deployment.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": spec,
    }
