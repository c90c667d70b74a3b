"""The simulator's HTTP server: vLLM's paths over aiohttp."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import uuid4

from aiohttp import web

import pybrix
from pybrix.base.clock import Clock, SystemClock
from pybrix.base.errors import UsageError
from pybrix.engine.openai import ChatCompletionRequest, CompletionRequest
from pybrix.simulator import protocol
from pybrix.simulator.adapterpaths import AdapterPaths
from pybrix.simulator.engine import Generation, SimulatedEngine
from pybrix.simulator.failures import FailureKind
from pybrix.simulator.multinode import NodesLost, RayNodes
from pybrix.simulator.options import SimulatorOptions

# The standard library's logger: aiohttp loads it anyway, and an engine should be up in a fraction of a second.
log = logging.getLogger("pybrix.simulator")

_BODY_LIMIT_BYTES = 256 * 1024 * 1024
# aiohttp takes 0 for "wait forever".
_AT_ONCE_S = 0.001
# What the gateway lets through must not fail here: Envoy takes 60 KiB of headers, the request line included.
_LONGEST_HEADER_BYTES = 60 * 1024
# vLLM's API key guards its `/v1`, SGLang's guards what changes it.
_PROTECTED = ("/v1", "/load_lora_adapter", "/unload_lora_adapter")
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SimulatorServer:
    """Answer vLLM's HTTP paths from a simulated engine."""

    def __init__(self, options: SimulatorOptions, engine: SimulatedEngine, clock: Clock) -> None:
        self._options = options
        self._engine = engine
        self._clock = clock
        self._created_s = int(clock.now().timestamp())
        self._chance = random.Random(options.seed)
        self._num_open = 0
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._is_draining = False

    def build(self) -> web.Application:
        """Return the application with all paths."""
        app = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[self._boundary])
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._completion),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/ping", self._health),
                web.post("/ping", self._health),
                web.get("/version", self._version),
                web.get("/load", self._load),
                web.post("/tokenize", self._tokenize),
                web.post("/detokenize", self._detokenize),
                web.get("/metrics", self._metrics),
            ]
        )
        app.add_routes(AdapterPaths(self._options.lora, self._engine).routes())
        return app

    async def drain(self, timeout_s: float) -> None:
        """Wait until no request is open, at most `timeout_s`; connections close as their requests end."""
        self._is_draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._all_closed.wait()

    @web.middleware
    async def _boundary(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the API key and turn what is raised into answers."""
        try:
            if self._options.api_keys and request.path.startswith(_PROTECTED):
                scheme, _, key = request.headers.get("Authorization", "").partition(" ")
                if scheme.lower() != "bearer" or key not in self._options.api_keys:
                    return web.json_response({"error": "Unauthorized"}, status=401)
            response = await handler(request)
        except protocol.RequestError as err:
            response = _json(protocol.render_error(err.status, err.message, err.param), err.status)
        except web.HTTPException as err:
            response = web.json_response({"detail": err.reason}, status=err.status)
        except ConnectionError:
            raise
        except Exception:
            log.exception("request failed: %s %s", request.method, request.path)
            response = _json(protocol.render_error(500, "Internal server error"), 500)
        if self._is_draining and not response.prepared:
            response.force_close()
        return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = protocol.parse_body(await request.read(), ChatCompletionRequest)
        return await self._generate(request, protocol.plan_chat(body, self._options, self._engine.adapters.find))

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        body = protocol.parse_body(await request.read(), CompletionRequest)
        work = protocol.plan_completion(body, self._options, self._engine.adapters.find)
        return await self._generate(request, work)

    async def _generate(self, request: web.Request, work: protocol.Work) -> web.StreamResponse:
        failure = await self._fail(request)
        try:
            generation = self._engine.submit(work)
        except ValueError as err:
            raise protocol.RequestError(400, str(err)) from err
        self._num_open += 1
        self._all_closed.clear()
        reason = "abort"
        try:
            request_id = (
                f"{'chatcmpl' if work.is_chat else 'cmpl'}-{request.headers.get('X-Request-Id') or uuid4().hex}"
            )
            answer = self._stream if work.is_streamed else self._answer
            response = await answer(request, work, generation, request_id, failure is FailureKind.CUT_STREAM)
            reason = work.finish_reason
            return response
        finally:
            # Also when the client has gone: aiohttp then cancels the handler.
            self._engine.finish(generation, reason)
            self._num_open -= 1
            if not self._num_open:
                self._all_closed.set()

    async def _answer(
        self, request: web.Request, work: protocol.Work, generation: Generation, request_id: str, is_cut: bool
    ) -> web.StreamResponse:
        num_tokens = await generation.wait_beyond(0)
        if is_cut:
            _cut(request)
        sequence = generation.sequence
        usage = protocol.usage_of(sequence.num_prompt, num_tokens, sequence.num_cached or 0)
        return _json(protocol.render_answer(work, request_id, int(self._clock.now().timestamp()), usage))

    async def _stream(
        self, request: web.Request, work: protocol.Work, generation: Generation, request_id: str, is_cut: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        # Like vLLM, before prefill: from here on a client cannot be served by anyone else.
        await response.prepare(request)
        renderer = protocol.StreamRenderer(work, request_id, int(self._clock.now().timestamp()))
        sequence = generation.sequence
        num_prompt, num_output = sequence.num_prompt, sequence.num_output
        num_sent = 0
        while num_sent < num_output:
            num_ready = await generation.wait_beyond(num_sent)
            num_cached = sequence.num_cached or 0
            events = [] if num_sent else [renderer.start(protocol.usage_of(num_prompt, 0, num_cached))]
            for index in range(num_sent, num_ready):
                if is_cut and index >= num_output // 2:
                    _cut(request)
                usage = protocol.usage_of(num_prompt, index + 1, num_cached) if work.continuous_usage else None
                events.append(renderer.token(index, usage))
            num_sent = num_ready
            if num_sent == num_output:
                events.append(renderer.end(protocol.usage_of(num_prompt, num_output, num_cached)))
            await response.write(b"".join(events))
        await response.write_eof()
        return response

    async def _fail(self, request: web.Request) -> FailureKind | None:
        """Let the failure happen that was drawn for this request, if one was; some happen later."""
        failure = self._options.failures.pick(self._chance)
        match failure:
            case FailureKind.DIE_BEFORE_HEADERS:
                os._exit(1)
            case FailureKind.RESET_BEFORE_HEADERS:
                _cut(request)
            case FailureKind.ERROR_500:
                raise protocol.RequestError(500, "This failure was asked for.")
            case FailureKind.ERROR_503:
                raise protocol.RequestError(503, "This failure was asked for.")
            case FailureKind.HANG:
                await asyncio.Event().wait()
        return failure

    async def _models(self, _: web.Request) -> web.StreamResponse:
        return _json(protocol.render_models(self._options, self._created_s, self._engine.adapters.adapters))

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return web.Response()

    async def _version(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"version": f"{pybrix.__version__}+simulator"})

    async def _load(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"server_load": self._engine.num_requests})

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        body = protocol.parse_body(await request.read(), protocol.TokenizeRequest)
        return _json(protocol.render_tokenize(body, self._options, self._engine.adapters.find))

    async def _detokenize(self, request: web.Request) -> web.StreamResponse:
        body = protocol.parse_body(await request.read(), protocol.DetokenizeRequest)
        return _json(protocol.render_detokenize(body, self._options, self._engine.adapters.find))

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        self._engine.note_adapters()
        page = self._engine.telemetry.render(self._engine.model)
        return web.Response(body=page, headers={"Content-Type": _METRICS_TYPE})


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _cut(request: web.Request) -> None:
    """Close the client's connection now, without what would properly end the answer."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("cut on purpose")


async def serve(options: SimulatorOptions, announce: Callable[[str], None]) -> None:
    """Run one engine until SIGTERM or SIGINT; `announce` gets a line when it listens and when it stops.

    Raises:
        UsageError: the address cannot be listened on.
        NodesLost: a node of its Ray cluster is lost; requests are dropped, as vLLM drops them.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if options.startup_s:
        # As an engine that loads its weights: the port is closed, and a signal ends it at once.
        with suppress(TimeoutError):
            async with asyncio.timeout(options.startup_s):
                await stopped.wait()
                return
    if not options.ray_address:
        await _serve(options, announce, stopped)
        return
    nodes = RayNodes(options.ray_address, options.ray_nodes)
    try:
        # The port is closed until the model is spread over all nodes.
        announce(f"waiting for {options.ray_nodes} nodes of the Ray cluster at {options.ray_address}")
        complete, ending = asyncio.create_task(nodes.wait_complete()), asyncio.create_task(stopped.wait())
        await asyncio.wait({complete, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.is_set():
            await _serve_while_complete(options, announce, stopped, nodes)
        complete.cancel()
        ending.cancel()
    finally:
        await nodes.stop()


async def _serve_while_complete(
    options: SimulatorOptions, announce: Callable[[str], None], stopped: asyncio.Event, nodes: RayNodes
) -> None:
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(nodes, stopped), name="ray-nodes")
        await _serve(options, announce, stopped)
        if not watching.done():
            watching.cancel()
            return
    if (lost := watching.result()) is not None:
        raise lost


async def _watch(nodes: RayNodes, stopped: asyncio.Event) -> NodesLost | None:
    """Stop the engine when a node is lost, and return what is wrong."""
    try:
        await nodes.watch()
    except NodesLost as lost:
        log.error("%s", lost)
        stopped.set()
        return lost
    return None


async def _serve(options: SimulatorOptions, announce: Callable[[str], None], stopped: asyncio.Event) -> None:
    """Listen and answer until `stopped` is set."""
    clock = SystemClock()
    engine = SimulatedEngine(options, clock)
    server = SimulatorServer(options, engine, clock)
    # `handler_cancellation`: a client that goes away ends its handler, which aborts its sequence.
    runner = web.AppRunner(
        server.build(),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_AT_ONCE_S,
        handle_signals=False,
        max_line_size=_LONGEST_HEADER_BYTES,
        max_field_size=_LONGEST_HEADER_BYTES,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port, backlog=1024)
        try:
            await site.start()
        except OSError as err:
            raise UsageError(
                f"cannot listen on {options.host}:{options.port}: {os.strerror(err.errno or 0)}",
                "choose another --port, or end what uses it",
            ) from err
        async with asyncio.TaskGroup() as tasks:
            steps = tasks.create_task(engine.run(), name="engine-steps")
            # What exists by now stays: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            host, port = runner.addresses[0][:2]
            announce(f"{', '.join(options.served_model_names)} on http://{host}:{port}")
            await stopped.wait()
            if options.drain_on_sigterm_s:
                await site.stop()
                await server.drain(options.drain_on_sigterm_s)
            announce(f"stopping, {engine.num_requests} requests dropped")
            steps.cancel()
    finally:
        await runner.cleanup()
