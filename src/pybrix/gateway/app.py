"""A brain, put together: the one place of the gateway that composes, chooses and knows the order of start and stop.

Start: lock the run directory; admin and access-log sockets; watch pods; with the caches synced (or, while the API does
not answer, with the persisted view) write xDS; take in the saved state and that of other gateways; then open the
decision socket.
Stop: health check says no; decision socket closes, so that Envoy routes by itself; requests being received are
answered; the last view is persisted, the state is handed over; the other sockets close. In a hurry what takes time in
this is left out.
"""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from pybrix.api.config import GatewayConfiguration
from pybrix.api.core import EndpointSlice, Pod
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.names import ADAPTER_NAME
from pybrix.base.clock import Clock, SystemClock
from pybrix.base.errors import UsageError
from pybrix.envoy.files import XdsWriter
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.wire import ModelCluster
from pybrix.envoy.xds import XdsRenderer
from pybrix.gateway.accesslog.sink import LogSink
from pybrix.gateway.admin import SOCKET_NAME, build_admin, build_health
from pybrix.gateway.admission.admintoken import AdminToken
from pybrix.gateway.admission.api import add_user_routes, build_user_api, read_token
from pybrix.gateway.admission.metrics import LimitMetrics
from pybrix.gateway.admission.service import FIRST_ANSWER_S, Admission
from pybrix.gateway.decision.server import DecisionServer
from pybrix.gateway.director import Director
from pybrix.gateway.framework.plugins import Chance
from pybrix.gateway.framework.signals import EngineMetrics
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.history import History
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations, TokenSource
from pybrix.gateway.metrics import BrainMetrics
from pybrix.gateway.modelconfigs import ConfigProblems
from pybrix.gateway.presence import EnvoyPresence
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import Indexes, build_strategies
from pybrix.gateway.sockets import RunDirectory, listen, stop_listening
from pybrix.gateway.state import BrainState, render_state
from pybrix.gateway.statesync.metrics import StateSyncMetrics
from pybrix.gateway.statesync.service import MERGE_PATIENCE_S, StateSync
from pybrix.gateway.trafficmetrics import TrafficMetrics
from pybrix.gateway.view.collector import Collector
from pybrix.gateway.view.persist import ViewKeeper, load_view
from pybrix.gateway.view.scraper import Fetch, HttpFetch, ScrapeCounts, Scraper
from pybrix.gateway.view.snapshot import ClusterView
from pybrix.gateway.xds import XdsPublisher
from pybrix.kube.informer import Informer
from pybrix.kube.interface import Client

