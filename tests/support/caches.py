"""Pools and KVCaches in memory: an API, somebody who makes the pods of workloads, and metadata servers that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from pybrix.api.apps import Deployment, StatefulSet
from pybrix.api.config import ControllersConfiguration, KVCacheConfiguration
from pybrix.api.core import ConfigMap, Event, Pod
from pybrix.api.identity import ObjectKey
from pybrix.api.markers import CustomResource
from pybrix.api.meta import Object, find_condition
from pybrix.api.names import CONTROLLER_REVISION_HASH
from pybrix.api.scheme import CUSTOM_KINDS, decode
from pybrix.base.clock import format_rfc3339
from pybrix.base.hashing import template_hash
from pybrix.controllers.cachecluster.reconciler import FINALIZER, CacheKind, CacheReconciler
from pybrix.controllers.cachecluster.record import read_record, record_name
from pybrix.controllers.membership.errors import StoreError
from pybrix.controllers.membership.records import Record
from pybrix.controllers.membership.records import decode as decode_record
from pybrix.controllers.membership.store import Server, Store, Stored
from pybrix.controllers.registration import Registration, Setup
from tests.support.clocks import LoopClock
from tests.support.memoryapi import MemoryApi
from tests.support.permissions import running_registration

T = TypeVar("T", bound=Object)


class MemoryStore:
    """A metadata server in memory, shared by every connection to its addresses. `failure` is what calls raise."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.kept: dict[str, tuple[str, ...]] = {}
        self.failure: StoreError | None = None
        self.servers: list[Server] = []
        """How it was connected to."""
        self.calls = 0

    def _enter(self) -> None:
        self.calls += 1
        if self.failure is not None:
            raise self.failure

    async def read(self, keys: Sequence[str]) -> dict[str, Stored]:
        self._enter()
        return {key: Stored(self.content[key]) for key in keys if key in self.content}

    async def swap(self, key: str, content: bytes | None, expected: Stored | None) -> bool:
        self._enter()
        if self.content.get(key) != (expected.content if expected is not None else None):
            return False
        if content is None:
            self.content.pop(key, None)
        else:
            self.content[key] = content
        return True

    async def keep(self, group: str, entries: Mapping[str, bytes], ttl_s: int) -> None:
        self._enter()
        for key in self.kept.get(group, ()):
            self.content.pop(key, None)
        self.kept[group] = tuple(entries)
        self.content |= entries

    async def remove(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> None:
        self._enter()
        for key in list(self.content):
            if key in keys or any(key.startswith(prefix) for prefix in prefixes):
                del self.content[key]

    async def aclose(self) -> None:
        pass


class CacheWorld:
    """The API and what stands in for a cluster."""

    def __init__(self) -> None:
        self.api = MemoryApi()
        self.store = MemoryStore()
        self.others: dict[str, MemoryStore] = {}
        """Further metadata servers, by address, and number of the database where it is not 0."""
        self.is_pod_ready = True
        """Whether pods become ready when they are made."""
        self.is_rolling = False
        """Whether members of an old spec are left."""
        self._addresses = 0

    def open(self, server: Server) -> Store:
        name = f"{server.addresses[0]}/{server.database}" if server.database else server.addresses[0]
        store = self.others.get(name, self.store)
        store.servers.append(server)
        return store

    def add(self, manifest: Mapping[str, Any]) -> Any:
        return self.api.put(decode(msgspec.json.decode(msgspec.json.encode(manifest))))

    def get(self, cls: type[T], name: str) -> T:
        return next(obj for obj in self.api.all(cls) if obj.metadata.name == name)

    def names(self, cls: type[Object]) -> set[str]:
        return {obj.metadata.name for obj in self.api.all(cls)}

    def reasons(self, obj: CustomResource) -> dict[str, str]:
        """Return the conditions as `True Reason`."""
        current: Any = self.get(type(obj), obj.metadata.name)
        return {c.type: f"{c.status} {c.reason}" for c in current.status.conditions}

    def message(self, obj: CustomResource, kind: str) -> str:
        current: Any = self.get(type(obj), obj.metadata.name)
        found = find_condition(current.status.conditions, kind)
        assert found is not None
        return str(found.message)

    def record(self, name: str) -> Record:
        record = decode_record(self.store.content[name])
        assert record is not None
        return record

    def copy(self, obj: CustomResource) -> Record | None:
        found = next((c for c in self.api.all(ConfigMap) if c.metadata.name == record_name(obj)), None)
        return read_record(found)

    def events(self) -> list[str]:
        return [event.reason for event in self.api.all(Event)]

    def set_ready(self, name: str, is_ready: bool) -> None:
        pod = self.get(Pod, name)
        self.api.change(pod, {"status": {"conditions": [_ready(is_ready)]}})

    def delete(self, obj: Object) -> None:
        """Ask for the deletion of an object with a finalizer."""
        self.api.change(obj, {"metadata": {"deletionTimestamp": format_rfc3339(LoopClock().now())}})

    async def run_workloads(self) -> None:
        """Make pods of StatefulSets and Deployments, and end those of deleted ones, until cancelled."""
        while True:
            workloads: list[StatefulSet | Deployment] = [*self.api.all(StatefulSet), *self.api.all(Deployment)]
            for workload in workloads:
                self._run(workload)
            alive = {workload.uid for workload in workloads}
            for pod in self.api.all(Pod):
                controller = pod.metadata.controller
                is_made = controller is not None and controller.kind in ("StatefulSet", "Deployment")
                if is_made and controller is not None and controller.uid not in alive:
                    self.api.remove(pod)
            for cls in CUSTOM_KINDS:
                for obj in self.api.all(cls):
                    if obj.metadata.is_terminating and FINALIZER not in obj.metadata.finalizers:
                        self.api.remove(obj)
            await asyncio.sleep(0.5)

    def _run(self, workload: StatefulSet | Deployment) -> None:
        count = workload.spec.replicas if workload.spec.replicas is not None else 1
        revision = template_hash(workload.spec.template)
        wanted = {f"{workload.metadata.name}-{number}" for number in range(count)}
        for pod in self.api.all(Pod):
            controller = pod.metadata.controller
            if controller is not None and controller.uid == workload.uid and pod.metadata.name not in wanted:
                self.api.remove(pod)
        have = {pod.metadata.name for pod in self.api.all(Pod)}
        # A rollout replaces its pods under their names; here they get another revision. One is left while it is under
        # way, and one that is not ready is waited for.
        for name in sorted(wanted & have)[1 if self.is_rolling else 0 :]:
            pod = self.get(Pod, name)
            if pod.is_ready and pod.metadata.labels.get(CONTROLLER_REVISION_HASH) != revision:
                self.api.change(pod, {"metadata": {"labels": {CONTROLLER_REVISION_HASH: revision}}})
        for name in sorted(wanted - have):
            self._addresses += 1
            metadata = {
                "name": name,
                "namespace": workload.metadata.namespace,
                "labels": {**workload.spec.template["metadata"]["labels"], CONTROLLER_REVISION_HASH: revision},
                "ownerReferences": [msgspec.to_builtins(workload.owner_reference())],
            }
            status = {
                "phase": "Running",
                "podIP": f"10.0.0.{self._addresses}",
                "conditions": [_ready(self.is_pod_ready)],
            }
            self.api.put(Pod.from_dict({"metadata": metadata, "spec": {}, "status": status}))
        told: dict[str, Any] = {
            "observedGeneration": workload.metadata.generation,
            "replicas": count,
            "readyReplicas": count,
            "updatedReplicas": count - 1 if self.is_rolling else count,
        }
        if isinstance(workload, StatefulSet):
            told["updateRevision"] = revision
        if workload.to_dict().get("status") != told:
            self.api.change(workload, {"status": told})

    @asynccontextmanager
    async def controlling(
        self, registration: Registration, kind: Callable[[KVCacheConfiguration], CacheKind[Any]], client: Any = None
    ) -> AsyncIterator[None]:
        """Run a registration's controller over the store in memory, and the workloads."""

        def build(setup: Setup) -> Any:
            return [CacheReconciler(setup, kind(setup.config.kv_cache), self.open).controller]

        config = ControllersConfiguration(
            kv_cache=KVCacheConfiguration(deregister_deadline_s=30.0, member_min_ready_s=2)
        )
        async with running_registration(replace(registration, build=build), client or self.api, config=config):
            running = asyncio.get_running_loop().create_task(self.run_workloads())
            try:
                yield
            finally:
                running.cancel()
                await asyncio.wait([running])
                if not running.cancelled() and (error := running.exception()) is not None:
                    raise error


def key(name: str, namespace: str = "default") -> ObjectKey:
    return ObjectKey(namespace, name)


def _ready(is_ready: bool) -> dict[str, str]:
    since = format_rfc3339(LoopClock().now())
    return {"type": "Ready", "status": "True" if is_ready else "False", "lastTransitionTime": since}
