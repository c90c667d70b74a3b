"""Builders of workload objects, and a world in memory that plans are applied to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.core import Pod, Service
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object
from pybrix.api.scheme import decode
from pybrix.base.clock import format_rfc3339
from pybrix.runtime.actions import Create, Delete, Emit, Patch, PatchStatus, Plan

START = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = {"app": "web"}
O = TypeVar("O", bound=Object)  # noqa: E741


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def make_pod(
    name: str = "web-1",
    *,
    namespace: str = "default",
    uid: str = "",
    labels: Mapping[str, str] = LABELS,
    owner: Object | None = None,
    phase: str = "Running",
    ready_since: datetime | None = None,
    node: str = "node-1",
    ip: str = "127.64.0.1",
    terminating: bool = False,
    restarts: int = 0,
    created: datetime = START,
    annotations: Mapping[str, str] | None = None,
    containers: list[dict[str, Any]] | None = None,
    node_selector: Mapping[str, str] | None = None,
) -> Pod:
    ready = {"type": "Ready", "status": "False" if ready_since is None else "True"}
    if ready_since is not None:
        ready["lastTransitionTime"] = format_rfc3339(ready_since)
    spec: dict[str, Any] = {"containers": containers or [{"name": "main", "image": "pybrix/simulator"}]}
    if node:
        spec["nodeName"] = node
    if node_selector:
        spec["nodeSelector"] = dict(node_selector)
    container = {
        "name": "main",
        "ready": ready_since is not None,
        "restartCount": restarts,
        "image": "pybrix/simulator",
        "imageID": "",
    }
    return Pod.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": uid or f"uid-{namespace}-{name}",
                "resourceVersion": "1",
                "labels": dict(labels),
                "annotations": dict(annotations or {}),
                "creationTimestamp": format_rfc3339(created),
                "deletionTimestamp": format_rfc3339(created) if terminating else None,
                "ownerReferences": [msgspec.to_builtins(owner.owner_reference())] if owner is not None else [],
            },
            "spec": spec,
            "status": {
                "phase": phase,
                "conditions": [ready],
                "podIP": ip,
                "podIPs": [{"ip": ip}] if ip else [],
                "containerStatuses": [container],
            },
        }
    )


def make_template(image: str = "v1", labels: Mapping[str, str] = LABELS) -> dict[str, Any]:
    return {"metadata": {"labels": dict(labels)}, "spec": {"containers": [{"name": "main", "image": image}]}}


def make_replica_set(
    name: str = "web-abc",
    replicas: int = 3,
    *,
    namespace: str = "default",
    uid: str = "",
    min_ready_seconds: int = 0,
    owner: Object | None = None,
    image: str = "v1",
    annotations: Mapping[str, str] | None = None,
    available: int = 0,
    current: int | None = None,
    created: datetime = START,
    terminating: bool = False,
    selector: Mapping[str, str] = LABELS,
) -> ReplicaSet:
    return ReplicaSet.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": uid or f"uid-{name}",
                "resourceVersion": "1",
                "generation": 1,
                "labels": dict(LABELS),
                "annotations": dict(annotations or {}),
                "creationTimestamp": format_rfc3339(created),
                "deletionTimestamp": format_rfc3339(created) if terminating else None,
                "ownerReferences": [msgspec.to_builtins(owner.owner_reference())] if owner is not None else [],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": min_ready_seconds,
                "selector": {"matchLabels": dict(selector)},
                "template": make_template(image),
            },
            "status": {
                "replicas": replicas if current is None else current,
                "readyReplicas": available,
                "availableReplicas": available,
                "observedGeneration": 1,
            },
        }
    )


def make_deployment(
    replicas: int = 3,
    *,
    name: str = "web",
    namespace: str = "default",
    image: str = "v1",
    strategy: str = "RollingUpdate",
    max_surge: int | str | None = None,
    max_unavailable: int | str | None = None,
    generation: int = 1,
    annotations: Mapping[str, str] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Deployment:
    rolling = {"maxSurge": max_surge, "maxUnavailable": max_unavailable}
    return Deployment.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "generation": generation,
                "annotations": dict(annotations or {}),
                "creationTimestamp": format_rfc3339(START),
            },
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": LABELS},
                "template": make_template(image),
                "strategy": {"type": strategy, "rollingUpdate": rolling if strategy == "RollingUpdate" else None},
                **spec,
            },
            "status": dict(status or {}),
        }
    )


def make_service(name: str = "web", *, ports: list[dict[str, Any]] | None = None, **spec: Any) -> Service:
    return Service.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "creationTimestamp": format_rfc3339(START),
            },
            "spec": {
                "selector": LABELS,
                "ports": [{"name": "http", "port": 80, "targetPort": 8000}] if ports is None else ports,
                **spec,
            },
        }
    )


class World:
    """Objects in memory with just enough of an API server: UIDs, versions, generations, generated names."""

    def __init__(self) -> None:
        self.objects: dict[tuple[type[Object], ObjectKey], Object] = {}
        self.events: list[Emit] = []
        self.now = START
        self._numbers = itertools.count(1)

    def put(self, obj: Object) -> None:
        self.objects[(type(obj), obj.key)] = obj

    def list(self, cls: type[O]) -> list[O]:
        return [obj for obj in self.objects.values() if isinstance(obj, cls)]

    def get(self, cls: type[O], name: str, namespace: str = "default") -> O:
        found = self.objects[(cls, ObjectKey(namespace, name))]
        assert isinstance(found, cls)
        return found

    def edit(self, cls: type[O], name: str, patch: Mapping[str, Any], namespace: str = "default") -> O:
        """Merge-patch like a client: another `spec` is another generation."""
        old = self.get(cls, name, namespace)
        before = old.to_dict()
        after = _merge(before, patch)
        number = next(self._numbers)
        after["metadata"]["resourceVersion"] = str(number + 1)
        if after.get("spec") != before.get("spec"):
            after["metadata"]["generation"] = old.metadata.generation + 1
        new = cls.from_dict(after)
        self.put(new)
        return new

    def apply(self, plan: Plan) -> int:
        """Apply a plan's actions; return how many of them changed an object."""
        for action in plan.actions:
            match action:
                case Create():
                    self._create(action)
                case Patch():
                    self._check(action.cls, action.key, action.resource_version)
                    self.edit(action.cls, action.key.name, action.patch, action.key.namespace)
                case PatchStatus():
                    self.edit(action.cls, action.key.name, {"status": action.status}, action.key.namespace)
                case Delete():
                    assert self.objects[(action.cls, action.key)].uid == action.uid
                    del self.objects[(action.cls, action.key)]
                case Emit():
                    self.events.append(action)
        return sum(not isinstance(action, Emit) for action in plan.actions)

    def _check(self, cls: type[Object], key: ObjectKey, version: str) -> None:
        present = self.objects[(cls, key)].metadata.resource_version
        assert version in ("", present), f"stale write of {key}: read at {version}, now {present}"

    def _create(self, action: Create) -> None:
        data = msgspec.convert(action.manifest, dict[str, Any])
        number = next(self._numbers)
        metadata = dict(data["metadata"])
        metadata["name"] = metadata.get("name") or f"{metadata['generateName']}{number:05d}"
        metadata |= {
            "uid": f"uid-{number:05d}",
            "resourceVersion": str(number),
            "generation": 1,
            "creationTimestamp": format_rfc3339(self.now),
        }
        if action.owner is not None:
            metadata["ownerReferences"] = [msgspec.to_builtins(action.owner.owner_reference())]
            metadata.setdefault("namespace", action.owner.metadata.namespace)
        obj = decode({**data, "metadata": metadata})
        assert (type(obj), obj.key) not in self.objects, f"{obj.key} exists"
        self.put(obj)


def _merge(document: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(document) if isinstance(document, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged
