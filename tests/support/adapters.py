"""Adapters, pods and engines in memory: what the ModelAdapter controller works with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp

from pybrix.api.config import ControllersConfiguration
from pybrix.api.core import EndpointSlice, Event, Pod, Service
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object, find_condition
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.controllers.modeladapter.controller import ModelAdapterReconciler
from pybrix.controllers.modeladapter.state import PodFacts
from pybrix.controllers.registration import Setup
from pybrix.engine.adapters import (
    AdapterRefused,
    AdapterSource,
    AdapterTarget,
    AlreadyLoaded,
    EngineTimeout,
    EngineUnreachable,
    ServedModel,
    UnknownAdapter,
)
from pybrix.engine.page import EnginePage
from pybrix.kube.interface import EventType, PatchType
from pybrix.runtime.manager import Manager
from tests.support.clocks import LoopClock
from tests.support.memoryapi import MemoryApi

T = TypeVar("T", bound=Object)

BASE = "llama"
LONG_S = 30.0
"""Virtual time in which a controller has done what it is to do."""
LABELS = {"app": "llama", "model.aibrix.ai/name": BASE, "adapter.model.aibrix.ai/enabled": "true"}


def make_adapter(name: str = "sql", *, namespace: str = "default", uid: str = "", **spec: Any) -> ModelAdapter:
    """Return an adapter for the pods of `make_pod`; further arguments are fields of its spec, as on the wire."""
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"adapter-{name}", "generation": 1}
    wanted = {
        "baseModel": BASE,
        "podSelector": {"matchLabels": {"app": "llama"}},
        "artifactURL": f"huggingface://org/{name}",
    } | spec
    return ModelAdapter.from_dict({"metadata": metadata, "spec": {k: v for k, v in wanted.items() if v is not None}})


def make_pod(
    name: str = "llama-0",
    *,
    uid: str = "",
    ip: str = "10.0.0.1",
    ips: tuple[str, ...] = (),
    ready: bool = True,
    containers_ready: bool | None = None,
    labels: Mapping[str, str] | None = None,
    owner: str = "",
    created_at: str = "2026-01-01T00:00:00Z",
    since: str = "2026-01-01T00:00:00Z",
    restarts: int = 0,
    deleted_at: str | None = None,
    namespace: str = "default",
    node: str = "node-1",
    phase: str = "Running",
    args: tuple[str, ...] = (),
    sidecar: bool = False,
    gate: bool = False,
) -> Pod:
    """Return a pod that serves the base model; `owner` is the revision of the ReplicaSet that made it."""
    are_ready = ready if containers_ready is None else containers_ready
    conditions = [
        {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since},
        {"type": "ContainersReady", "status": "True" if are_ready else "False", "lastTransitionTime": since},
    ]
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-of-{name}",
        "labels": dict(LABELS if labels is None else labels),
        "creationTimestamp": created_at,
    }
    if owner:
        metadata["labels"]["pod-template-hash"] = owner
        metadata["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"llama-{owner}", "uid": owner, "controller": True}
        ]
    if deleted_at is not None:
        metadata["deletionTimestamp"] = deleted_at
    containers = [{"name": "vllm", "image": "vllm/vllm-openai", "args": list(args)}]
    if sidecar:
        containers.insert(0, {"name": "aibrix-runtime", "image": "aibrix/runtime"})
    spec: dict[str, Any] = {"nodeName": node, "containers": containers}
    if gate:
        spec["readinessGates"] = [{"conditionType": "adapter.model.aibrix.ai/loaded"}]
    every = ips or (ip,)
    status = {
        "phase": phase,
        "podIP": every[0],
        "podIPs": [{"ip": address} for address in every if address],
        "conditions": conditions,
        "containerStatuses": [
            {
                "name": "vllm",
                "ready": are_ready,
                "restartCount": restarts,
                "image": "x",
                "imageID": "x",
                "containerID": f"c://{name}/{restarts}",
            }
        ],
    }
    return Pod.from_dict({"metadata": metadata, "spec": spec, "status": status})


@dataclass
class FakeEngine:
    """What an engine has loaded, by name: the artifact's root."""

    adapters: dict[str, str] = field(default_factory=dict)
    base: str = BASE
    load_s: float = 0.5
    list_s: float = 0.001
    is_up: bool = True
    hangs: bool = False
    refuses: dict[str, str] = field(default_factory=dict)
    """Names that it does not load, with what it says."""
    num_loads: int = 0
    num_unloads: int = 0
    num_lists: int = 0
    wants_key: str = ""
    """The bearer token without which it answers 401; empty: it takes any."""
    page: EnginePage | None = None
    """What its metrics page says."""
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)