API_PATIENCE_S = 3.0
"""How long a brain waits for the Kubernetes API before it starts from the persisted view."""
HOUSEKEEPING_S = 1.0
DRAIN_GRACE_S = 1.0
_ADMIN_GRACE_S = 1.0
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
        health: tuple[str, int] | None,
        hurry: asyncio.Event,
    ) -> None:
        self._health = health
        self._hurry = hurry
        self._is_gc_tuned = is_gc_tuned
        self._config = config
        self._clock = clock
        self._view_file = data_dir / "view.json"
        self._paths = EnvoyPaths(run_dir, data_dir)
        self._run_dir = run_dir
        namespaces: Sequence[str | None] = config.namespaces or [None]
        self._pods = [Informer(client, Pod, namespace=each) for each in namespaces]
        self._slices = [
            Informer(client, EndpointSlice, namespace=each, label_selector=ADAPTER_NAME) for each in namespaces
        ]
        self._adapters = [Informer(client, ModelAdapter, namespace=each) for each in namespaces]
        self.collector = Collector(self._pods, clock, slices=self._slices, adapters=self._adapters)
        self.loads = LoadTable()
        self.metrics = MetricsTable()
        self.scrapes = ScrapeCounts()
        self._chance = chance
        self._indexes = Indexes()
        self.registry = CollectorRegistry()
        """What `/metrics` shows."""
        self.state = BrainState(instance=secrets.token_hex(4), started_s=clock.monotonic_s())
        self.reservations = Reservations(
            self.loads, self.state.instance, TokenSource(secrets.token_bytes).issue, config.reservation_renewal_s
        )
        self._xds_writer = XdsWriter(self._paths.xds_dir)
        self._xds_renderer = XdsRenderer(config, self._paths)
        self.xds = XdsPublisher(self._write_xds)
        self.admission = Admission(
            config, data_dir=data_dir, clock=clock, draw=secrets.token_bytes, publish=self._on_users
        )
        self._admin_token = AdminToken()
        profile = Profile(build_strategies(chance, self._indexes))
        self.config_problems = ConfigProblems(profile)
        self.director = Director(
            view=lambda: self.collector.view,
            profile=profile,
            default_strategy=config.routing_strategy,
            loads=self.loads,
            reservations=self.reservations,
            chance=chance,
            clock=clock,
            metrics=self.metrics,
            gate=self.admission.gate,
            history=History(config.explain.kept_decisions, reasons_per_s=config.explain.reasons_per_s),
            admin_token=self._admin_token,
        )
        self._keeper = ViewKeeper(self._view_file, clock)
        self.statesync = StateSync(
            config,
            data_dir=data_dir,
            clock=clock,
            draw=secrets.token_bytes,
            loads=self.loads,
            indexes=self._indexes,
            sizes=self.director.sizes,
            reservations=self.reservations,
            activity=self.director.counters.activity,
        )
        self.registry.register(
            BrainMetrics(
                state=self.state,
                director=self.director,
                view=lambda: self.collector.view,
                loads=self.loads,
                metrics=self.metrics,
                scrapes=self.scrapes,
                reservations=self.reservations,
                xds=self.xds,
                contact_age=self._contact_age_s,
                config_problems=self.config_problems,
                now=self._clock.monotonic_s,
            )
        )
        self.registry.register(TrafficMetrics(self.director.traffic, self.reservations))
        self.registry.register(LimitMetrics(self.admission))
        self.registry.register(StateSyncMetrics(self.statesync, clock.monotonic_s))
        self._envoys = EnvoyPresence(self._on_envoys_gone)
        self._decisions = DecisionServer(
            self.director.decide, config.body_limit_bytes, lambda: self.state.is_ready, self._envoys
        )

    def _write_xds(self, models: Sequence[ModelCluster]) -> None:
        self._xds_writer.write(self._xds_renderer.render(models))

    def _on_users(self, users: Mapping[str, str]) -> None:
        self._xds_renderer.admit(users)
        self.xds.invalidate()
        if self.state.is_xds_written:
            self.state.is_xds_written = self.xds.publish(self.collector.view)

    def _on_envoys_gone(self) -> None:
        # A brain that ends closes the connections itself, and leaves what is in flight to the next one.
        if not self.state.is_draining and (lost := self.director.give_up_all()):
            _log.warning("no Envoy is connected any more: its requests are given up", reservations=lost)

    def _contact_age_s(self) -> float | None:
        seen = [informer.last_contact_s for informer in self._pods]
        contacts = [contact for contact in seen if contact is not None]
        return self._clock.monotonic_s() - min(contacts) if contacts and len(contacts) == len(seen) else None

    def describe(self) -> dict[str, object]:
        """Return the document of `/debug/view`."""
        document = render_state(
            self.state,
            self.collector.view,
            self.loads,
            self.metrics,
            self.reservations,
            contact_age_s=self._contact_age_s(),
            now_s=self._clock.monotonic_s(),
            traffic=self.director.traffic,
            config_problems=self.config_problems,
        )
        return {**document, "limits": self.admission.describe(), "statesync": self.statesync.describe()}

    async def run(self, stop: asyncio.Event, api_patience_s: float) -> None:
        """Serve until `stop` is set, then end in order, or at once where somebody hurries.

        Raises:
            UsageError: another brain holds the run directory, or the directory does not do.
        """
        self._paths.xds_dir.mkdir(parents=True, exist_ok=True)
        with RunDirectory(self._run_dir, SOCKET_NAME) as run:
            log_path = self._paths.access_log_socket
            sink = LogSink(self.director.account, self._envoys)
            sink_server = await listen(run, log_path, sink.connect)
            admin = await self._start_admin(run)
            try:
                await self._start_health(admin)
                await self._start_user_api(admin)
                await self._serve(run, stop, api_patience_s)
                await _unless_hurried(self._hurry, self._hand_over())
            finally:
                await stop_listening(sink_server, log_path)
                sink.close()
                await self.admission.aclose()
                for runner in admin:
                    await runner.cleanup()
                (self._run_dir / SOCKET_NAME).unlink(missing_ok=True)
        _log.info("brain stopped", reservations=len(self.reservations), decisions_cut=self.state.decisions_cut)

    async def _hand_over(self) -> None:
        await self._keeper.write_now()
        await self.statesync.finish()

    async def _start_admin(self, run: RunDirectory) -> list[web.AppRunner]:
        app = build_admin(
            state=self.state,
            director=self.director,
            describe=self.describe,
            registry=self.registry,
            body_limit_bytes=self._config.body_limit_bytes,
        )
        add_user_routes(app, self.admission)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_ADMIN_GRACE_S)
        await runner.setup()
        path = self._run_dir / SOCKET_NAME
        run.claim(path)
        await web.UnixSite(runner, str(path)).start()
        return [runner]

    async def _start_health(self, started: list[web.AppRunner]) -> None:
        """Serve health and metrics on a port, if one is wanted; who cleans up finds the server in `started`."""
        if self._health is None:
            return
        address, port = self._health
        runner = web.AppRunner(
            build_health(self.state, self.registry), access_log=None, shutdown_timeout=_ADMIN_GRACE_S
        )
        await runner.setup()
        started.append(runner)
        try:
            await web.TCPSite(runner, address, port).start()
        except OSError as err:
            raise UsageError(f"cannot listen on {address}:{port}: {err.strerror}", "choose another port") from err

    async def _start_user_api(self, started: list[web.AppRunner]) -> None:
        """Take the admin token in; serve users and keys on a port, if one is wanted."""
        identity = self._config.identity
        if not identity.admin_token_path and not identity.users_port:
            return
        self._admin_token.replace(await asyncio.to_thread(read_token, Path(identity.admin_token_path)))
        if not identity.users_port:
            return
        runner = web.AppRunner(
            build_user_api(self.admission, self._admin_token), access_log=None, shutdown_timeout=_ADMIN_GRACE_S
        )
        await runner.setup()
        started.append(runner)
        try:
            await web.TCPSite(runner, identity.users_address, identity.users_port).start()
        except OSError as err:
            where = f"{identity.users_address}:{identity.users_port}"
            raise UsageError(f"cannot listen on {where}: {err.strerror}", "choose another identity.usersPort") from err

    async def _serve(self, run: RunDirectory, stop: asyncio.Event, api_patience_s: float) -> None:
        async with AsyncExitStack() as closing:
            scraper = None
            if self._config.engine_metrics_interval_s > 0:
                fetch = HttpFetch()
                closing.push_async_callback(fetch.aclose)
                scraper = self._make_scraper(fetch)
            await self._follow_and_decide(run, stop, api_patience_s, scraper)

    def _make_scraper(self, fetch: Fetch) -> Scraper:
        return Scraper(
            fetch,
            self.metrics,
            self.loads,
            clock=self._clock,
            chance=self._chance,
            shortest_s=self._config.engine_metrics_interval_s,
            counts=self.scrapes,
            learn=self._learn_capacity,
        )

    def _learn_capacity(self, engine: EndpointId, metrics: EngineMetrics) -> None:
        if metrics.kv_capacity_tokens:
            self._indexes.note_capacity(engine, metrics.kv_capacity_tokens)

    async def _follow_and_decide(
        self, run: RunDirectory, stop: asyncio.Event, api_patience_s: float, scraper: Scraper | None
    ) -> None:
        synced = asyncio.Event()
        self.collector.subscribe(self.config_problems.follow)
        self.collector.subscribe(self._on_view)
        async with asyncio.TaskGroup() as tasks:
            informers: list[Informer[Any]] = [*self._pods, *self._slices, *self._adapters]
            background = [tasks.create_task(informer.run()) for informer in informers]
            background.append(tasks.create_task(self.collector.run(synced)))
            if scraper is not None:
                self.collector.subscribe(scraper.follow)
                background.append(tasks.create_task(scraper.run()))
            background.append(tasks.create_task(self._keeper.run()))
            background.append(tasks.create_task(self._keep_house()))
            background.append(tasks.create_task(self.admission.run()))
            await self._first_keys(stop)
            await self._first_view(synced, stop, api_patience_s)
            if not stop.is_set():
                background.append(tasks.create_task(self.statesync.run(self.collector.view)))
                await _first_of(stop, self.statesync.merged, timeout_s=MERGE_PATIENCE_S)
                await self._decide_until(run, stop)
            for task in background:
                task.cancel()

    async def _first_keys(self, stop: asyncio.Event) -> None:
        """Return when it is known which API keys there are, and Redis was given a moment to answer."""
        answered = self.admission.first_answer
        if await _first_of(stop, answered, timeout_s=FIRST_ANSWER_S):
            return
        _log.warning("Redis has not answered yet", problem=self.admission.problem)
        if self._config.identity.is_api_key_required and not self.admission.keyring.is_known:
            # To write no keys now would lock everyone out whom Envoy's files of an earlier brain let in.
            _log.warning("nobody knows which API keys there are: waiting for Redis")
            await _first_of(stop, answered, timeout_s=None)

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

    def _on_view(self, before: ClusterView, view: ClusterView) -> None:
        if self.collector.is_synced:
            self.state.view_source, self.state.view_saved_at = "api", ""
            self._keeper.keep(view)
        self.state.is_xds_written = self.xds.publish(view)
        self.director.traffic.retain(view.models, view.endpoint_ids())
        if view.pods is not before.pods:
            live = view.endpoint_ids()
            self.statesync.follow(view)
            self.loads.prune(live)
            for index in self._indexes.by_endpoint:
                index.retain(live)

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
            self.state.decisions_cut = await self._decisions.drain(DRAIN_GRACE_S, self._hurry)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            for index in self._indexes.by_endpoint:
                index.collect()
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


