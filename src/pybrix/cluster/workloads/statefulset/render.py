"""Pods of a StatefulSet and the claims of their volumes: names, labels, manifests. Pure."""

from __future__ import annotations

from typing import Any

from pybrix.api import names
from pybrix.api.apps import StatefulSet
from pybrix.cluster.workloads.statefulset.revisions import Revision
from pybrix.cluster.workloads.statefulset.state import pod_name


def render_pod(stateful_set: StatefulSet, ordinal: int, revision: Revision) -> dict[str, Any]:
    """Return the manifest of one pod; applying it adds the owner."""
    of_template = revision.template.get("metadata") or {}
    name = pod_name(stateful_set, ordinal)
    spec = {**(revision.template.get("spec") or {}), "hostname": name}
    if stateful_set.spec.service_name:
        spec["subdomain"] = stateful_set.spec.service_name
    # A claim of the set takes the place of a volume of its name.
    claimed = {
        template: {"name": template, "persistentVolumeClaim": {"claimName": claim}}
        for template, claim in claim_names(stateful_set, ordinal).items()
    }
    if claimed:
        kept = [v for v in spec.get("volumes") or () if v.get("name") not in claimed]
        spec["volumes"] = [*claimed.values(), *kept]
    metadata: dict[str, Any] = {
        "name": name,
        "generateName": f"{stateful_set.metadata.name}-",
        "namespace": stateful_set.metadata.namespace,
        "labels": {
            **(of_template.get("labels") or {}),
            names.STATEFUL_POD_NAME: name,
            names.POD_INDEX: str(ordinal),
            names.CONTROLLER_REVISION_HASH: revision.name,
        },
    }
    for field in ("annotations", "finalizers"):
        if of_template.get(field):
            metadata[field] = of_template[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def claim_names(stateful_set: StatefulSet, ordinal: int) -> dict[str, str]:
    """Return the names of a pod's claims by those of their templates."""
    templates = [str(t["metadata"]["name"]) for t in stateful_set.spec.volume_claim_templates]
    return {name: f"{name}-{pod_name(stateful_set, ordinal)}" for name in templates}


def render_claims(stateful_set: StatefulSet, ordinal: int) -> list[dict[str, Any]]:
    """Return the manifests of a pod's claims. They have no owner: they outlive the pod and the set."""
    claims = []
    wanted = claim_names(stateful_set, ordinal)
    selector = stateful_set.spec.selector
    for template in stateful_set.spec.volume_claim_templates:
        metadata = template["metadata"]
        labels = {**(metadata.get("labels") or {}), **(selector.match_labels if selector is not None else {})}
        claims.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": wanted[metadata["name"]],
                    "namespace": stateful_set.metadata.namespace,
                    "labels": labels,
                    "annotations": metadata.get("annotations") or {},
                },
                "spec": template.get("spec") or {},
            }
        )
    return claims
