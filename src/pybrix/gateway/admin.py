"""The brain's admin socket: health, metrics, the view, and why a request would go where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from pybrix.envoy.wire import NAMESPACE_HEADER
from pybrix.gateway.director import Director
from pybrix.gateway.framework.types import Question
from pybrix.gateway.state import BrainState, render_explanation

SOCKET_NAME = "brain-admin.sock"


def build_admin(
    *,
    state: BrainState,
    director: Director,
    describe: Callable[[], dict[str, Any]],
    registry: CollectorRegistry,
    body_limit_bytes: int,
) -> web.Application:
    """Return the application.

    Args:
        describe: returns the document of `/debug/view`.
        registry: what `/metrics` shows.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if state.is_ready:
            return web.Response(text="ok\n")
        why = "draining" if state.is_draining else f"view: {state.view_source}, xDS written: {state.is_xds_written}"
        return web.Response(status=503, text=f"not ready ({why})\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": "text/plain; version=0.0.4"})

    async def debug_view(_: web.Request) -> web.Response:
        return _json(describe())

    async def debug_explain(request: web.Request) -> web.Response:
        question = Question(
            path=request.query.get("path", "/v1/chat/completions"),
            body=await request.read(),
            namespace=request.headers.get(NAMESPACE_HEADER, ""),
            strategy=request.headers.get("routing-strategy", ""),
        )
        return _json(render_explanation(director.explain(question)))

    app = web.Application(client_max_size=body_limit_bytes)
    app.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
            web.get("/debug/view", debug_view),
            web.post("/debug/explain", debug_explain),
        ]
    )
    return app


def _json(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")
