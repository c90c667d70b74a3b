"""A brain, put together: the one place of the gateway that composes, chooses and knows the order of start and stop.

Start: lock the run directory; admin and access-log sockets; watch pods; with the caches synced (or, while the API does
not answer, with the persisted view) write xDS; then open the decision socket.
Stop: health check says no; decision socket closes, so that Envoy routes by itself; requests being received are
answered; the last view is persisted; the other sockets close.
"""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from pybrix.api.config import GatewayConfiguration
from pybrix.api.core import Pod
from pybrix.base.clock import Clock, SystemClock
from pybrix.envoy.files import XdsWriter
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.wire import ModelCluster
from pybrix.envoy.xds import render_xds
from pybrix.gateway.accesslog.sink import LogSink
from pybrix.gateway.admin import SOCKET_NAME, build_admin
from pybrix.gateway.decision.server import DecisionServer
from pybrix.gateway.director import Director
from pybrix.gateway.framework.types import Chance
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations, TokenSource
from pybrix.gateway.metrics import BrainMetrics
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.sockets import RunDirectory, listen, stop_listening
from pybrix.gateway.state import BrainState, render_state
from pybrix.gateway.view.collector import Collector
from pybrix.gateway.view.persist import ViewKeeper, load_view
from pybrix.gateway.view.snapshot import ClusterView
from pybrix.gateway.xds import XdsPublisher
from pybrix.kube.informer import Informer
from pybrix.kube.interface import Client

API_PATIENCE_S = 3.0
"""How long a brain waits for the Kubernetes API before it starts from the persisted view."""
HOUSEKEEPING_S = 1.0
DRAIN_GRACE_S = 1.0
GC_THRESHOLD = 50_000

_log = structlog.get_logger()