class FakeEngines:
    """Engines by host, behind the Protocol that the controller consumes."""

    def __init__(self) -> None:
        self.by_host: dict[str, FakeEngine] = {}
        self.before: Callable[[str], None] = lambda call: None
        """Called before each request, with its name; what it raises, the request raises."""
        self.keys: dict[str, set[str]] = {}
        self._working: set[asyncio.Task[None]] = set()

    def at(self, host: str) -> FakeEngine:
        return self.by_host.setdefault(host, FakeEngine())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FakeEngines]:
        yield self

    async def list_models(self, target: AdapterTarget, *, deadline_s: float) -> tuple[ServedModel, ...]:
        engine = await self._enter(target, "list", deadline_s)
        engine.num_lists += 1
        await asyncio.sleep(engine.list_s)
        base = ServedModel(id=engine.base, root=engine.base)
        return (base, *(ServedModel(id=n, root=root, parent=engine.base) for n, root in engine.adapters.items()))

    async def load(self, target: AdapterTarget, source: AdapterSource, *, deadline_s: float) -> None:
        engine = await self._enter(target, "load", deadline_s)
        await self._until(self._load(engine, source), deadline_s)
        self.before("loaded")

    async def unload(self, target: AdapterTarget, name: str, *, deadline_s: float) -> None:
        engine = await self._enter(target, "unload", deadline_s)
        await self._until(self._unload(engine, name), deadline_s)
        self.before("unloaded")

    async def read_page(self, pod: PodFacts, api_key: str) -> EnginePage | None:
        await asyncio.sleep(0.001)
        engine = self.by_host.get(pod.addresses[0])
        return engine.page if engine is not None else None

    async def finish(self) -> None:
        """Wait for what engines still do for clients that are gone."""
        while self._working:
            await asyncio.wait(self._working)

    async def _until(self, work: Coroutine[Any, Any, None], deadline_s: float) -> None:
        """Let an engine do something to its end, whether or not the client waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        done, _ = await asyncio.wait([task], timeout=deadline_s)
        if not done:
            task.add_done_callback(lambda t: t.exception())
            raise EngineTimeout("no answer by the deadline")
        task.result()

    async def _load(self, engine: FakeEngine, source: AdapterSource) -> None:
        # As in vLLM: one request at a time about one name.
        async with engine.locks.setdefault(source.name, asyncio.Lock()):
            if source.name in engine.adapters or source.name == engine.base:
                raise AlreadyLoaded(f"The lora adapter '{source.name}' has already been loaded.", 400)
            await asyncio.sleep(engine.load_s)
            if source.name in engine.refuses:
                raise AdapterRefused(engine.refuses[source.name], 400)
            engine.num_loads += 1
            engine.adapters[source.name] = source.artifact_url.partition("://")[2] or source.artifact_url

    async def _unload(self, engine: FakeEngine, name: str) -> None:
        async with engine.locks.setdefault(name, asyncio.Lock()):
            if name not in engine.adapters:
                raise UnknownAdapter(f"The lora adapter '{name}' cannot be found.", 404)
            engine.num_unloads += 1
            del engine.adapters[name]

    async def _enter(self, target: AdapterTarget, call: str, deadline_s: float) -> FakeEngine:
        host = target.url.rpartition("//")[2].rpartition(":")[0]
        self.keys.setdefault(host, set()).add(target.api_key)
        await asyncio.sleep(0.001)
        self.before(call)
        engine = self.by_host.get(host)
        if engine is None or not engine.is_up:
            raise EngineUnreachable(f"{target.url}: connection refused")
        if engine.hangs:
            await asyncio.sleep(deadline_s)
            raise EngineUnreachable(f"{target.url}: no answer")
        if engine.wants_key not in ("", target.api_key):
            raise AdapterRefused("Unauthorized", 401)
        return engine


class AdapterApi(MemoryApi):
    """The API in memory, and what a server does for adapters: finalizers hold deletions, owners take children along."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[str, str]] = []
        """Verb and kind of each write that clients made."""
        self.before: Callable[[str], None] = lambda call: None
        self.after: Callable[[str], None] = lambda call: None
        """Called after a write took place, before it is answered."""

    def forget_writes(self) -> None:
        self.writes.clear()

    def start_deletion(self, obj: Object) -> None:
        """Delete as a client would: an object with finalizers stays, and says so."""
        found = next(o for o in self.all(type(obj)) if o.key == obj.key)
        if found.metadata.finalizers:
            self.change(found, {"metadata": {"deletionTimestamp": format_rfc3339(LoopClock().now())}})
        else:
            self._remove(found)

    def _remove(self, obj: Object) -> None:
        self.remove(obj)
        for cls in (Service, EndpointSlice):
            for child in self.all(cls):
                if any(ref.uid == obj.uid for ref in child.metadata.owner_references):
                    self.remove(child)

    async def create(self, obj: T, *, field_manager: str = "pybrix") -> T:
        created = await super().create(obj, field_manager=field_manager)
        self._wrote("create", type(obj).gvk.kind)
        return created

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        created = await super().create_raw(data)
        self._wrote("create", str(data["kind"]))
        return created

    async def patch(self, cls: type[T], key: ObjectKey, patch: Any, **options: Any) -> T:
        assert options.get("patch_type", PatchType.MERGE) is PatchType.MERGE
        patched = await super().patch(cls, key, patch, **options)
        subresource = options.get("subresource", "")
        if patched.metadata.is_terminating and not patched.metadata.finalizers:
            self._remove(patched)
        self._wrote("patch", f"{cls.gvk.kind}{'/' if subresource else ''}{subresource}")
        return patched

    async def delete(self, cls: type[T], key: ObjectKey, **options: Any) -> None:
        await super().delete(cls, key, **options)
        self._wrote("delete", cls.gvk.kind)

    async def _enter(self, call: str, cls: type[Object] | None) -> None:
        self.before(call)
        await super()._enter(call, cls)

    def _wrote(self, verb: str, kind: str) -> None:
        self.writes.append((verb, kind))
        self.after(verb)


