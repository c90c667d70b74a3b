"""What the controllers of fleets cost: fleets of Ray clusters rolled out and updated on the embedded API server.

    python benchmarks/fleets.py [--fleets 200] [--clusters 3] [--rest 30]

KubeRay is played by this program: it makes a cluster ready as soon as it exists, and takes deleted ones away. Printed
are writes and passes of the controllers, time, and memory, and what they do when nothing changes; the floor is what no
controller can do without: one write for each cluster and each revision, and one status for each fleet and each
revision.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import resource
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import aiohttp
import structlog
from prometheus_client import REGISTRY

from pybrix.api import names
from pybrix.api.config import ControllersConfiguration
from pybrix.api.identity import ObjectKey
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.ray import HEAD_READY, PROVISIONED, RayCluster
from pybrix.base.clock import SystemClock, format_rfc3339
from pybrix.controllers.rayclusterfleet.controller import RAYCLUSTERFLEET
from pybrix.controllers.rayclusterfleet.plan import is_complete
from pybrix.controllers.rayclusterreplicaset.controller import RAYCLUSTERREPLICASET
from pybrix.controllers.registration import Setup
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import KubeError
from pybrix.kube.informer import Informer
from pybrix.kube.interface import EventType
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.definitions import apply_definitions
from pybrix.runtime.manager import Manager

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.apiserver import running_api_server
from tests.support.fleets import make_fleet


class CountingClient(HttpClient):
    """Counts what it writes, by verb and kind."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.writes: dict[str, int] = {}

    def _count(self, verb: str, kind: str) -> None:
        self.writes[f"{verb} {kind}"] = self.writes.get(f"{verb} {kind}", 0) + 1

    async def create_raw(self, data: Any) -> dict[str, Any]:
        self._count("create", str(data["kind"]))
        return await super().create_raw(data)

    async def create(self, obj: Any, **options: Any) -> Any:
        self._count("create", obj.kind)
        return await super().create(obj, **options)

    async def patch(self, cls: Any, key: ObjectKey, patch: Any, **options: Any) -> Any:
        part = options.get("subresource") or ""
        self._count("patch", f"{cls.gvk.kind}/{part}" if part else cls.gvk.kind)
        return await super().patch(cls, key, patch, **options)

    async def delete(self, cls: Any, key: ObjectKey, **options: Any) -> None:
        self._count("delete", cls.gvk.kind)
        await super().delete(cls, key, **options)


async def play_kuberay(client: HttpClient, clusters: Informer[RayCluster]) -> None:
    """Make every new cluster ready, and let deleted ones go."""
    waiting: asyncio.Queue[RayCluster] = asyncio.Queue()

    def hear(event: EventType, _old: RayCluster | None, new: RayCluster | None) -> None:
        if new is not None and (new.metadata.is_terminating or not new.status.conditions):
            waiting.put_nowait(new)

    clusters.add_handler(hear)
    while True:
        cluster = await waiting.get()
        try:
            if cluster.metadata.is_terminating:
                await client.patch(RayCluster, cluster.key, {"metadata": {"finalizers": None}})
            else:
                await client.patch(RayCluster, cluster.key, {"status": ready()}, subresource="status")
        except KubeError:
            # It is gone already.
            continue


def ready() -> dict[str, Any]:
    now = format_rfc3339(SystemClock().now())
    conditions = [
        {"type": t, "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": now}
        for t in (PROVISIONED, HEAD_READY)
    ]
    return {"state": "ready", "desiredWorkerReplicas": 1, "readyWorkerReplicas": 1, "conditions": conditions}


def passes() -> dict[str, float]:
    """Return the passes so far, by controller and cause."""
    found: dict[str, float] = {}
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            if sample.name == "pybrix_reconcile_total":
                name = f"{sample.labels['controller']} by {sample.labels['cause']}"
                found[name] = found.get(name, 0) + sample.value
    return found


def manifest(number: int, clusters: int, image: str) -> dict[str, Any]:
    found = make_fleet(clusters, name=f"fleet-{number}", image=image).to_dict()
    own = {"app": f"fleet-{number}"}
    found["metadata"] = {"name": f"fleet-{number}", "namespace": "default"}
    found.pop("status", None)
    found["spec"]["selector"] = {"matchLabels": own}
    found["spec"]["template"]["metadata"]["labels"] = own
    found["spec"]["template"]["spec"]["headGroupSpec"]["template"]["metadata"]["labels"] |= {names.MODEL_NAME: "m"}
    return found