async def _unless_hurried(hurry: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do something that takes time, as long as nobody hurries."""
    working, hurried = asyncio.create_task(work), asyncio.create_task(hurry.wait())
    await asyncio.wait({working, hurried}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, hurried):
        task.cancel()
    outcome, _ = await asyncio.gather(working, hurried, return_exceptions=True)
    if isinstance(outcome, Exception):
        raise outcome


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
    health: tuple[str, int] | None = None,
    hurry: asyncio.Event | None = None,
) -> int:
    """Run a brain until `stop` is set; return when nothing of it is left.

    Args:
        config: already validated; see `configuration.parse_configuration`.
        data_dir: of the gateway: persisted view, xDS files.
        run_dir: of the Unix sockets; made with mode 0700 when it is not there.
        chance: breaks ties; seeded from the system when None.
        api_patience_s: how long the Kubernetes API may take before the persisted view is used.
        is_gc_tuned: whether the garbage collector of this process is set up for a brain.
        health: address and port of /healthz, /readyz and /metrics beside the admin socket, which has them, too.
        hurry: when set after `stop`, nothing is waited for any more.

    Returns:
        How many decisions were cut; Envoy routes such requests by itself.

    Raises:
        UsageError: another brain holds the run directory, the directory does not do, or the port is taken.
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
        health=health,
        hurry=hurry or asyncio.Event(),
    )
    await brain.run(stop, api_patience_s)
    return brain.state.decisions_cut