class World:
    """A namespace with pods of one base model, their engines, and the controller over them; the test is the kubelet."""

    def __init__(self, **config: Any) -> None:
        self.api = AdapterApi()
        self.engines = FakeEngines()
        self.clock: Clock = LoopClock()
        self.config = ControllersConfiguration(**config)
        self._num_addresses = 0
        self.watcher = SliceWatcher(self)

    # The controller

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Manager]:
        """Run the controller until the block ends."""
        async with self.controller() as (manager, task):
            yield manager
            manager.stop()
            await task
        await self.engines.finish()

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[tuple[Manager, asyncio.Task[None]]]:
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            manager = self.build(http)
            task = group.create_task(manager.run())
            yield manager, task
            task.cancel()

    def build(self, http: aiohttp.ClientSession) -> Manager:
        chance = random.Random(1)
        manager = Manager(self.api, component="test", clock=self.clock, chance=chance)
        setup = Setup(manager, self.config, self.clock, chance, http)
        for controller in ModelAdapterReconciler(setup, self.engines.open, self.engines).controllers():
            manager.add(controller)
        return manager

    # Objects

    def add_pod(self, name: str, *, has_engine: bool = True, **more: Any) -> Pod:
        self._num_addresses += 1
        address = more.pop("ip", f"10.0.{self._num_addresses // 250}.{self._num_addresses % 250 + 1}")
        created = format_rfc3339(self.clock.now())
        pod = make_pod(name, ip=address, **({"created_at": created, "since": created} | more))
        put = self.api.put(pod)
        if has_engine:
            self.engines.at(address)
        return put

    def pod(self, name: str) -> Pod:
        return next(p for p in self.api.all(Pod) if p.metadata.name == name)

    def engine(self, name: str) -> FakeEngine:
        return self.engines.at(self.pod(name).status.pod_ip)

    def remove_pod(self, name: str) -> None:
        """Let a pod and its engine be gone at once."""
        pod = self.pod(name)
        self.engines.by_host.pop(pod.status.pod_ip, None)
        self.api.remove(pod)

    def terminate_pod(self, name: str) -> None:
        self.api.change(self.pod(name), {"metadata": {"deletionTimestamp": format_rfc3339(self.clock.now())}})

    def set_ready(self, name: str, is_ready: bool, *, containers: bool | None = None) -> None:
        pod = self.pod(name)
        now = format_rfc3339(self.clock.now())
        told = {"Ready": is_ready, "ContainersReady": is_ready if containers is None else containers}
        others = [c for c in pod.to_dict()["status"]["conditions"] if c["type"] not in told]
        conditions = [
            {"type": kind, "status": "True" if value else "False", "lastTransitionTime": now}
            for kind, value in told.items()
        ]
        self.api.change(pod, {"status": {"conditions": [*others, *conditions]}})

    def restart_engine(self, name: str, *, is_told: bool = True) -> None:
        """Lose what the engine had loaded; `is_told`: the container restarted and the kubelet says so."""
        self.engine(name).adapters.clear()
        if is_told:
            (status,) = self.pod(name).to_dict()["status"]["containerStatuses"]
            count = status["restartCount"] + 1
            changed = status | {"restartCount": count, "containerID": f"c://{name}/{count}"}
            self.api.change(self.pod(name), {"status": {"containerStatuses": [changed]}})

    def add_adapter(self, name: str = "sql", **spec: Any) -> ModelAdapter:
        return self.api.put(make_adapter(name, **spec))

    def adapter(self, name: str = "sql") -> ModelAdapter:
        return next(a for a in self.api.all(ModelAdapter) if a.metadata.name == name)

    def edit(self, name: str = "sql", **spec: Any) -> None:
        self.api.change(self.adapter(name), {"spec": spec})

    def delete_adapter(self, name: str = "sql") -> None:
        self.api.start_deletion(self.adapter(name))

    # What came of it

    def loaded(self, name: str = "sql") -> list[str]:
        """Return the pods whose engines have an adapter."""
        return sorted(
            p.metadata.name
            for p in self.api.all(Pod)
            if (engine := self.engines.by_host.get(p.status.pod_ip)) is not None and name in engine.adapters
        )

    def slices(self, name: str = "sql") -> list[EndpointSlice]:
        found = [s for s in self.api.all(EndpointSlice) if s.metadata.labels.get("kubernetes.io/service-name") == name]
        return sorted(found, key=lambda s: s.metadata.name)

    def endpoints(self, name: str = "sql") -> dict[str, str]:
        """Return pod names and how they are listed: ready, or terminating."""
        return {
            endpoint.target_ref.name: "ready" if endpoint.conditions.ready else "terminating"
            for piece in self.slices(name)
            for endpoint in piece.endpoints
            if endpoint.target_ref is not None
        }

    def ready(self, name: str = "sql") -> list[str]:
        return sorted(pod for pod, how in self.endpoints(name).items() if how == "ready")

    def phase(self, name: str = "sql") -> str:
        return self.adapter(name).status.phase

    def condition(self, kind: str, name: str = "sql") -> tuple[str, str]:
        found = find_condition(self.adapter(name).status.conditions, kind)
        return (found.status, found.reason) if found is not None else ("", "")

    def states(self, name: str = "sql") -> dict[str, str]:
        return {record.name: record.state for record in self.adapter(name).status.pods}

    def events(self) -> list[tuple[str, str]]:
        return [(event.type, event.reason) for event in self.api.all(Event)]


