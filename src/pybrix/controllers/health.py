"""Health, readiness and metrics of a process of controllers, over TCP or a Unix socket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from pybrix.api.config import ControllersConfiguration
from pybrix.base.errors import UsageError
from pybrix.runtime.manager import Manager

MAX_SOCKET_PATH_BYTES = 107
"""`sun_path` of unix(7), less the final zero."""


def build_health(manager: Manager, registry: CollectorRegistry) -> web.Application:
    """Return the application: `/healthz`, `/readyz` with what waits, `/metrics`."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if manager.is_healthy else web.Response(status=503, text="not running\n")

    async def readyz(_: web.Request) -> web.Response:
        document = {"ready": manager.is_ready, **manager.describe()}
        body = msgspec.json.format(msgspec.json.encode(document), indent=2)
        return web.Response(status=200 if manager.is_ready else 503, body=body, content_type="application/json")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


@asynccontextmanager
async def serving(app: web.Application, config: ControllersConfiguration) -> AsyncIterator[str]:
    """Serve an application where the configuration says, and yield its address.

    Raises:
        UsageError: the port is taken, or the path is too long for a Unix socket.
    """
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    path = Path(config.health_socket) if config.health_socket else None
    try:
        if path is not None:
            if (length := len(os.fsencode(path))) > MAX_SOCKET_PATH_BYTES:
                problem = f"{path} is too long for a Unix socket: {length} bytes, at most {MAX_SOCKET_PATH_BYTES}"
                raise UsageError(problem, "choose a shorter --health-socket")
            # What a killed process left there. Two living ones are told apart by whoever starts them.
            path.unlink(missing_ok=True)
            await web.UnixSite(runner, str(path)).start()
            yield str(path)
        else:
            try:
                await web.TCPSite(runner, config.health_address, config.health_port).start()
            except OSError as err:
                where = f"{config.health_address}:{config.health_port}"
                raise UsageError(
                    f"cannot listen on {where}: {err.strerror or err}", "choose another --health-port, or 0 for any"
                ) from err
            host, port = runner.addresses[0][:2]
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        await runner.cleanup()
        if path is not None:
            path.unlink(missing_ok=True)
