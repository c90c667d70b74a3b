"""A process of controllers, put together: the one place of this room that composes and knows the order.

Start: health server; informers and the election; controllers while this process leads.
Stop: passes under way finish; the lease is given back, so that another process takes over at once; informers; health.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
from collections.abc import Sequence

import aiohttp
import structlog
from prometheus_client import REGISTRY as METRICS

from pybrix.api.config import ControllersConfiguration
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock, SystemClock
from pybrix.controllers.health import build_health, serving
from pybrix.controllers.registration import Registration, Setup
from pybrix.controllers.registry import REGISTRY, select
from pybrix.kube.interface import Client
from pybrix.kube.namespaced import NamespacedClient
from pybrix.runtime.leader import LeaderConfig
from pybrix.runtime.manager import Manager

COMPONENT = "pybrix-controllers"
GC_THRESHOLD = 50_000
FREEZE_AFTER_S = 60.0
"""How long the collector waits for caches that are not complete: a kind may be missing for ever."""

_log = structlog.get_logger()


async def run_controllers(
    config: ControllersConfiguration,
    *,
    client: Client,
    stop: asyncio.Event,
    registry: Sequence[Registration] = REGISTRY,
    clock: Clock | None = None,
    chance: random.Random | None = None,
    is_gc_tuned: bool = True,
) -> None:
    """Run the controllers until `stop` is set; return when nothing of them is left.

    Args:
        config: already validated; see `configuration.parse_configuration`.
        chance: seeded from the system when None.
        is_gc_tuned: whether the garbage collector of this process is set up for large caches.

    Raises:
        UsageError: the health server cannot listen.
    """
    if is_gc_tuned:
        gc.set_threshold(GC_THRESHOLD)
    clock, chance = clock or SystemClock(), chance or random.Random()
    if config.namespaces:
        client = NamespacedClient(client, config.namespaces)
    manager = Manager(client, component=COMPONENT, clock=clock, chance=chance, leader=leader_config(config, chance))
    # Pods answer on addresses that come and go: no connection outlives its use by much, and no environment's proxy.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=5)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as http:
        setup = Setup(manager, config, clock, chance, http)
        chosen = select(config.controllers, registry)
        for registration in chosen:
            for controller in registration.build(setup):
                manager.add(controller)
        async with serving(build_health(manager, METRICS), config) as address, asyncio.TaskGroup() as group:
            names = [registration.name for registration in chosen]
            _log.info("controllers start", controllers=names, namespaces=config.namespaces or "all", health=address)
            running = group.create_task(manager.run(), name="manager")
            tuning = group.create_task(_freeze_when_ready(manager)) if is_gc_tuned else None
            stopping = group.create_task(stop.wait())
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            manager.stop()
            stopping.cancel()
            if tuning is not None:
                tuning.cancel()
            await running
    _log.info("controllers stopped")


def leader_config(config: ControllersConfiguration, chance: random.Random) -> LeaderConfig | None:
    """Return the election that the configuration asks for, under a name that no other process has."""
    election = config.leader_election
    if not election.is_enabled:
        return None
    return LeaderConfig(
        key=ObjectKey(election.namespace, election.name),
        identity=f"{socket.gethostname()}_{chance.getrandbits(64):016x}",
        lease_duration_s=election.lease_duration_s,
        renew_deadline_s=election.renew_deadline_s,
        retry_period_s=election.retry_period_s,
    )


async def _freeze_when_ready(manager: Manager) -> None:
    """Take what the caches hold out of the collector's sight: it lives as long as this process."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FREEZE_AFTER_S):
            await manager.wait_synced()
    gc.collect()
    gc.freeze()
