"""The simulator's paths that load and unload adapters: vLLM's, SGLang's, and one that makes loads fail."""

from __future__ import annotations

import os

from aiohttp import web

from pybrix.base.errors import UsageError
from pybrix.simulator import loraprotocol, protocol
from pybrix.simulator.engine import SimulatedEngine
from pybrix.simulator.lora import LoraError, LoraOptions, parse_lora_failures


class AdapterPaths:
    """Answer requests about adapters from a simulated engine."""

    def __init__(self, options: LoraOptions, engine: SimulatedEngine) -> None:
        self._options = options
        self._engine = engine

    def routes(self) -> list[web.RouteDef]:
        """Return the paths that there are: vLLM's only where it is allowed."""
        routes = [
            web.post("/load_lora_adapter", self._load_sglang),
            web.post("/unload_lora_adapter", self._unload_sglang),
            web.post("/simulator/lora", self._change),
        ]
        if self._options.allows_updating:
            routes.append(web.post("/v1/load_lora_adapter", self._load))
            routes.append(web.post("/v1/unload_lora_adapter", self._unload))
        return routes

    async def _load(self, request: web.Request) -> web.StreamResponse:
        _check_is_json(request)
        body = protocol.parse_body(await request.read(), loraprotocol.LoadRequest)
        try:
            await self._load_into_engine(body)
        except LoraError as err:
            return self._refuse(err)
        return web.Response(body=loraprotocol.render_vllm_success(body.lora_name, is_load=True))

    async def _unload(self, request: web.Request) -> web.StreamResponse:
        _check_is_json(request)
        body = protocol.parse_body(await request.read(), loraprotocol.UnloadRequest)
        try:
            await self._engine.unload_adapter(body.lora_name)
        except LoraError as err:
            return self._refuse(err)
        return web.Response(body=loraprotocol.render_vllm_success(body.lora_name, is_load=False))

    def _refuse(self, err: LoraError) -> web.Response:
        status, body = loraprotocol.render_vllm_error(err, self._options.max_loaded_loras)
        return _json(status, body)

    async def _load_sglang(self, request: web.Request) -> web.StreamResponse:
        body = protocol.parse_body(await request.read(), loraprotocol.LoadRequest)
        try:
            await self._load_into_engine(body)
        except LoraError as err:
            return self._tell_adapters(err)
        return self._tell_adapters()

    async def _unload_sglang(self, request: web.Request) -> web.StreamResponse:
        body = protocol.parse_body(await request.read(), loraprotocol.UnloadRequest)
        try:
            await self._engine.unload_adapter(body.lora_name)
        except LoraError as err:
            return self._tell_adapters(err)
        return self._tell_adapters()

    def _tell_adapters(self, err: LoraError | None = None) -> web.Response:
        adapters = self._engine.adapters.adapters
        status, body = loraprotocol.render_sglang(adapters, err, self._options.max_loaded_loras)
        return _json(status, body)

    async def _load_into_engine(self, body: loraprotocol.LoadRequest) -> None:
        path = body.lora_path
        # A path that is not absolute may be a repository of the model hub, which has everything.
        has_files = not path.startswith("/") or os.path.isfile(os.path.join(path, "adapter_config.json"))
        await self._engine.load_adapter(body.lora_name, path, in_place=body.load_inplace, has_files=has_files)

    async def _change(self, request: web.Request) -> web.StreamResponse:
        """Let loads fail or take longer from now on; tests ask for it."""
        body = protocol.parse_body(await request.read(), loraprotocol.FailureRequest)
        try:
            failures = None if body.failures is None else parse_lora_failures(body.failures)
        except UsageError as err:
            raise protocol.RequestError(400, str(err), "failures") from err
        if failures is not None:
            self._engine.adapters.fail(failures)
        if body.load_s is not None:
            self._engine.adapters.load_s = body.load_s
        return web.json_response({})


def _check_is_json(request: web.Request) -> None:
    if request.content_type != "application/json":
        raise protocol.RequestError(400, "Unsupported Media Type: Only 'application/json' is allowed")


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
