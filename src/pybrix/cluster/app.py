"""The embedded cluster put together: store, API server, workload controllers and node agents in one process.

Start: store; API server; kubeconfig (its appearance means that the API answers); controllers and agent.
Stop: controllers first, so that nothing replaces the pods that then end; node agents; forwarder; API server; store. A
process that is killed leaves its pods running, and the next one finds them.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.base.ports import claim_port
from pybrix.cluster.agents import NodeAgents
from pybrix.cluster.apiserver.kinds.addresses import kubernetes_address
from pybrix.cluster.apiserver.server import ApiServer
from pybrix.cluster.kubeconfig import write_kubeconfig
from pybrix.cluster.network import PodNetwork, claim_pod_network
from pybrix.cluster.nodeagent.agent import NodeAgent
from pybrix.cluster.nodes import VirtualNode, has_live_pods, parse_nodes, remembered_nodes
from pybrix.cluster.pki import Pki
from pybrix.cluster.remembered import remembered_choice
from pybrix.cluster.serviceproxy.controller import ServiceProxyReconciler
from pybrix.cluster.serviceproxy.process import ForwarderProcess
from pybrix.cluster.store.store import Store
from pybrix.cluster.workloads.registry import run_workloads
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import ClusterAccess
from pybrix.runtime.manager import Manager

GC_THRESHOLD = 50_000
ADDRESS = "127.0.0.1"
"""The API server listens on loopback only."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How an embedded cluster is set up.

    `api_port` 0 takes the port of the last run, or a free one. `pod_stop_grace_s` bounds the pods' own grace periods at
    an orderly stop. With the `authorization` "rbac", roles and bindings decide what holders of service accounts' tokens
    may do; with "none" they may do everything. With the `durability` "power", a write is acknowledged when the disk has
    it; with "process" it survives a kill. Nodes, authorization and durability are those of the last run where None.
    """

    directory: Path
    kubeconfig: Path
    api_port: int = 0
    node_name: str = "local"
    nodes: str | None = None
    pod_stop_grace_s: float = 30.0
    authorization: str | None = None
    durability: str | None = None


async def run_cluster(
    options: ClusterOptions, *, stop: asyncio.Event, clock: Clock, environ: Mapping[str, str]
) -> None:
    """Run until `stop` is set, then end the pods and everything else in order.

    Args:
        environ: environment of this process; pods inherit PATH, HOME and their like from it.

    Raises:
        UsageError: the data is locked, damaged or too new; the port or the pod network is taken.
    """
    gc.set_threshold(GC_THRESHOLD)
    options.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    nodes = parse_nodes(remembered_nodes(options.directory, options.nodes), options.node_name)
    durability = remembered_choice(options.directory / "durability", options.durability, "process")
    store = Store.open(options.directory / "cluster.db", clock=clock, survives_power_loss=durability != "process")
    try:
        network = claim_pod_network(options.directory / "pod-network", lambda: has_live_pods(options.directory))
        try:
            await _run(options, nodes, store, network, stop, clock, environ)
        finally:
            network.close()
    finally:
        store.close()
    _log.info("cluster stopped")


async def _run(
    options: ClusterOptions,
    nodes: Sequence[VirtualNode],
    store: Store,
    network: PodNetwork,
    stop: asyncio.Event,
    clock: Clock,
    environ: Mapping[str, str],
) -> None:
    chance = random.Random()
    authorization = remembered_choice(options.directory / "authorization", options.authorization, "none")
    api_address = kubernetes_address(network.services)
    pki = Pki.load_or_create(options.directory / "pki", clock, api_address=api_address)
    remembered = options.directory / "api-port"
    port = claim_port(ADDRESS, options.api_port or _remembered_port(remembered), "--api-port")
    access = ClusterAccess(
        server=f"https://{ADDRESS}:{port}", ca=pki.ca_pem, token=pki.token, source="the embedded cluster"
    )
    async with HttpClient(access) as client:

        def make_agent(node: VirtualNode, data_dir: Path, pod_cidr: str, reserved_cidrs: tuple[str, ...]) -> NodeAgent:
            return NodeAgent(
                client,
                node_name=node.name,
                data_dir=data_dir,
                clock=clock,
                environ=environ,
                pod_cidr=pod_cidr,
                reserved_cidrs=reserved_cidrs,
                capacity=node.capacity,
                labels=node.labels,
                taints=node.taints,
                shared_dir=options.directory,
                tokens=client,
                api_address=(ADDRESS, port),
            )

        agents = NodeAgents(nodes, options.directory, network.cidr, make_agent)
        server = ApiServer(
            store,
            address=ADDRESS,
            port=port,
            pki=pki,
            clock=clock,
            logs=agents,
            execs=agents,
            chance=chance,
            service_network=network.services,
            enforces_roles=authorization != "none",
        )
        await server.start()
        try:
            remembered.write_text(f"{port}\n")
            write_kubeconfig(options.kubeconfig, url=server.url, pki=pki)
            manager = Manager(client, component="cluster", clock=clock, chance=chance)
            forwarder = ForwarderProcess()
            manager.add(ServiceProxyReconciler(manager, forwarder).controller())
            await agents.forget_others(client, clock)
            async with asyncio.TaskGroup() as group:
                agents_task = group.create_task(agents.run(), name="node-agents")
                forwarder_task = group.create_task(forwarder.run(), name="forwarder")
                workloads_task = group.create_task(
                    run_workloads(manager, store, server.objects, clock=clock, chance=chance), name="workloads"
                )
                _log.info("cluster runs", url=server.url, pods=str(network.cidr), services=str(network.services))
                gc.collect()
                gc.freeze()
                await stop.wait()
                _log.info("cluster is stopping")
                manager.stop()
                await workloads_task
                await agents.stop_all(options.pod_stop_grace_s)
                agents_task.cancel()
                # Last, since pods that end may still have something to tell each other.
                forwarder_task.cancel()
        finally:
            await server.stop()


def _remembered_port(file: Path) -> int:
    """Return the port of the last run while it is free, else 0: any. Kubeconfigs in use stay right that way."""
    try:
        return claim_port(ADDRESS, int(file.read_text()), "--api-port")
    except (FileNotFoundError, ValueError, UsageError):
        return 0
