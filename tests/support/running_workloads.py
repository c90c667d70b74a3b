"""A cluster without a node agent: API server and workload controllers for real, the kubelet played by the test."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from pybrix.api.core import Node
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object
from pybrix.base.clock import SystemClock, format_rfc3339
from pybrix.cluster.store.history import ChangeType, Stored
from pybrix.cluster.workloads.registry import run_workloads
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import NotFound
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.runtime.manager import Manager
from tests.support.apiserver import RunningApiServer, running_api_server

T = TypeVar("T", bound=Object)
RESOURCES = {"Deployment": "deployments.apps", "ReplicaSet": "replicasets.apps", "Pod": "pods", "Service": "services"}
RESOURCES |= {"StatefulSet": "statefulsets.apps", "ControllerRevision": "controllerrevisions.apps"}
RESOURCES |= {"PersistentVolumeClaim": "persistentvolumeclaims"}
RESOURCES |= {"EndpointSlice": "endpointslices.discovery.k8s.io", "Event": "events", "Namespace": "namespaces"}
WAIT_S = 60.0


class Cluster:
    """Reads the store at once, writes through the API's own admission, waits for changes of the store."""

    def __init__(self, api: RunningApiServer) -> None:
        self.api = api
        self.store = api.store
        self.objects = api.server.objects
        self.client = HttpClient(load_kubeconfig(api.kubeconfig))
        self.broken_images: set[str] = set()
        """Pods of these images run and never get ready."""
        self.holds_pods = False
        """Whether pods that are deleted stay in Terminating."""
        self._group: asyncio.TaskGroup | None = None
        self._workloads: asyncio.Task[None] | None = None
        self._manager: Manager | None = None
        self._addresses = 0

    def list(self, cls: type[T], namespace: str | None = "default", **labels: str) -> list[T]:
        found = (cls.from_dict(s.data) for s in self.store.list(RESOURCES[cls.gvk.kind], namespace))
        return [obj for obj in found if labels.items() <= obj.metadata.labels.items()]

    def get(self, cls: type[T], name: str, namespace: str = "default") -> T | None:
        key = ObjectKey(namespace if cls.gvk.is_namespaced else "", name)
        stored = self.store.get(RESOURCES[cls.gvk.kind], key)
        return cls.from_dict(stored.data) if stored is not None else None

    def create(self, manifest: dict[str, Any], resource: str = "") -> dict[str, Any]:
        manifest["metadata"].setdefault("namespace", "default")
        return self.objects.create(resource or RESOURCES[manifest["kind"]], manifest)

    def patch(self, cls: type[Object], name: str, patch: dict[str, Any], **more: Any) -> None:
        key = ObjectKey("default" if cls.gvk.is_namespaced else "", name)
        self.objects.patch(RESOURCES[cls.gvk.kind], key, patch, **more)

    def delete(self, cls: type[Object], name: str, **more: Any) -> None:
        key = ObjectKey("default" if cls.gvk.is_namespaced else "", name)
        self.objects.delete(RESOURCES[cls.gvk.kind], key, **more)

    async def until(self, holds: Callable[[], object], always: Callable[[], None] = lambda: None) -> None:
        """Return when a condition on the store holds; check `always` after every change. Raises TimeoutError."""
        changes = self.store.subscribe()
        try:
            async with asyncio.timeout(WAIT_S):
                while not holds():
                    await changes.next()
                    always()
        finally:
            changes.close()

    async def revisions_within(self, seconds: float) -> int:
        """Return how many writes come in a time in which none is expected: an absence cannot be awaited."""
        before = self.store.revision
        await asyncio.sleep(seconds)
        return self.store.revision - before

    async def kubectl(self, *args: str) -> str:
        """Run kubectl, which succeeds, and return what it printed."""
        ran = await self.api.kubectl(*args)
        assert ran.code == 0, ran.err
        return ran.out

    def add_node(self, name: str = "node-1", **allocatable: str) -> None:
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {
                "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "500", **allocatable},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        self.objects.create("nodes", node)
        self.objects.patch("nodes", ObjectKey("", name), {"status": node["status"]}, subresource="status")
        assert Node.from_dict(self.objects.get("nodes", ObjectKey("", name))).status.allocatable

    async def start_workloads(self) -> None:
        assert self._group is not None
        clock, chance = SystemClock(), random.Random(1)
        self._manager = Manager(self.client, component="pybrix-workloads", clock=clock, chance=chance)
        work = run_workloads(self._manager, self.store, self.objects, clock=clock, chance=chance)
        self._workloads = self._group.create_task(work, name="workloads")

    async def stop_workloads(self) -> None:
        """End the controllers in order, as a shutdown of the cluster does."""
        assert self._manager is not None
        assert self._workloads is not None
        self._manager.stop()
        await self._workloads

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Cluster]:
        try:
            async with asyncio.TaskGroup() as self._group:
                await self.start_workloads()
                kubelet = self._group.create_task(self._kubelet(), name="kubelet")
                yield self
                await self.stop_workloads()
                kubelet.cancel()
        finally:
            await self.client.aclose()

    async def _kubelet(self) -> None:
        """Run every bound pod at once, and end it at once when it is deleted."""
        changes = self.store.subscribe("pods")
        for stored in self.store.list("pods"):
            self._sync(stored)
        async for change in changes:
            latest = self.store.by_uid(change.object.uid)
            if change.type is not ChangeType.DELETED and latest is not None:
                self._sync(latest)

    def _sync(self, stored: Stored) -> None:
        pod = stored.data
        if "deletionTimestamp" in pod["metadata"]:
            if not self.holds_pods:
                try:
                    self.objects.delete("pods", stored.key, uid=stored.uid, grace_period_seconds=0)
                except NotFound:
                    return
            return
        if not pod["spec"].get("nodeName") or pod["status"].get("phase") == "Running":
            return
        self._addresses += 1
        address = f"127.64.{self._addresses // 250}.{self._addresses % 250 + 1}"
        is_ready = not {c.get("image") for c in pod["spec"]["containers"]} & self.broken_images
        now = format_rfc3339(SystemClock().now())
        ready = {"type": "Ready", "status": "True" if is_ready else "False", "lastTransitionTime": now}
        others = [c for c in pod["status"].get("conditions", []) if c["type"] != "Ready"]
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [*others, ready],
        }
        self.objects.patch("pods", stored.key, {"status": status}, subresource="status")


@asynccontextmanager
async def running_workloads(tmp_path: Path, *, nodes: Iterable[str] = ("node-1",)) -> AsyncIterator[Cluster]:
    """Run an API server with all workload controllers over it."""
    async with running_api_server(tmp_path) as api:
        cluster = Cluster(api)
        for name in nodes:
            cluster.add_node(name)
        async with cluster.running():
            yield cluster