class SliceWatcher:
    """An independent witness: after every change, what slices list against the pods that exist."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._has_served: set[str] = set()
        self.wrong: list[str] = []

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[SliceWatcher]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._watch())
            yield self
            task.cancel()

    async def _watch(self) -> None:
        listed = await self._world.api.list(EndpointSlice)
        async for event in self._world.api.watch(EndpointSlice, resource_version=listed.resource_version):
            if event.type is not EventType.BOOKMARK:
                self.look()

    def look(self) -> None:
        pods = {pod.uid: pod for pod in self._world.api.all(Pod)}
        for piece in self._world.api.all(EndpointSlice):
            name = piece.metadata.labels.get("kubernetes.io/service-name", "")
            for endpoint in piece.endpoints:
                uid = Uid(endpoint.target_ref.uid) if endpoint.target_ref is not None else Uid("")
                if uid not in pods:
                    self.wrong.append(f"{piece.metadata.name} lists {endpoint.addresses} of a pod that is gone")
                elif endpoint.conditions.ready and pods[uid].metadata.is_terminating:
                    self.wrong.append(f"{piece.metadata.name} lists {pods[uid].metadata.name} as ready on its way out")
        for name in self._names():
            if self._world.endpoints(name):
                self._has_served.add(name)
            elif name in self._has_served:
                self.wrong.append(f"{name} has no endpoint")

    def _names(self) -> Iterator[str]:
        for adapter in self._world.api.all(ModelAdapter):
            if not adapter.metadata.is_terminating:
                yield adapter.metadata.name


def world_of(*pods: str, **spec: Any) -> World:
    """Return a world with these pods and one adapter."""
    world = World()
    for pod in pods:
        world.add_pod(pod)
    world.add_adapter(**spec)
    return world
