"""The node agents of a cluster, one a node, and what is left of nodes that there are no more."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import structlog

from pybrix.api.core import Node, Pod
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.cluster.nodeagent.agent import NodeAgent
from pybrix.cluster.nodeagent.execs import RunningCommand
from pybrix.cluster.nodeagent.runner import Runner
from pybrix.cluster.nodes import VirtualNode, node_directory, pod_directories
from pybrix.kube.errors import NotFound
from pybrix.kube.interface import Client

_log = structlog.get_logger()

_NODE_PREFIX_LENGTH = 20
"""Each node but the first has one of the sixteen parts of the pods' network; the first has the rest."""
_FORGET_GRACE_S = 5.0


class NodeAgents:
    """All agents of one cluster. `make` builds one from its node, its directory and its addresses."""

    def __init__(
        self,
        nodes: Sequence[VirtualNode],
        directory: Path,
        network: IPv4Network,
        make: Callable[[VirtualNode, Path, str, tuple[str, ...]], NodeAgent],
    ) -> None:
        self._nodes = nodes
        self._directory = directory
        parts = list(network.subnets(new_prefix=_NODE_PREFIX_LENGTH))
        # From the top, so that a first node that was alone before keeps its addresses.
        own = [str(parts[-1 - index]) for index in range(len(nodes) - 1)]
        self._agents = [
            make(
                node,
                node_directory(directory, node, nodes[0]),
                str(network) if index == 0 else own[index - 1],
                tuple(own) if index == 0 else (),
            )
            for index, node in enumerate(nodes)
        ]

    async def run(self) -> None:
        """Run all until cancelled; the pods' processes go on."""
        async with asyncio.TaskGroup() as group:
            for agent in self._agents:
                group.create_task(agent.run(), name=f"node-agent-{agent.node_name}")

    async def stop_all(self, grace_s: float) -> None:
        """End the processes of all pods of all nodes, their objects untouched."""
        async with asyncio.TaskGroup() as group:
            for agent in self._agents:
                group.create_task(agent.stop_all(grace_s))

    async def forget_others(self, client: Client, clock: Clock) -> None:
        """Remove nodes of earlier runs that are not wanted any more: their processes, their pods, their objects."""
        wanted = {node.name for node in self._nodes}
        kept = {node_directory(self._directory, node, self._nodes[0]) / "pods" for node in self._nodes}
        for pods in pod_directories(self._directory):
            if pods not in kept and pods.is_dir():
                _log.info("ending what runs on a node that there is no more", node=pods.parent.name)
                await Runner(pods, clock).end_all(_FORGET_GRACE_S)
                await asyncio.to_thread(shutil.rmtree, pods.parent, ignore_errors=True)
        for node in (await client.list(Node)).items:
            is_ours = node.status.node_info.get("containerRuntimeVersion", "").startswith("pybrix://")
            if not is_ours or node.metadata.name in wanted:
                continue
            _log.info("removing a node that there is no more", node=node.metadata.name)
            pods_there = await client.list(Pod, field_selector=f"spec.nodeName={node.metadata.name}")
            for pod in pods_there.items:
                await _gone(client, Pod, pod.key)
            await _gone(client, Node, node.key)

    async def read(self, namespace: str, name: str, container: str, **options: Any) -> AsyncIterator[bytes]:
        """Yield a container's log from the node that has the pod: the API server's `LogProvider`.

        Raises:
            NotFound: no node has such a pod.
            BadRequest: see `NodeLogs.read`.
        """
        agent = self._agent_of(ObjectKey(namespace, name))
        async for chunk in agent.logs.read(namespace, name, container, **options):
            yield chunk

    def require_running(self, namespace: str, name: str, container: str) -> None:
        """Check that a container can take commands.

        Raises:
            NotFound: no node has such a pod.
            BadRequest: the container does not run.
        """
        key = ObjectKey(namespace, name)
        self._agent_of(key).require_running(key, container)

    async def execute(
        self, namespace: str, name: str, container: str, command: Sequence[str], *, has_input: bool, has_terminal: bool
    ) -> RunningCommand:
        """Run a command in a container on the node that has the pod: the API server's `ExecProvider`.

        Raises:
            NotFound: no node has such a pod.
            BadRequest: the container does not run.
        """
        key = ObjectKey(namespace, name)
        return await self._agent_of(key).execute(
            key, container, command, has_input=has_input, has_terminal=has_terminal
        )

    def _agent_of(self, key: ObjectKey) -> NodeAgent:
        return next((agent for agent in self._agents if agent.has_pod(key)), self._agents[0])


async def _gone(client: Client, cls: type[Node] | type[Pod], key: ObjectKey) -> None:
    try:
        await client.delete(cls, key, grace_period_seconds=0 if cls is Pod else None)
    except NotFound:
        return
