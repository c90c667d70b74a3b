"""A ReplicaSet a revision: which template it is of, its name, its annotations. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pybrix.api import names
from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.base.hashing import template_hash

REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
_HISTORY_LENGTH = 2000
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        names.DEPLOYMENT_REVISION,
        REVISION_HISTORY,
        names.DEPLOYMENT_DESIRED_REPLICAS,
        names.DEPLOYMENT_MAX_REPLICAS,
    }
)


def comparable_template(template: Any) -> Any:
    """Return what makes a template a revision: all of it but the hash label, nulls and empty metadata maps."""
    plain: dict[str, Any] = _without_nulls(template)
    metadata = dict(plain.get("metadata") or {})
    labels = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != names.POD_TEMPLATE_HASH}
    metadata = {k: v for k, v in {**metadata, "labels": labels}.items() if v not in ({}, [], "")}
    return {**plain, "metadata": metadata}


def is_same_template(one: Any, other: Any) -> bool:
    return bool(comparable_template(one) == comparable_template(other))


def new_name(deployment: Deployment) -> tuple[str, str]:
    """Return the name and the pod-template-hash of the present template's ReplicaSet."""
    digest = template_hash(comparable_template(deployment.spec.template), deployment.status.collision_count or 0)
    return f"{deployment.metadata.name}-{digest}", digest


def revision(annotations: dict[str, str]) -> int:
    """Return the revision that annotations tell; 0 when they tell none."""
    text = annotations.get(names.DEPLOYMENT_REVISION, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def next_revision(old: Iterable[ReplicaSet]) -> int:
    return max((revision(s.metadata.annotations) for s in old), default=0) + 1


def annotations_of_new(deployment: Deployment, present: dict[str, str], number: int) -> dict[str, str]:
    """Return the annotations that the present template's ReplicaSet lacks: the Deployment's own, and its revision.

    A ReplicaSet that becomes the newest again (a rollback) gets a higher number; its old one goes to the history.
    """
    changes = {k: v for k, v in deployment.metadata.annotations.items() if k not in _NOT_COPIED and present.get(k) != v}
    before = present.get(names.DEPLOYMENT_REVISION)
    if revision(present) < number:
        changes[names.DEPLOYMENT_REVISION] = str(number)
        if before is not None:
            history = [t for t in present.get(REVISION_HISTORY, "").split(",") if t]
            if before not in history:
                history.append(before)
            while len(",".join(history)) > _HISTORY_LENGTH:
                history.pop(0)
            changes[REVISION_HISTORY] = ",".join(history)
    return changes


def size_annotations(desired: int, most: int) -> dict[str, str]:
    """Return what a ReplicaSet remembers of the Deployment's size, for scaling in mid-rollout."""
    return {names.DEPLOYMENT_DESIRED_REPLICAS: str(desired), names.DEPLOYMENT_MAX_REPLICAS: str(most)}


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


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value
