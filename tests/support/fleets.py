"""RayClusters in memory: builders, an API server that deletes as a real one does, and a KubeRay that can fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp.client_reqrep import ConnectionKey

from pybrix.api import names
from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import CLUSTER, HEAD, HEAD_READY, NODE_TYPE, PROVISIONED, RayCluster
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.kube.errors import Conflict, KubeError, Unreachable
from pybrix.kube.interface import EventType, PatchType, WatchEvent
from tests.support.clocks import EPOCH, LoopClock
from tests.support.memoryapi import MemoryApi

T = TypeVar("T", bound=Object)
A = TypeVar("A")
LABELS = {"app": "big"}
MODEL = "big-model"


def make_template(image: str = "v1", workers: int = 1, labels: Mapping[str, str] = LABELS) -> dict[str, Any]:
    """Return a RayCluster template of a head and one group of workers."""
    pod = {"spec": {"containers": [{"name": "ray", "image": image}]}}
    head = {"metadata": {"labels": {names.MODEL_NAME: MODEL}}, **pod}
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "headGroupSpec": {"rayStartParams": {}, "template": head},
            "workerGroupSpecs": [{"groupName": "small", "replicas": workers, "template": pod}],
        },
    }


def make_fleet(
    replicas: int = 2,
    *,
    name: str = "big",
    image: str = "v1",
    max_surge: int | str | None = None,
    max_unavailable: int | str | None = None,
    strategy: str = "",
    annotations: Mapping[str, str] | None = None,
    status: Mapping[str, Any] | None = None,
    generation: int = 1,
    **spec: Any,
) -> RayClusterFleet:
    described: dict[str, Any] = {"type": strategy} if strategy else {}
    if max_surge is not None or max_unavailable is not None:
        described["rollingUpdate"] = {"maxSurge": max_surge, "maxUnavailable": max_unavailable}
    return RayClusterFleet.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "generation": generation,
                "annotations": dict(annotations or {}),
                "creationTimestamp": format_rfc3339(EPOCH),
            },
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": LABELS},
                "template": make_template(image),
                **({"strategy": described} if described else {}),
                **spec,
            },
            "status": dict(status or {}),
        }
    )


def make_set(
    name: str = "big-1",
    replicas: int = 1,
    *,
    image: str = "v1",
    owner: Object | None = None,
    available: int = 0,
    current: int | None = None,
    created: str = format_rfc3339(EPOCH),
    annotations: Mapping[str, str] | None = None,
    min_ready_seconds: int = 0,
) -> RayClusterReplicaSet:
    return RayClusterReplicaSet.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "generation": 1,
                "labels": LABELS,
                "annotations": dict(annotations or {}),
                "finalizers": [names.DRAIN_FINALIZER],
                "creationTimestamp": created,
                "ownerReferences": [msgspec.to_builtins(owner.owner_reference())] if owner is not None else [],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": min_ready_seconds,
                "selector": {"matchLabels": LABELS},
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


def ready_status(
    since: str, *, workers: int = 1, ready_workers: int | None = None, is_head: bool = True
) -> dict[str, Any]:
    """Return the status of a cluster that was provisioned; it is ready when head and workers are."""
    return {
        "state": "ready",
        "desiredWorkerReplicas": workers,
        "readyWorkerReplicas": workers if ready_workers is None else ready_workers,
        "lastUpdateTime": since,
        "conditions": [_condition(PROVISIONED, True, since), _condition(HEAD_READY, is_head, since)],
    }


def make_cluster(
    name: str = "big-1-a",
    *,
    owner: Object | None = None,
    status: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] = LABELS,
    created: str = format_rfc3339(EPOCH),
    is_terminating: bool = False,
) -> RayCluster:
    return RayCluster.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "generation": 1,
                "labels": dict(labels),
                "annotations": dict(annotations or {}),
                "creationTimestamp": created,
                "deletionTimestamp": created if is_terminating else None,
                "ownerReferences": [msgspec.to_builtins(owner.owner_reference())] if owner is not None else [],
            },
            "spec": make_template()["spec"],
            "status": dict(status or {}),
        }
    )


def make_head(cluster: RayCluster, *, is_ready: bool = True, ip: str = "127.64.0.9", since: str = "") -> Pod:
    """Return the head pod that KubeRay makes of a cluster; `since` is when it got ready, or stopped being it."""
    return Pod.from_dict(
        {
            "metadata": {
                "name": f"{cluster.metadata.name}-head",
                "namespace": cluster.metadata.namespace,
                "uid": f"uid-{cluster.metadata.name}-head",
                "resourceVersion": "1",
                "labels": {NODE_TYPE: HEAD, CLUSTER: cluster.metadata.name, names.MODEL_NAME: MODEL},
                "ownerReferences": [msgspec.to_builtins(cluster.owner_reference())],
            },
            "status": {
                "podIP": ip,
                "conditions": [readiness(is_ready, since or format_rfc3339(EPOCH))],
            },
        }
    )


def readiness(is_ready: bool, since: str) -> dict[str, Any]:
    return {"type": "Ready", "status": "True" if is_ready else "False", "lastTransitionTime": since}


def _condition(type_: str, is_true: bool, since: str) -> dict[str, Any]:
    status, reason = ("True", "Yes") if is_true else ("False", "No")
    return {"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": since}


class FleetApi(MemoryApi):
    """Deletes RayClusters in the foreground, sets when nothing holds them; answers can be late, or be lost.

    `hold` holds back what watches tell of all or of some kinds, until `release`. `before` and `after` are errors for
    the next writes: before, nothing is written; after, it is written and the answer is lost. `on_write` is called after
    every write.
    `found` are the head pods that gateways find, `left_at_s` says when others stopped being found.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        self.clock = self._clock = clock or LoopClock()
        self.before: list[KubeError] = []
        self.after: list[KubeError] = []
        self.on_write: Callable[[], None] = lambda: None
        self.on_cluster_leaves: Callable[[RayCluster], None] = lambda cluster: None
        self.writes = 0
        self.changed = asyncio.Event()
        self.found: set[Uid] = set()
        self.left_at_s: dict[Uid, float] = {}
        self._flows: dict[type[Object], asyncio.Event] = {}

    def hold(self, *kinds: type[Object]) -> None:
        for kind in kinds or tuple(self._flows):
            self._flow(kind).clear()

    def release(self) -> None:
        for flow in self._flows.values():
            flow.set()

    def _flow(self, cls: type[Object]) -> asyncio.Event:
        if cls not in self._flows:
            self._flows[cls] = asyncio.Event()
            self._flows[cls].set()
        return self._flows[cls]

    async def watch(self, cls: type[T], namespace: str | None = None, **options: Any) -> AsyncIterator[WatchEvent[T]]:
        async with aclosing(super().watch(cls, namespace, **options)) as events:  # type: ignore[type-var]
            async for event in events:
                await self._flow(cls).wait()
                yield event

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        self._begin()
        return self._end(await super().create_raw(data))

    async def patch(
        self,
        cls: type[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Any],
        *,
        patch_type: PatchType = PatchType.MERGE,
        **options: Any,
    ) -> T:
        self._begin()
        assert isinstance(patch, Mapping)
        uid = (patch.get("metadata") or {}).get("uid")
        if uid is not None and (await self.get(cls, key)).uid != uid:
            raise Conflict(409, "Conflict", "another UID")
        changed = await super().patch(cls, key, patch, patch_type=patch_type, **options)
        if cls is RayClusterReplicaSet and changed.metadata.is_terminating and not changed.metadata.finalizers:
            self.remove(changed)
        return self._end(changed)

    async def delete(
        self,
        cls: type[T],
        key: ObjectKey,
        *,
        uid: Uid | None = None,
        resource_version: str = "",
        propagation: str = "Background",
        **options: Any,
    ) -> None:
        self._begin()
        if cls is RayClusterReplicaSet:
            self.end_set(await self.get(RayClusterReplicaSet, key))
        elif cls is not RayCluster:
            await super().delete(
                cls, key, uid=uid, resource_version=resource_version, propagation=propagation, **options
            )
        else:
            found = await self.get(RayCluster, key)
            if uid is not None and found.uid != uid:
                raise Conflict(409, "Conflict", "another UID")
            if resource_version and found.metadata.resource_version != resource_version:
                raise Conflict(409, "Conflict", "it has been modified")
            if not found.metadata.is_terminating:
                self.on_cluster_leaves(found)
                self.end_cluster(found)
        self._end(None)

    def _record(self, event: EventType, kind: tuple[str, str], data: dict[str, Any]) -> None:
        super()._record(event, kind, data)
        self.changed.set()
        if kind == (Pod.gvk.api_version, Pod.gvk.kind):
            self._note_found(event, Pod.from_dict(data))

    def _note_found(self, event: EventType, pod: Pod) -> None:
        is_found = names.MODEL_NAME in pod.metadata.labels and pod.is_ready and not pod.metadata.is_terminating
        if is_found and event is not EventType.DELETED:
            self.found.add(pod.uid)
        elif pod.uid in self.found:
            self.found.discard(pod.uid)
            self.left_at_s[pod.uid] = self.clock.monotonic_s()

    def end_set(self, replica_set: RayClusterReplicaSet) -> None:
        """Delete a set, or begin to when somebody holds it."""
        if replica_set.metadata.finalizers:
            self.change(replica_set, {"metadata": {"deletionTimestamp": format_rfc3339(self.clock.now())}})
        else:
            self.remove(replica_set)

    def end_cluster(self, cluster: RayCluster) -> None:
        """Begin the deletion of a cluster, as the API server does in the foreground."""
        self.change(cluster, {"metadata": {"deletionTimestamp": format_rfc3339(self.clock.now())}})

    def _begin(self) -> None:
        if self.before:
            raise self.before.pop(0)

    def _end(self, answer: A) -> A:
        self.writes += 1
        self.on_write()
        if self.after:
            raise self.after.pop(0)
        return answer


