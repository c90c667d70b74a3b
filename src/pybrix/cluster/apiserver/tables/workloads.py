"""Rows of workloads: what makes pods, and what their pods store. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pybrix.base.clock import parse_rfc3339
from pybrix.cluster.apiserver.tables.ages import human_duration
from pybrix.cluster.apiserver.tables.cells import (
    NONE,
    Data,
    Layout,
    age_of,
    columns,
    container_cells,
    name_of,
    print_selector,
)


def _deployment(data: Data, now: datetime) -> list[Any]:
    spec, status = data.get("spec", {}), data.get("status", {})
    names, images = container_cells(data)
    return [
        name_of(data),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        age_of(data, now),
        names,
        images,
        print_selector(spec.get("selector")),
    ]


def _replicaset(data: Data, now: datetime) -> list[Any]:
    spec, status = data.get("spec", {}), data.get("status", {})
    names, images = container_cells(data)
    return [
        name_of(data),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        age_of(data, now),
        names,
        images,
        print_selector(spec.get("selector")),
    ]


def _stateful_set(data: Data, now: datetime) -> list[Any]:
    spec, status = data.get("spec", {}), data.get("status", {})
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [name_of(data), ready, age_of(data, now), *container_cells(data)]


def _revision(data: Data, now: datetime) -> list[Any]:
    owner = next((r for r in data["metadata"].get("ownerReferences", ()) if r.get("controller")), None)
    holder = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").partition("/")[0]
        holder = f"{owner.get('kind', '').lower()}.{group}/{owner.get('name', '')}"
    return [name_of(data), holder, data.get("revision", 0), age_of(data, now)]


def _job(data: Data, now: datetime) -> list[Any]:
    spec, status = data.get("spec", {}), data.get("status", {})
    wanted, parallelism = spec.get("completions"), spec.get("parallelism", 0)
    completions = f"{status.get('succeeded', 0)}/{wanted}"
    if wanted is None:
        completions = f"{status.get('succeeded', 0)}/1" + (f" of {parallelism}" if parallelism > 1 else "")
    duration = ""
    if status.get("startTime"):
        until = parse_rfc3339(status["completionTime"]) if status.get("completionTime") else now
        duration = human_duration((until - parse_rfc3339(status["startTime"])).total_seconds())
    true = {c["type"] for c in status.get("conditions", ()) if c.get("status") == "True"}
    order = ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet")
    shown = next((word for word in order if word in true), "")
    if "deletionTimestamp" in data["metadata"]:
        shown = "Terminating"
    names, images = container_cells(data)
    return [
        name_of(data), shown or "Running", completions, duration, age_of(data, now), names, images,
        print_selector(spec.get("selector")),
    ]  # fmt: skip


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _claim(data: Data, now: datetime) -> list[Any]:
    spec, status = data.get("spec", {}), data.get("status", {})
    is_terminating = "deletionTimestamp" in data["metadata"]
    return [
        name_of(data),
        "Terminating" if is_terminating else status.get("phase", ""),
        spec.get("volumeName", ""),
        status.get("capacity", {}).get("storage", ""),
        ",".join(_MODES.get(mode, mode) for mode in status.get("accessModes", ())),
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or "<unset>",
        age_of(data, now),
        spec.get("volumeMode", "<unset>"),
    ]


WORKLOADS: dict[str, Layout] = {
    "deployments.apps": Layout(
        columns("Name|Ready|Up-to-date|Available|Age", "Containers|Images|Selector"), _deployment
    ),
    "replicasets.apps": Layout(columns("Name|Desired|Current|Ready|Age", "Containers|Images|Selector"), _replicaset),
    "statefulsets.apps": Layout(columns("Name|Ready|Age", "Containers|Images"), _stateful_set),
    "controllerrevisions.apps": Layout(columns("Name|Controller|Revision|Age"), _revision),
    "jobs.batch": Layout(columns("Name|Status|Completions|Duration|Age", "Containers|Images|Selector"), _job),
    "persistentvolumeclaims": Layout(
        columns("Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age", "VolumeMode"),
        _claim,
    ),
}
