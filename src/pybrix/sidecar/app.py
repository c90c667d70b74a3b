"""Put a sidecar together and run it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from pybrix.base.clock import Clock, SystemClock
from pybrix.base.errors import UsageError
from pybrix.engine.adapterclient import open_adapter_client
from pybrix.sidecar.adapters import AdapterService
from pybrix.sidecar.artifacts.gcs import GcsLister
from pybrix.sidecar.artifacts.hub import HubLister
from pybrix.sidecar.artifacts.library import Catalogue, Library, load_key
from pybrix.sidecar.artifacts.listing import Lister
from pybrix.sidecar.artifacts.retries import Retrier, RetryRules
from pybrix.sidecar.artifacts.s3 import S3Lister
from pybrix.sidecar.artifacts.source import Provider
from pybrix.sidecar.artifacts.store import ArtifactStore, open_store
from pybrix.sidecar.artifacts.transfer import Fetcher
from pybrix.sidecar.artifacts.transport import Transport, open_transport
from pybrix.sidecar.artifacts.web import WebLister
from pybrix.sidecar.downloads import open_downloads
from pybrix.sidecar.engine import EngineAdmin, EngineRules
from pybrix.sidecar.loaded import LoadedAdapters
from pybrix.sidecar.metrics import SidecarMetrics
from pybrix.sidecar.options import SidecarOptions
from pybrix.sidecar.paths import PathRules
from pybrix.sidecar.server import SidecarServer

log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The parts of a running sidecar."""

    app: web.Application
    store: ArtifactStore
    loaded: LoadedAdapters


@asynccontextmanager
async def open_sidecar(
    options: SidecarOptions,
    *,
    clock: Clock | None = None,
    sleep: Sleep = asyncio.sleep,
    retry_rules: RetryRules | None = None,
    engine_rules: EngineRules | None = None,
) -> AsyncIterator[Sidecar]:
    """Build a sidecar, and end what it has under way at the end.

    Raises:
        UsageError: a directory cannot be used.
    """
    clock = clock or SystemClock()
    retrier = Retrier(retry_rules or RetryRules(), sleep, random.Random())
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(open_transport(clock))
        client = await stack.enter_async_context(open_adapter_client())
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        admin = EngineAdmin(
            client,
            session,
            options.engine_url,
            options.engine,
            options.engine_api_key,
            engine_rules or EngineRules(),
            sleep,
        )
        fetcher = Fetcher(transport, retrier, clock, options.concurrency)
        loaded = LoadedAdapters(options.artifact_dir, admin)
        store = await stack.enter_async_context(
            open_store(
                options.artifact_dir,
                fetcher,
                clock,
                budget_bytes=options.disk_budget_bytes,
                limit_bytes=options.max_artifact_bytes,
                fetch_loaded=loaded.fetch_keys,
            )
        )
        loaded.open()
        rules = PathRules(options.allowed_paths)
        adapters = AdapterService(
            admin,
            Library(_build_catalogue(options, transport, clock, retrier), store, load_key(options.artifact_dir)),
            store,
            loaded,
            rules,
            options.secrets_dir,
        )
        downloads = await stack.enter_async_context(
            open_downloads(
                _build_catalogue(options, transport, clock, retrier, suffixes=options.suffixes),
                fetcher,
                clock,
                options.model_dir,
                rules,
                is_forced=options.is_forced,
            )
        )
        registry = CollectorRegistry()
        own = SidecarMetrics(options.engine, store, loaded)
        registry.register(own)
        server = SidecarServer(
            admin,
            adapters,
            downloads,
            kind=options.engine,
            metrics_path=options.metrics_path,
            metrics_mode=options.metrics_mode,
            registry=registry,
            own=own,
            clock=clock,
        )
        yield Sidecar(server.build(), store, loaded)


async def serve(options: SidecarOptions, stop: asyncio.Event, announce: Callable[[str], None]) -> None:
    """Run a sidecar until `stop` is set; `announce` gets a line when it listens.

    Downloads under way end with it; the next sidecar on the same directory goes on with them.

    Raises:
        UsageError: a directory cannot be used, or the address not be listened on.
    """
    async with open_sidecar(options) as sidecar:
        runner = web.AppRunner(sidecar.app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, options.host, options.port, backlog=128).start()
            except OSError as err:
                raise UsageError(
                    f"cannot listen on {options.host}:{options.port}: {os.strerror(err.errno or 0)}",
                    "choose another --port, or end what uses it",
                ) from err
            host, port = runner.addresses[0][:2]
            announce(f"sidecar of {options.engine} at {options.engine_url} on http://{host}:{port}")
            await stop.wait()
        finally:
            await runner.cleanup()


def _build_catalogue(
    options: SidecarOptions, transport: Transport, clock: Clock, retrier: Retrier, suffixes: tuple[str, ...] = ()
) -> Catalogue:
    at = options.endpoints
    listers: dict[str, Lister] = {
        "huggingface": HubLister(transport, at.hub, at.hub_revision, suffixes),
        "http": WebLister(transport),
        str(Provider.S3): S3Lister(transport, Provider.S3, at.s3, at.s3_region),
        str(Provider.TOS): S3Lister(transport, Provider.TOS, at.tos, at.tos_region),
        str(Provider.GCS): GcsLister(transport, clock, at.gcs),
    }
    return Catalogue(listers, retrier, options.credentials)
