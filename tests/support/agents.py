"""Node agents on an API in memory, with real processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

from pybrix.api.core import Event, Pod
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import SystemClock, format_rfc3339
from pybrix.cluster.network import claim_pod_network
from pybrix.cluster.nodeagent.agent import NodeAgent
from pybrix.cluster.nodes import has_live_pods
from pybrix.kube.interface import Client
from tests.support.memoryapi import MemoryApi
from tests.support.waiting import until_now

NODE = "node-1"


@contextmanager
def claimed_network(directory: Path) -> Iterator[str]:
    """Hold a pod network, as a cluster does: others may run on this machine meanwhile."""
    directory.mkdir(parents=True, exist_ok=True)
    network = claim_pod_network(directory / "pod-network", lambda: has_live_pods(directory))
    try:
        yield str(network.cidr)
    finally:
        network.close()


class Cluster:
    """An API and the data directory of one node; agents come and go."""

    def __init__(self, directory: Path, pod_cidr: str) -> None:
        self.api = MemoryApi()
        self.directory = directory
        self.pod_cidr = pod_cidr

    def agent(self, client: Client | None = None) -> NodeAgent:
        return NodeAgent(
            client or self.api,
            node_name=NODE,
            data_dir=self.directory,
            clock=SystemClock(),
            environ=dict(os.environ),
            pod_cidr=self.pod_cidr,
        )

    @asynccontextmanager
    async def running_agent(self, *, is_stopping: bool = False) -> AsyncIterator[NodeAgent]:
        """Run an agent; at the end it vanishes as if killed, or stops its pods first."""
        agent = self.agent()
        task = asyncio.get_running_loop().create_task(agent.run())
        try:
            async with asyncio.timeout(60):
                await agent.wait_started()
            yield agent
            if is_stopping:
                await agent.stop_all(5.0)
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def get(self, name: str, namespace: str = "default") -> Pod | None:
        return next((p for p in self.api.all(Pod) if p.key == ObjectKey(namespace, name)), None)

    async def wait(self, name: str, is_so: Callable[[Pod], bool], namespace: str = "default") -> Pod:
        """Wait until a pod is as it should be and return it."""

        def check() -> bool:
            pod = self.get(name, namespace)
            return pod is not None and is_so(pod)

        await until_now(check)
        pod = self.get(name, namespace)
        assert pod is not None
        return pod

    async def wait_gone(self, pod: Pod) -> None:
        await until_now(lambda: all(p.uid != pod.uid for p in self.api.all(Pod)))

    def delete(self, pod: Pod, grace_s: int = 30) -> None:
        """Ask for a graceful deletion, as an API server does."""
        stamp = format_rfc3339(SystemClock().now() + timedelta(seconds=grace_s))
        self.api.change(pod, {"metadata": {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": grace_s}})

    def events(self, pod: Pod) -> list[tuple[str, str]]:
        return [(e.reason, e.message) for e in self.api.all(Event) if e.involved_object.uid == pod.uid]

    def log(self, pod: Pod, container: str = "main", restart: int = 0) -> str:
        path = self.directory / "pods" / pod.uid / container / f"{restart}.log"
        return path.read_text() if path.exists() else ""
