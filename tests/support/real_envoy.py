"""A real Envoy with a scripted brain, three small engines and a sink of records around it."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy.admin import EnvoyAdmin
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.clusters import endpoints_file_name
from pybrix.envoy.files import XdsWriter
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess
from pybrix.envoy.wire import ModelCluster
from pybrix.envoy.xds import render_xds
from tests.support.gateway_parts import PATIENT_MS, Brain, Engine, LogSink, eventually, free_port, say_hello

BODY_LIMIT_BYTES = 4 * 1024 * 1024
CHAT = "/v1/chat/completions"


@dataclass
class Gateway:
    """Everything a test needs; `engines` and `brain` are back in order before each test."""

    config: GatewayConfiguration
    paths: EnvoyPaths
    writer: XdsWriter
    envoy: EnvoyProcess
    admin: EnvoyAdmin
    brain: Brain
    sink: LogSink
    engines: list[Engine]
    client: aiohttp.ClientSession
    users: dict[str, str] = field(default_factory=dict)
    """By the SHA-256 hash of an API key; `apply` tells Envoy."""

    @property
    def models(self) -> tuple[ModelCluster, ...]:
        """`m` on all engines; `org/m:8b` of namespace team on the last one; `empty` on none; `twice` in two."""
        pods = tuple(engine.pod for engine in self.engines)
        return (
            ModelCluster("default", "m", pods),
            ModelCluster("team", "org/m:8b", pods[2:]),
            ModelCluster("default", "empty"),
            ModelCluster("default", "twice", pods[:1]),
            ModelCluster("team", "twice", pods[1:2]),
        )

    async def apply(self, models: Sequence[ModelCluster]) -> None:
        """Write models and wait until Envoy has read every file that changed."""
        before = await self.admin.stats(r"update_success$")
        changed = {*self.writer.write(render_xds(self.config, models, self.paths, self.users))}
        counters = {
            self.paths.clusters.name: "cluster_manager.cds.update_success",
            self.paths.routes.name: "http.gateway.rds.gateway.update_success",
            self.paths.listeners.name: "listener_manager.lds.update_success",
        }
        for model in models:
            # In names of statistics, Envoy has no colons.
            counters[endpoints_file_name(model.name)] = f"cluster.{model.name.replace(':', '_')}.update_success"
        # A file of endpoints that is gone is not read again.
        awaited = [counters[name] for name in changed & counters.keys()]

        async def is_read() -> bool:
            now = await self.admin.stats(r"update_success$")
            return all(now.get(name, 0) > before.get(name, 0) for name in awaited)

        await eventually(is_read)
        assert await self.admin.rejected_updates() == {}

    async def reset(self) -> None:
        """Bring everything back in order and forget what was."""
        for engine in self.engines:
            await engine.start()
            engine.requests.clear()
            engine.reply = say_hello
        self.brain.running.set()
        await self.brain.start()
        self.brain.refuse(400, {})
        await eventually(self.brain_is_asked)
        await self.apply(self.models)
        self.brain.questions.clear()

    async def brain_is_asked(self) -> bool:
        """Send a request and return whether Envoy put it to the brain."""
        async with self.client.post(CHAT, data=b"probe") as answer:
            asked = [question.headers["x-request-id"] for question in self.brain.questions]
            return answer.headers["request-id"] in asked


async def start_gateway(
    stack: AsyncExitStack,
    *,
    workers: int = 1,
    is_usage_counted: bool = True,
    client_tls: ssl.SSLContext | None = None,
    **options: Any,
) -> Gateway:
    """Start everything; the stack ends it.

    Args:
        client_tls: what the client trusts, where the `options` of the configuration say that Envoy speaks TLS.
    """
    base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pybrix-envoy-")))
    paths = EnvoyPaths(base / "run", base / "gateway")
    paths.run_dir.mkdir(mode=0o700)
    config = GatewayConfiguration(
        port=free_port(),
        body_limit_bytes=BODY_LIMIT_BYTES,
        reservation_renewal_s=0.4,
        connect_timeout_s=0.5,
        decision_timeout_ms=PATIENT_MS,
        envoy_workers=workers,
        is_usage_counted=is_usage_counted,
    )
    config = msgspec.structs.replace(config, **options)
    port = free_port()
    engines = [Engine(f"pod-{number}", f"127.66.0.{number + 1}", port) for number in range(3)]
    brain, sink = Brain(paths.decision_socket), LogSink(paths.access_log_socket)
    parts: list[Brain | LogSink | Engine] = [brain, sink, *engines]
    for part in parts:
        await part.start()
        stack.push_async_callback(part.kill)
    envoy = await EnvoyProcess.start(config, paths, binary=find_envoy())
    stack.push_async_callback(envoy.stop)
    admin = await stack.enter_async_context(EnvoyAdmin(paths.admin_socket))
    scheme = "https" if client_tls else "http"
    connector = aiohttp.TCPConnector(ssl=client_tls or True)
    url = f"{scheme}://{config.address}:{config.port}"
    client = await stack.enter_async_context(aiohttp.ClientSession(url, connector=connector))
    gateway = Gateway(config, paths, XdsWriter(paths.xds_dir), envoy, admin, brain, sink, engines, client)
    await gateway.apply(gateway.models)

    async def answers() -> bool:
        async with client.get("/v1/models") as answer:
            return answer.status in {200, 401}

    await eventually(answers)
    return gateway


async def refuses_connections(config: GatewayConfiguration) -> bool:
    """Say whether nobody listens where clients would connect."""
    try:
        _, writer = await asyncio.open_connection(config.address, config.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False
