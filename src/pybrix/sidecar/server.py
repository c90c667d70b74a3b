"""AIBrix's runtime API over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from pybrix.base.clock import Clock
from pybrix.engine.adapters import (
    AdapterError,
    AdapterRefused,
    AdapterUnsupported,
    CapacityFull,
    EngineTimeout,
)
from pybrix.sidecar.adapters import AdapterService
from pybrix.sidecar.artifacts.errors import ArtifactError
from pybrix.sidecar.artifacts.store import GivenUp
from pybrix.sidecar.downloads import ModelDownloads
from pybrix.sidecar.engine import EngineAdmin
from pybrix.sidecar.enginemetrics import translate_page
from pybrix.sidecar.errors import RequestError
from pybrix.sidecar.metrics import RequestMetrics, SidecarMetrics, own_families
from pybrix.sidecar.options import EngineKind, MetricsMode
from pybrix.sidecar.wire import (
    DelegatedLoad,
    ErrorAnswer,
    LoadAnswer,
    ModelCards,
    ModelDownload,
    ModelListing,
    UnloadAnswer,
    convert,
    parse_fields,
    parse_load,
    parse_unload,
)

log = structlog.get_logger()

_BODY_LIMIT_BYTES = 1024 * 1024
_PRESENCE_S = 0.5
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SidecarServer:
    """The endpoints.

    Args:
        admin: the engine.
        adapters: loads and unloads.
        downloads: models.
        kind: whose metrics the engine shows.
        metrics_path: where it shows them.
        metrics_mode: how they are shown here.
        registry: the sidecar's own metrics.
        own: those that read live objects; told whether the engine answered.
        clock: for durations.
    """

    def __init__(
        self,
        admin: EngineAdmin,
        adapters: AdapterService,
        downloads: ModelDownloads,
        *,
        kind: EngineKind,
        metrics_path: str,
        metrics_mode: MetricsMode,
        registry: CollectorRegistry,
        own: SidecarMetrics,
        clock: Clock,
    ) -> None:
        self._admin = admin
        self._adapters = adapters
        self._downloads = downloads
        self._kind = kind
        self._metrics_path = metrics_path
        self._metrics_mode = metrics_mode
        self._registry = registry
        self._own = own
        self._clock = clock
        self._requests = RequestMetrics(registry)

    def build(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[self._boundary])
        app.add_routes(
            [
                web.post("/v1/lora_adapter/load", self._load),
                web.post("/v1/lora_adapter/unload", self._unload),
                web.get("/v1/models", self._models),
                web.post("/v1/model/download", self._download),
                web.get("/v1/model/list", self._list),
                web.get("/healthz", self._healthz),
                web.get("/ready", self._ready),
                web.get("/metrics", self._metrics),
                web.route("*", "/v1/runtime/{rest:.*}", self._runtime),
            ]
        )
        return app

    @web.middleware
    async def _boundary(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn what is raised into answers, and count. Bodies are never logged: they hold credentials."""
        started_s = self._clock.monotonic_s()
        try:
            response = await handler(request)
        except RequestError as err:
            response = _error(err.status, err.reason, err.message, err.param)
        except ArtifactError as err:
            response = _error(err.status, err.reason, str(err))
        except AdapterError as err:
            response = _error(status_of(err), err.reason, err.message)
        except web.HTTPException as err:
            response = _error(err.status, "HttpError", err.reason)
        except ConnectionError:
            raise
        except Exception:
            log.exception("request failed", method=request.method, path=request.path)
            response = _error(500, "InternalError", "internal error, see the sidecar's log")
        resource = request.match_info.route.resource
        endpoint = resource.canonical if resource is not None else "other"
        method = request.method if request.method in ("GET", "POST", "HEAD") else "other"
        self._requests.note(method, endpoint, response.status, self._clock.monotonic_s() - started_s)
        return response

    async def _load(self, request: web.Request) -> web.StreamResponse:
        body = parse_load(await request.read())
        key = bearer_token(request.headers.get("Authorization", ""))
        if isinstance(body, DelegatedLoad):
            async with _presence(request) as given_up:
                loaded = await self._adapters.load(body, key or body.api_key, given_up)
            said = f"LoRA adapter '{body.lora_name}' {'was loaded already' if loaded.was_there else 'is loaded'}"
            return _json(LoadAnswer(message=said, local_path=loaded.path, engine_response=said))
        await self._adapters.load_direct(body, key)
        return web.Response(text=f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.StreamResponse:
        body = parse_unload(await request.read())
        was_there = await self._adapters.unload(body, bearer_token(request.headers.get("Authorization", "")))
        said = "is unloaded" if was_there else "was not loaded"
        return _json(UnloadAnswer(message=f"LoRA adapter '{body.lora_name}' {said}"))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        answer = await self._admin.fetch_models_page(request.headers.get("Authorization", ""))
        return web.Response(body=answer.body, status=answer.status, content_type=answer.content_type)

    async def _download(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._downloads.start(convert(parse_fields(await request.read()), ModelDownload)))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        # A GET with a body, which is optional.
        body = await request.read()
        local_dir = convert(parse_fields(body), ModelListing).local_dir if body.strip() else None
        return _json(ModelCards(data=await self._downloads.list_models(local_dir)))

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.StreamResponse:
        try:
            await self._admin.probe()
        except AdapterError as err:
            return web.json_response({"status": "unready", "reason": f"the engine: {err.message}"}, status=503)
        return web.json_response({"status": "ready"})

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        page = b""
        try:
            page = await self._admin.fetch_metrics(self._metrics_path)
            self._own.is_engine_up = True
        except AdapterError as err:
            self._own.is_engine_up = False
            log.debug("engine shows no metrics", error=err.message)
        if self._metrics_mode is MetricsMode.STANDARD:
            page = translate_page(page, self._kind, own_families(self._registry))
        if page and not page.endswith(b"\n"):
            page += b"\n"
        return web.Response(body=page + generate_latest(self._registry), headers={"Content-Type": _METRICS_TYPE})

    async def _runtime(self, _: web.Request) -> web.StreamResponse:
        raise RequestError(
            501, "NotImplemented", "this sidecar serves no ModelClaims: /v1/runtime is not implemented here"
        )


def status_of(err: AdapterError) -> int:
    """Return the HTTP status for what an engine did not do: 5xx where asking again may help."""
    if isinstance(err, AdapterUnsupported):
        return 501
    if isinstance(err, CapacityFull):
        return 507
    if isinstance(err, EngineTimeout):
        return 504
    if isinstance(err, AdapterRefused) and err.status is not None and 400 <= err.status < 500:
        return err.status
    return 502


def bearer_token(authorization: str) -> str:
    """Return the token of an `Authorization` header, empty when there is no header.

    Raises:
        RequestError: 400 for other schemes: engines know no others.
    """
    if not authorization:
        return ""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise RequestError(400, "InvalidRequest", "of Authorization, only Bearer is handed on to engines")
    return token.strip()


@asynccontextmanager
async def _presence(request: web.Request) -> AsyncIterator[GivenUp]:
    """Yield what is set when the client leaves. Its handler is not cancelled: an engine may be loading for it."""
    given_up: GivenUp = asyncio.get_running_loop().create_future()

    async def watch() -> None:
        while not given_up.done():
            await asyncio.sleep(_PRESENCE_S)
            if (request.transport is None or request.transport.is_closing()) and not given_up.done():
                given_up.set_result(RequestError(499, "ClientGone", "the client left"))

    watching = asyncio.create_task(watch())
    try:
        yield given_up
    finally:
        watching.cancel()


def _json(answer: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _error(status: int, reason: str, message: str, param: str | None = None) -> web.Response:
    answer = ErrorAnswer(error=message, message=message, type=reason, param=param, code=status)
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")
