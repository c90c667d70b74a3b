"""The embedded cluster put together: store, API server, workload controllers and node agent in one process.

Start: store; API server; kubeconfig (its appearance means that the API answers); controllers and agent.
Stop: controllers first, so that nothing replaces the pods that then end; node agent; API server; store. A process that
is killed leaves its pods running, and the next one finds them.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.base.ports import claim_port
from pybrix.cluster.apiserver.server import ApiServer
from pybrix.cluster.kubeconfig import write_kubeconfig
from pybrix.cluster.network import claim_pod_network
from pybrix.cluster.nodeagent.agent import NodeAgent
from pybrix.cluster.nodeagent.runfiles import has_live_programs
from pybrix.cluster.pki import Pki
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
    an orderly stop.
    """

    directory: Path
    kubeconfig: Path
    api_port: int = 0
    node_name: str = "local"
    pod_stop_grace_s: float = 30.0


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
    store = Store.open(options.directory / "cluster.db", clock=clock)
    try:
        network = claim_pod_network(
            options.directory / "pod-network", lambda: has_live_programs(options.directory / "pods")
        )
        try:
            await _run(options, store, str(network.cidr), stop, clock, environ)
        finally:
            network.close()
    finally:
        store.close()
    _log.info("cluster stopped")


async def _run(
    options: ClusterOptions, store: Store, pod_cidr: str, stop: asyncio.Event, clock: Clock, environ: Mapping[str, str]
) -> None:
    chance = random.Random()
    pki = Pki.load_or_create(options.directory / "pki", clock)
    remembered = options.directory / "api-port"
    port = claim_port(ADDRESS, options.api_port or _remembered_port(remembered), "--api-port")
    access = ClusterAccess(
        server=f"https://{ADDRESS}:{port}", ca=pki.ca_pem, token=pki.token, source="the embedded cluster"
    )
    async with HttpClient(access) as client:
        agent = NodeAgent(
            client,
            node_name=options.node_name,
            data_dir=options.directory,
            clock=clock,
            environ=environ,
            pod_cidr=pod_cidr,
        )
        server = ApiServer(store, address=ADDRESS, port=port, pki=pki, clock=clock, logs=agent.logs, chance=chance)
        await server.start()
        try:
            remembered.write_text(f"{port}\n")
            write_kubeconfig(options.kubeconfig, url=server.url, pki=pki)
            manager = Manager(client, component="cluster", clock=clock, chance=chance)
            async with asyncio.TaskGroup() as group:
                agent_task = group.create_task(agent.run(), name="node-agent")
                workloads_task = group.create_task(
                    run_workloads(manager, store, server.objects, clock=clock, chance=chance), name="workloads"
                )
                _log.info("cluster runs", url=server.url, pod_cidr=pod_cidr)
                gc.collect()
                gc.freeze()
                await stop.wait()
                _log.info("cluster is stopping")
                manager.stop()
                await workloads_task
                await agent.stop_all(options.pod_stop_grace_s)
                agent_task.cancel()
        finally:
            await server.stop()


def _remembered_port(file: Path) -> int:
    """Return the port of the last run while it is free, else 0: any. Kubeconfigs in use stay right that way."""
    try:
        return claim_port(ADDRESS, int(file.read_text()), "--api-port")
    except (FileNotFoundError, ValueError, UsageError):
        return 0