class Brain:
    """The live objects of one brain. `run` is its life."""

    def __init__(
        self,
        config: GatewayConfiguration,
        *,
        client: Client,
        data_dir: Path,
        run_dir: Path,
        clock: Clock,
        chance: Chance,
        is_gc_tuned: bool,
    ) -> None:
        self._is_gc_tuned = is_gc_tuned
        self._config = config
        self._clock = clock
        self._view_file = data_dir / "view.json"
        self._paths = EnvoyPaths(run_dir, data_dir)
        self._run_dir = run_dir
        namespaces: Sequence[str | None] = config.namespaces or [None]
        self._informers = [Informer(client, Pod, namespace=namespace) for namespace in namespaces]
        self.collector = Collector(self._informers, clock)
        self.loads = LoadTable()
        self.state = BrainState(instance=secrets.token_hex(4), started_s=clock.monotonic_s())
        self.reservations = Reservations(
            self.loads, self.state.instance, TokenSource(secrets.token_bytes).issue, config.reservation_renewal_s
        )
        self.director = Director(
            view=lambda: self.collector.view,
            profile=Profile(build_strategies()),
            default_strategy=config.routing_strategy,
            loads=self.loads,
            reservations=self.reservations,
            chance=chance,
            clock=clock,
        )
        self._xds_writer = XdsWriter(self._paths.xds_dir)
        self.xds = XdsPublisher(self._write_xds)
        self._keeper = ViewKeeper(self._view_file, clock)
        self._decisions = DecisionServer(self.director.decide, config.body_limit_bytes, lambda: self.state.is_ready)

    def _write_xds(self, models: Sequence[ModelCluster]) -> None:
        self._xds_writer.write(render_xds(self._config, models, self._paths))

    def _contact_age_s(self) -> float | None:
        seen = [informer.last_contact_s for informer in self._informers]
        contacts = [contact for contact in seen if contact is not None]
        return self._clock.monotonic_s() - min(contacts) if contacts and len(contacts) == len(seen) else None

    def describe(self) -> dict[str, object]:
        """Return the document of `/debug/view`."""
        return render_state(
            self.state,
            self.collector.view,
            self.loads,
            self.reservations,
            contact_age_s=self._contact_age_s(),
            now_s=self._clock.monotonic_s(),
        )

    async def run(self, stop: asyncio.Event, api_patience_s: float) -> None:
        """Serve until `stop` is set.

        Raises:
            UsageError: another brain holds the run directory, or the directory does not do.
        """
        self._paths.xds_dir.mkdir(parents=True, exist_ok=True)
        with RunDirectory(self._run_dir, SOCKET_NAME) as run:
            log_path = self._paths.access_log_socket
            sink = LogSink(self.director.account)
            sink_server = await listen(run, log_path, sink.connect)
            admin = await self._start_admin(run)
            try:
                await self._serve(run, stop, api_patience_s)
                await self._keeper.write_now()
            finally:
                await stop_listening(sink_server, log_path)
                sink.close()
                await admin.cleanup()
                (self._run_dir / SOCKET_NAME).unlink(missing_ok=True)
        _log.info("brain stopped", reservations=len(self.reservations))

    async def _start_admin(self, run: RunDirectory) -> web.AppRunner:
        registry = CollectorRegistry()
        registry.register(
            BrainMetrics(
                state=self.state,
                director=self.director,
                view=lambda: self.collector.view,
                loads=self.loads,
                reservations=self.reservations,
                xds=self.xds,
                contact_age=self._contact_age_s,
            )
        )
        app = build_admin(
            state=self.state,
            director=self.director,
            describe=self.describe,
            registry=registry,
            body_limit_bytes=self._config.body_limit_bytes,
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        path = self._run_dir / SOCKET_NAME
        run.claim(path)
        await web.UnixSite(runner, str(path)).start()
        return runner

    async def _serve(self, run: RunDirectory, stop: asyncio.Event, api_patience_s: float) -> None:
        synced = asyncio.Event()
        self.collector.subscribe(self._on_view)
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(informer.run()) for informer in self._informers]
            background.append(tasks.create_task(self.collector.run(synced)))
            background.append(tasks.create_task(self._keeper.run()))
            background.append(tasks.create_task(self._keep_house()))
            await self._first_view(synced, stop, api_patience_s)
            if not stop.is_set():
                await self._decide_until(run, stop)
            for task in background:
                task.cancel()

    async def _first_view(self, synced: asyncio.Event, stop: asyncio.Event, api_patience_s: float) -> None:
        """Return when there is a view to decide by, in Envoy's files too (or at `stop`)."""
        if not await _first_of(stop, synced, timeout_s=api_patience_s):
            saved = await asyncio.to_thread(load_view, self._view_file)
            if saved is not None and saved[0].models and not self.collector.is_synced:
                view, saved_at = saved
                self.state.view_source, self.state.view_saved_at = "persisted", saved_at
                self.collector.adopt(view)
                _log.warning("Kubernetes API does not answer: persisted view in use", saved_at=saved_at)
            else:
                # To write an empty set now would take every model away from an Envoy that still routes well.
                _log.warning("Kubernetes API does not answer and no view is persisted: waiting")
                await _first_of(stop, synced, timeout_s=None)
        if stop.is_set():
            return
        if self.state.view_source == "none":
            # Synced before anyone subscribed to an unchanged, empty view.
            self._on_view(self.collector.view, self.collector.view)

    def _on_view(self, _: ClusterView, view: ClusterView) -> None:
        if self.collector.is_synced:
            self.state.view_source, self.state.view_saved_at = "api", ""
            self._keeper.keep(view)
        self.state.is_xds_written = self.xds.publish(view)
        self.loads.prune(view.endpoint_ids())

    async def _decide_until(self, run: RunDirectory, stop: asyncio.Event) -> None:
        path = self._paths.decision_socket
        server = await listen(run, path, self._decisions.connect)
        # What is alive now lives long: the collector need not look at it again.
        if self._is_gc_tuned:
            gc.collect()
            gc.freeze()
        self.state.is_serving = True
        _log.info("brain serves", socket=str(path), instance=self.state.instance, view=self.state.view_source)
        try:
            await stop.wait()
        finally:
            self.state.is_draining = True
            await stop_listening(server, path)
            await self._decisions.drain(DRAIN_GRACE_S)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            for lost in self.director.expire():
                _log.warning("reservation expired", pod=lost.endpoint.pod_name, namespace=lost.endpoint.namespace)
            if self.state.view_source != "none" and not self.state.is_xds_written:
                self.state.is_xds_written = self.xds.publish(self.collector.view)


async def _first_of(*events: asyncio.Event, timeout_s: float | None) -> bool:
    """Wait until one of the events is set. False: none was in time."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    done, rest = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in rest:
        wait.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    return bool(done)


async def run_brain(
    config: GatewayConfiguration,
    *,
    client: Client,
    data_dir: Path,
    run_dir: Path,
    stop: asyncio.Event,
    clock: Clock | None = None,
    chance: Chance | None = None,
    api_patience_s: float = API_PATIENCE_S,
    is_gc_tuned: bool = True,
) -> None:
    """Run a brain until `stop` is set; return when nothing of it is left.

    Args:
        config: already validated; see `configuration.parse_configuration`.
        data_dir: of the gateway: persisted view, xDS files.
        run_dir: of the Unix sockets; made with mode 0700 when it is not there.
        chance: breaks ties; seeded from the system when None.
        api_patience_s: how long the Kubernetes API may take before the persisted view is used.
        is_gc_tuned: whether the garbage collector of this process is set up for a brain.

    Raises:
        UsageError: another brain holds the run directory, or the directory does not do.
    """
    if is_gc_tuned:
        gc.set_threshold(GC_THRESHOLD)
    brain = Brain(
        config,
        client=client,
        data_dir=data_dir,
        run_dir=run_dir,
        clock=clock or SystemClock(),
        chance=chance or random.Random(),
        is_gc_tuned=is_gc_tuned,
    )
    await brain.run(stop, api_patience_s)