class SimulatedKubeRay:
    """Brings clusters up after a while, and takes deleted ones away after a while."""

    START_S = (1.0, 8.0)
    END_S = (0.5, 20.0)

    def __init__(self, api: FleetApi, chance: random.Random) -> None:
        self.api = api
        self.chance = chance
        self.broken_images: set[str] = set()
        """Clusters of these images never get ready."""
        self._due: dict[tuple[Uid, str], float] = {}
        self._made = 0

    async def run(self) -> None:
        """Act whenever something has changed or is due."""
        while True:
            self.api.changed.clear()
            now_s = self.api.clock.monotonic_s()
            sets = {s.uid for s in self.api.all(RayClusterReplicaSet)}
            for cluster in self.api.all(RayCluster):
                self._step(cluster, sets, now_s)
            due_s = min((due_s for due_s in self._due.values() if due_s > now_s), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_s is None else due_s - now_s + 0.01):
                    await self.api.changed.wait()

    def _step(self, cluster: RayCluster, sets: set[Uid], now_s: float) -> None:
        owner = cluster.metadata.controller
        if cluster.metadata.is_terminating:
            if self._is_due((cluster.uid, "end"), self.END_S, now_s):
                for pod in self.heads(cluster):
                    self.api.remove(pod)
                self.api.remove(cluster)
        elif owner is not None and owner.uid not in sets:
            # Garbage collection asks nobody.
            self.api.on_cluster_leaves(cluster)
            self.api.end_cluster(cluster)
        elif not cluster.status.conditions and self._is_due((cluster.uid, "start"), self.START_S, now_s):
            images = [c["image"] for c in cluster.spec.head_group_spec.template["spec"]["containers"]]
            if not self.broken_images.intersection(images):
                self.heal(cluster)

    def _is_due(self, what: tuple[Uid, str], between: tuple[float, float], now_s: float) -> bool:
        due_s = self._due.setdefault(what, now_s + self.chance.uniform(*between))
        return now_s >= due_s

    def heal(self, cluster: RayCluster) -> None:
        """Make a cluster ready, with a head pod."""
        now = format_rfc3339(self.api.clock.now())
        if not self.heads(cluster):
            self._made += 1
            self.api.put(make_head(cluster, ip=f"127.64.{self._made // 250}.{self._made % 250 + 1}", since=now))
        self._set_ready(cluster, is_ready=True)
        self.api.change(cluster, {"status": ready_status(now)})

    def fail(self, cluster: RayCluster, *, is_head_lost: bool = True) -> None:
        """Take the head of a cluster away, or only its readiness: what it has to do it goes on with."""
        now = format_rfc3339(self.api.clock.now())
        if is_head_lost:
            for pod in self.heads(cluster):
                self.api.remove(pod)
        self._set_ready(cluster, is_ready=False)
        self.api.change(cluster, {"status": ready_status(now, is_head=False)})

    def _set_ready(self, cluster: RayCluster, *, is_ready: bool) -> None:
        for pod in self.heads(cluster):
            if pod.is_ready is not is_ready:
                condition = readiness(is_ready, format_rfc3339(self.api.clock.now()))
                self.api.change(pod, {"status": {"conditions": [condition]}})

    def heads(self, cluster: RayCluster) -> list[Pod]:
        holders = ((pod, pod.metadata.controller) for pod in self.api.all(Pod))
        return [pod for pod, holder in holders if holder is not None and holder.uid == cluster.uid]


class SimulatedHeads:
    """Answers for the engines of head pods in place of an HTTP session; `requests` are those that each has.

    With an API, only addresses of pods that exist answer. `answers` are the last ones, by IP.
    """

    def __init__(self, api: FleetApi | None = None) -> None:
        self.requests = 0
        self.answers: dict[str, int] = {}
        self._api = api

    def get(self, url: str) -> _Answer:
        host = url.removeprefix("http://").removesuffix(":8000/metrics")
        if self._api is not None and host not in {pod.status.pod_ip for pod in self._api.all(Pod)}:
            key = ConnectionKey(host, 8000, False, True, None, None, None)
            raise aiohttp.ClientConnectorError(key, ConnectionRefusedError())
        self.answers[host] = self.requests
        return _Answer(self.requests)


class _Answer:
    status = 200

    def __init__(self, requests: int) -> None:
        self._requests = requests

    async def __aenter__(self) -> _Answer:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(self) -> bytes:
        return f"vllm:num_requests_running {self._requests}\nvllm:num_requests_waiting 0\n".encode()


def lost() -> KubeError:
    return Unreachable("connection reset")
