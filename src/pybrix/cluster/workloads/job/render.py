"""Pods of a Job. Pure."""

from __future__ import annotations

from typing import Any

from pybrix.api.batch import Job
from pybrix.api.names import JOB_INDEX, JOB_INDEX_FAILURES, JOB_TRACKING

_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"


def render_pod(job: Job, index: int | None = None, failures: int | None = None) -> dict[str, Any]:
    """Return the manifest of one more pod; applying it adds the owner.

    The pod of an index knows it by label, annotation, variable and host name.

    Args:
        failures: how often its index has failed, of a Job that counts them by index.
    """
    of_template = job.spec.template.get("metadata") or {}
    spec = dict(job.spec.template.get("spec") or {})
    metadata: dict[str, Any] = {
        "generateName": f"{job.metadata.name}-",
        "namespace": job.metadata.namespace,
        "labels": dict(of_template.get("labels") or {}),
        "annotations": dict(of_template.get("annotations") or {}),
        "finalizers": [*(of_template.get("finalizers") or ()), JOB_TRACKING],
    }
    if index is not None:
        metadata["generateName"] = f"{job.metadata.name}-{index}-"
        metadata["labels"][JOB_INDEX] = str(index)
        metadata["annotations"][JOB_INDEX] = str(index)
        if failures is not None:
            metadata["annotations"][JOB_INDEX_FAILURES] = str(failures)
        spec["hostname"] = f"{job.metadata.name}-{index}"
        for field in ("initContainers", "containers"):
            if spec.get(field):
                spec[field] = [_indexed(container) for container in spec[field]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _indexed(container: dict[str, Any]) -> dict[str, Any]:
    given = container.get("env") or []
    if any(v.get("name") == _INDEX_VARIABLE for v in given):
        return container
    path = f"metadata.annotations['{JOB_INDEX}']"
    return {**container, "env": [*given, {"name": _INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}}]}
