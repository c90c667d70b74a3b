"""A whole embedded cluster in this process: API server, workload controllers, node agent, and kubectl for it."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from pybrix.api.core import Event
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object
from pybrix.base.clock import SystemClock
from pybrix.cluster.app import ClusterOptions, run_cluster
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import NotFound
from pybrix.kube.kubeconfig import load_kubeconfig
from tests.support.apiserver import Ran, run_kubectl
from tests.support.waiting import until

T = TypeVar("T", bound=Object)
WAIT_S = 60.0


class WholeCluster:
    """What a user of a cluster does: kubectl, and reads of typed objects."""

    def __init__(self, kubeconfig: Path, directory: Path, client: HttpClient) -> None:
        self.kubeconfig = kubeconfig
        self.directory = directory
        self.client = client

    async def try_kubectl(self, *args: str, stdin: str = "") -> Ran:
        return await run_kubectl(self.kubeconfig, *args, stdin=stdin)

    async def kubectl(self, *args: str, stdin: str = "") -> str:
        """Run kubectl, which succeeds, and return what it printed."""
        ran = await self.try_kubectl(*args, stdin=stdin)
        assert ran.code == 0, ran.err
        return ran.out

    async def apply(self, *manifests: dict[str, Any]) -> None:
        await self.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(m) for m in manifests))

    async def find(self, cls: type[T], name: str, namespace: str = "default") -> T | None:
        try:
            return await self.client.get(cls, ObjectKey(namespace if cls.gvk.is_namespaced else "", name))
        except NotFound:
            return None

    async def until(self, cls: type[T], name: str, is_so: Callable[[T], bool]) -> T:
        """Wait until an object is as it should be and return it."""
        found: list[T] = []

        async def check() -> bool:
            obj = await self.find(cls, name)
            if obj is None or not is_so(obj):
                return False
            found.append(obj)
            return True

        await until(check, WAIT_S)
        return found[0]

    async def until_log(self, pod: str, text: str, *args: str) -> str:
        """Wait until a pod's log has a text and return the log."""
        logs: list[str] = []

        async def check() -> bool:
            ran = await self.try_kubectl("logs", pod, *args)
            logs.append(ran.out)
            return text in ran.out

        await until(check, WAIT_S)
        return logs[-1]

    async def until_event(self, name: str, reason: str, text: str = "") -> Event:
        """Wait for an Event about an object of a name and return it."""
        found: list[Event] = []

        async def check() -> bool:
            events = (await self.client.list(Event, "default")).items
            found.extend(
                e for e in events if e.involved_object.name == name and e.reason == reason and text in e.message
            )
            return bool(found)

        await until(check, WAIT_S)
        return found[0]

    async def eventually(self, check: Callable[[], Awaitable[bool]]) -> None:
        await until(check, WAIT_S)


def choose_network(directory: Path) -> None:
    """Have a new cluster take a network that tests that make up addresses of pods do not use."""
    remembered = directory / "pod-network"
    if not remembered.exists():
        directory.mkdir(parents=True, exist_ok=True)
        remembered.write_text(f"127.{random.randrange(80, 128)}.0.0/16\n")


@asynccontextmanager
async def whole_cluster(directory: Path, **options: Any) -> AsyncIterator[WholeCluster]:
    """Run a cluster; at the end its pods are stopped in order."""
    kubeconfig = directory / "kubeconfig"
    choose_network(directory / "cluster")
    # It is written anew when the API answers.
    kubeconfig.unlink(missing_ok=True)
    stop = asyncio.Event()
    settings = ClusterOptions(directory / "cluster", kubeconfig, pod_stop_grace_s=5.0, **options)
    running = asyncio.create_task(run_cluster(settings, stop=stop, clock=SystemClock(), environ=dict(os.environ)))

    async def is_answering() -> bool:
        assert not running.done(), running.exception()
        return kubeconfig.exists()

    try:
        await until(is_answering, WAIT_S)
        async with HttpClient(load_kubeconfig(kubeconfig)) as client:
            yield WholeCluster(kubeconfig, settings.directory, client)
    finally:
        stop.set()
        await running
