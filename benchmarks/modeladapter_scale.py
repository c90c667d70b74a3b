"""Adapters at scale: the ModelAdapter controller against the embedded API server, with engines simulated in process.

    python benchmarks/modeladapter_scale.py                        # 1,000 adapters over 200 pods
    python benchmarks/modeladapter_scale.py --adapters 100 --pods 50

Three measurements: everything from nothing until every adapter is Ready; a while in which nothing may be written; one
pod replaced by another. The floor is what the same client needs for the same number of writes, one object after the
other in as many tasks as the controller has workers.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import structlog

from pybrix.api.config import ControllersConfiguration
from pybrix.api.core import ConfigMap, EndpointSlice, Pod
from pybrix.api.crds import render_crds
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object, ObjectMeta
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.base.clock import SystemClock, format_rfc3339
from pybrix.controllers.modeladapter.controller import NAME, ModelAdapterReconciler
from pybrix.controllers.modeladapter.state import ADAPTER_NAME
from pybrix.controllers.registration import Setup
from pybrix.engine.adapters import AdapterSource, AdapterTarget, AlreadyLoaded, ServedModel, UnknownAdapter
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import KubeError
from pybrix.kube.informer import Informer
from pybrix.kube.interface import PatchType
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.runtime.manager import Manager
from tests.support.apiserver import running_api_server

T = TypeVar("T", bound=Object)

NAMESPACE = "default"
WRITES_GOAL = 6.0
REPLACEMENT_GOAL_S = 2.0
LOAD_S = 0.05
QUIET_S = 25.0
"""More than two intervals of everything that happens now and then."""


class CountingClient(HttpClient):
    """Counts calls by verb and kind."""

    def count(self, verb: str, cls: type[Object], subresource: str = "") -> None:
        self.calls[f"{verb} {cls.gvk.kind}{'/' if subresource else ''}{subresource}"] += 1

    calls: Counter[str] = Counter()

    async def get(self, cls: type[T], key: ObjectKey) -> T:
        self.count("get", cls)
        return await super().get(cls, key)

    async def create(self, obj: T, *, field_manager: str = "pybrix") -> T:
        self.count("create", type(obj))
        return await super().create(obj, field_manager=field_manager)

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        self.calls[f"create {data['kind']}"] += 1
        return await super().create_raw(data)

    async def patch(
        self,
        cls: type[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Any],
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        resource_version: str = "",
        field_manager: str = "pybrix",
        force: bool = False,
    ) -> T:
        self.count("patch", cls, subresource)
        return await super().patch(
            cls,
            key,
            patch,
            patch_type=patch_type,
            subresource=subresource,
            resource_version=resource_version,
            field_manager=field_manager,
            force=force,
        )

    async def delete(self, cls: type[T], key: ObjectKey, **options: Any) -> None:
        self.count("delete", cls)
        await super().delete(cls, key, **options)

    @property
    def num_writes(self) -> int:
        return sum(number for name, number in self.calls.items() if not name.startswith("get "))


class SimulatedEngines:
    """Engines by host: what each has loaded."""

    def __init__(self) -> None:
        self.loaded: dict[str, dict[str, str]] = {}
        self.num_loads = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SimulatedEngines]:
        yield self

    async def list_models(self, target: AdapterTarget, *, deadline_s: float) -> tuple[ServedModel, ...]:
        await asyncio.sleep(0.001)
        adapters = self.loaded.setdefault(target.url, {})
        return (ServedModel(id="base"), *(ServedModel(id=n, root=r, parent="base") for n, r in adapters.items()))

    async def load(self, target: AdapterTarget, source: AdapterSource, *, deadline_s: float) -> None:
        await asyncio.sleep(LOAD_S)
        adapters = self.loaded.setdefault(target.url, {})
        if source.name in adapters:
            raise AlreadyLoaded("already loaded", 400)
        self.num_loads += 1
        adapters[source.name] = source.artifact_url.partition("://")[2]

    async def unload(self, target: AdapterTarget, name: str, *, deadline_s: float) -> None:
        await asyncio.sleep(0.001)
        if self.loaded.setdefault(target.url, {}).pop(name, None) is None:
            raise UnknownAdapter("not loaded", 404)


def make_pod(number: int, groups: int) -> Pod:
    group = number % groups
    return Pod.from_dict(
        {
            "metadata": {
                "name": f"engine-{number:04d}",
                "namespace": NAMESPACE,
                "labels": {"app": f"base-{group}", "model.aibrix.ai/name": f"base-{group}"},
            },
            "spec": {"containers": [{"name": "vllm", "image": "vllm/vllm-openai"}]},
        }
    )


def pod_status(number: int) -> dict[str, Any]:
    now = format_rfc3339(SystemClock().now())
    ip = f"10.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}"
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    return {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}


def make_adapter(number: int, groups: int, replicas: int) -> ModelAdapter:
    group = number % groups
    spec: dict[str, Any] = {
        "baseModel": f"base-{group}",
        "podSelector": {"matchLabels": {"app": f"base-{group}"}},
        "artifactURL": f"huggingface://org/adapter-{number}",
    }
    if replicas:
        spec["replicas"] = replicas
    return ModelAdapter.from_dict({"metadata": {"name": f"adapter-{number}", "namespace": NAMESPACE}, "spec": spec})


async def add_pod(client: HttpClient, number: int, groups: int) -> None:
    pod = await client.create(make_pod(number, groups))
    await client.patch(Pod, pod.key, {"status": pod_status(number)}, subresource="status")


async def in_parallel(work: Sequence[Any], width: int = 16) -> None:
    waiting = list(reversed(work))

    async def worker() -> None:
        while waiting:
            await waiting.pop()

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(worker())


async def until(check: Callable[[], bool], timeout_s: float) -> float:
    """Return the seconds until `check` says yes."""
    started_s = time.perf_counter()
    while not check():
        if time.perf_counter() - started_s > timeout_s:
            raise SystemExit(f"not done after {timeout_s} s")
        await asyncio.sleep(0.02)
    return time.perf_counter() - started_s


class Witness:
    """What is written, seen through informers of its own."""

    def __init__(self, client: HttpClient) -> None:
        self.adapters = Informer(client, ModelAdapter)
        self.slices = Informer(client, EndpointSlice, label_selector=ADAPTER_NAME)

    def all_ready(self, num_adapters: int, num_each: int) -> bool:
        adapters = self.adapters.list()
        return len(adapters) == num_adapters and all(
            a.status.phase == "Running" and a.status.ready_replicas == num_each for a in adapters
        )

    def listing(self, uid: str) -> set[str]:
        """Return the adapters whose slices list a pod."""
        return {
            piece.metadata.labels[ADAPTER_NAME]
            for piece in self.slices.list()
            if any(e.target_ref is not None and e.target_ref.uid == uid for e in piece.endpoints)
        }


async def measure(options: argparse.Namespace, kubeconfig: Path) -> bool:
    """Run the three measurements; return whether all goals are reached."""
    access = load_kubeconfig(kubeconfig)
    client, aside = CountingClient(access), HttpClient(access)
    engines = SimulatedEngines()
    clock, chance = SystemClock(), random.Random(1)
    per_group = options.pods // options.groups
    num_each = options.replicas or per_group
    async with client, aside, aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        for definition in render_crds(["ModelAdapter"]):
            await aside.create_raw(definition)
        witness = Witness(aside)
        for number in range(100):
            with suppress(KubeError):
                await aside.list(ModelAdapter)
                break
            await asyncio.sleep(0.02 * (number + 1))
        watching = [group.create_task(i.run()) for i in (witness.adapters, witness.slices)]
        await in_parallel([add_pod(aside, n, options.groups) for n in range(options.pods)])
        manager = Manager(client, component="benchmark", clock=clock, chance=chance)
        config = ControllersConfiguration(default_concurrency=options.workers)
        reconciler = ModelAdapterReconciler(Setup(manager, config, clock, chance, http), engines.open)
        for controller in reconciler.controllers():
            manager.add(controller)
        running = group.create_task(manager.run())
        await until(lambda: manager.is_ready, 60)
        cpu_s, started_s = time.process_time(), time.perf_counter()
        await in_parallel(
            [aside.create(make_adapter(n, options.groups, options.replicas)) for n in range(options.adapters)]
        )
        created_s = time.perf_counter() - started_s
        await until(lambda: witness.all_ready(options.adapters, num_each), 1800)
        ready_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        first = Counter(client.calls)
        writes_each = client.num_writes / options.adapters
        memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        # What is still to be counted settles first.
        await asyncio.sleep(12)
        client.calls.clear()
        cpu_before_s = time.process_time()
        await asyncio.sleep(QUIET_S)
        quiet_writes, quiet_cpu = client.num_writes, (time.process_time() - cpu_before_s) / QUIET_S
        replaced = await replace_one(options, aside, client, witness)
        floor_s = await floor(aside, sum(v for k, v in first.items() if not k.startswith("get ")), options.workers)
        manager.stop()
        await running
        for task in watching:
            task.cancel()
    lost, touched, moved_s, moved_writes, others = replaced
    print(f"\n{options.adapters} adapters, {options.pods} pods in {options.groups} groups, {num_each} pods each")
    print(f"  created                     {created_s:8.1f} s")
    print(f"  all Ready                   {ready_s:8.1f} s   {ready_s / floor_s:.1f} x the floor of {floor_s:.1f} s")
    print(f"  loads                       {engines.num_loads:8d}")
    print(f"  API writes per adapter      {writes_each:8.2f}     goal {WRITES_GOAL:.0f}")
    for name, number in sorted(first.items()):
        print(f"    {name:26s}{number / options.adapters:8.2f}")
    print(f"  processor time per adapter  {cpu_s / options.adapters * 1000:8.1f} ms  (controller, engines and witness)")
    print(f"  memory at most              {memory_mib:8.0f} MiB (the same)")
    print(f"  writes in {QUIET_S:.0f} quiet seconds {quiet_writes:8d}     goal 0; {quiet_cpu:.1%} of a processor")
    print(f"  one pod replaced            {moved_s:8.2f} s   goal {REPLACEMENT_GOAL_S:.0f} s; {lost} adapters had it")
    print(f"    writes                    {moved_writes:8d}     {touched} adapters touched, {others} without need")
    return writes_each <= WRITES_GOAL and quiet_writes == 0 and moved_s <= REPLACEMENT_GOAL_S and others == 0


async def replace_one(
    options: argparse.Namespace, aside: HttpClient, client: CountingClient, witness: Witness
) -> tuple[int, int, float, int, int]:
    """Delete a pod, make another, and wait until its adapters are as many as before, without the old one."""
    per_group = options.pods // options.groups
    num_each = options.replicas or per_group
    doomed = await aside.get(Pod, ObjectKey(NAMESPACE, "engine-0000"))
    concerned = witness.listing(doomed.uid)
    versions = {a.metadata.name: a.metadata.resource_version for a in witness.adapters.list()}
    client.calls.clear()
    started_s = time.perf_counter()
    await aside.delete(Pod, doomed.key, grace_period_seconds=0)
    await add_pod(aside, options.pods + options.groups - options.pods % options.groups, options.groups)

    def is_done() -> bool:
        if witness.listing(doomed.uid):
            return False
        return all(
            (a := witness.adapters.get(ObjectKey(NAMESPACE, name))) is not None and a.status.ready_replicas == num_each
            for name in concerned
        )

    await until(is_done, 120)
    moved_s = time.perf_counter() - started_s
    await asyncio.sleep(15)
    changed = {
        a.metadata.name for a in witness.adapters.list() if versions[a.metadata.name] != a.metadata.resource_version
    }
    return len(concerned), len(changed), moved_s, client.num_writes, len(changed - concerned)


async def floor(client: HttpClient, num_writes: int, width: int) -> float:
    """Return the seconds that as many writes of small objects take."""
    await client.create(ConfigMap(metadata=ObjectMeta(name="floor", namespace=NAMESPACE)))
    key = ObjectKey(NAMESPACE, "floor")
    sample = min(num_writes, 2000)
    started_s = time.perf_counter()
    await in_parallel([client.patch(ConfigMap, key, {"data": {"n": str(n)}}) for n in range(sample)], width)
    return (time.perf_counter() - started_s) * num_writes / sample


async def serve(directory: Path) -> None:
    """Run an API server until standard input ends."""
    async with running_api_server(directory):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def main(options: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        server = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            "--serve",
            directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        )
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            await server.stdout.readline()
            return await measure(options, Path(directory) / "kubeconfig")
        finally:
            server.stdin.close()
            await server.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--groups", type=int, default=1, help="base models; adapters and pods are dealt out to them")
    parser.add_argument("--replicas", type=int, default=2, help="pods of each adapter; 0 for all of its base model")
    parser.add_argument("--workers", type=int, default=8, help=f"concurrency of the {NAME} controller")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if arguments.serve is not None:
        asyncio.run(serve(arguments.serve))
        sys.exit(0)
    sys.exit(0 if asyncio.run(main(arguments)) else 1)
