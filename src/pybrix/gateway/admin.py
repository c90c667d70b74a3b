"""The brain's admin socket: health, metrics, the view, and why a request would go where; health on a port as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from pybrix.envoy.wire import NAMESPACE_HEADER
from pybrix.gateway.director import Director
from pybrix.gateway.explanations import render_explanation, render_summary, render_trace
from pybrix.gateway.framework.types import Question
from pybrix.gateway.state import BrainState

SOCKET_NAME = "brain-admin.sock"
DEFAULT_LISTED = 20
MAX_LISTED = 5000


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

    async def debug_view(_: web.Request) -> web.Response:
        return _json(describe())

    async def debug_explain(request: web.Request) -> web.Response:
        question = Question(
            path=request.query.get("path", "/v1/chat/completions"),
            body=await request.read(),
            namespace=request.headers.get(NAMESPACE_HEADER, ""),
            strategy=request.headers.get("routing-strategy", ""),
            user=request.headers.get("user", ""),
            session_id=request.headers.get("x-session-id", ""),
            session_key=request.headers.get("x-aibrix-session-key", ""),
            profile=request.headers.get("config-profile", ""),
            external_filter=request.headers.get("external-filter", ""),
        )
        return _json(render_explanation(director.explain(question)))

    async def debug_requests(request: web.Request) -> web.Response:
        asked = request.query.get("limit", "")
        count = min(int(asked), MAX_LISTED) if asked.isdecimal() else DEFAULT_LISTED
        return _json({"requests": [render_summary(trace) for trace in director.history.newest(count)]})

    async def debug_request(request: web.Request) -> web.Response:
        trace = director.history.find(request.match_info["id"])
        if trace is None:
            return _json({"error": "no such request is kept"}, status=404)
        return _json(render_trace(trace))

    app = web.Application(client_max_size=body_limit_bytes)
    app.add_routes(_health_routes(state, registry))
    app.add_routes(
        [
            web.get("/debug/view", debug_view),
            web.post("/debug/explain", debug_explain),
            web.get("/debug/requests", debug_requests),
            web.get("/debug/requests/{id}", debug_request),
        ]
    )
    return app


def build_health(state: BrainState, registry: CollectorRegistry) -> web.Application:
    """Return what may be seen from outside the machine: health and metrics, for a kubelet and for Prometheus."""
    app = web.Application()
    app.add_routes(_health_routes(state, registry))
    return app


def _health_routes(state: BrainState, registry: CollectorRegistry) -> list[web.RouteDef]:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if state.is_ready:
            return web.Response(text="ok\n")
        why = "draining" if state.is_draining else f"view: {state.view_source}, xDS written: {state.is_xds_written}"
        return web.Response(status=503, text=f"not ready ({why})\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": "text/plain; version=0.0.4"})

    return [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")