async def settled(client: HttpClient, count: int) -> None:
    while True:
        fleets = (await client.list(RayClusterFleet, "default")).items
        if len(fleets) == count and all(map(is_complete, fleets)):
            return
        await asyncio.sleep(0.5)


async def measure(num_fleets: int, num_clusters: int, rest_s: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with running_api_server(Path(directory)) as api, aiohttp.ClientSession() as http:
            access = load_kubeconfig(api.kubeconfig)
            async with HttpClient(access) as user, CountingClient(access) as client:
                await apply_definitions(user)
                clock, chance = SystemClock(), random.Random(1)
                manager = Manager(client, component="bench", clock=clock, chance=chance)
                setup = Setup(manager, ControllersConfiguration(), clock, chance, http)
                for registration in (RAYCLUSTERREPLICASET, RAYCLUSTERFLEET):
                    for controller in registration.build(setup):
                        manager.add(controller)
                async with asyncio.TaskGroup() as group:
                    running = group.create_task(manager.run())
                    kuberay = group.create_task(play_kuberay(user, manager.informer(RayCluster)))
                    for phase, image in (("rolled out", "v1"), ("updated", "v2")):
                        client.writes.clear()
                        before, began_s, cpu_s = passes(), perf_counter(), process_time()
                        for number in range(num_fleets):
                            document = manifest(number, num_clusters, image)
                            if phase == "rolled out":
                                await user.create_raw(document)
                            else:
                                key = ObjectKey("default", f"fleet-{number}")
                                template = {"spec": {"template": document["spec"]["template"]}}
                                await user.patch(RayClusterFleet, key, template)
                        await settled(user, num_fleets)
                        times = perf_counter() - began_s, process_time() - cpu_s
                        show(phase, num_fleets, num_clusters, client.writes, before, times)
                    client.writes.clear()
                    before = passes()
                    await asyncio.sleep(rest_s)
                    made = sum(passes().values()) - sum(before.values())
                    print(f"\nat rest for {rest_s:.0f} s: {sum(client.writes.values())} writes, {made:.0f} passes")
                    manager.stop()
                    await running
                    kuberay.cancel()


def show(
    phase: str,
    fleets: int,
    clusters: int,
    writes: dict[str, int],
    before: dict[str, float],
    times: tuple[float, float],
) -> None:
    (elapsed_s, cpu_s), total = times, fleets * clusters
    own = sum(count for what, count in writes.items() if "Event" not in what)
    events = sum(writes.values()) - own
    # Each cluster is made (in an update an old one is deleted, too), each revision is made; fleets and revisions tell
    # the end once.
    floor = total * (1 if phase == "rolled out" else 2) + fleets + 2 * fleets
    made = {name: count - before.get(name, 0) for name, count in passes().items()}
    num_passes = sum(made.values())
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{fleets} fleets x {clusters} clusters {phase}")
    rate = f"{total / elapsed_s:.0f} clusters/s, {cpu_s:.1f} s of CPU, API server included"
    print(f"  time              {elapsed_s:8.1f} s   ({rate})")
    print(f"  writes            {own:8d}     {own / total:.2f} per cluster, {own / floor:.2f} x the floor of {floor}")
    print(f"  Events            {events:8d}     {events / total:.2f} per cluster")
    share = num_passes / (total + 2 * fleets)
    print(f"  passes            {num_passes:8.0f}     {share:.2f} per object (fleets, sets, clusters)")
    for name, count in sorted(made.items()):
        if count:
            print(f"    {name:42s}{count:8.0f}")
    print(f"  memory, peak      {memory_mb:8.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fleets", type=int, default=200)
    parser.add_argument("--clusters", type=int, default=3)
    parser.add_argument("--rest", type=float, default=30.0, metavar="SECONDS", help="how long to watch them at rest")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(measure(options.fleets, options.clusters, options.rest))


if __name__ == "__main__":
    main()
