"""The adapter client over real HTTP."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from pybrix.engine.adapterclient import AdapterClient, open_adapter_client
from pybrix.engine.adapters import (
    AdapterRefused,
    AdapterSource,
    AdapterTarget,
    EngineTimeout,
    EngineUnreachable,
    ServedModel,
    SidecarNeeded,
)
from tests.support.scriptedhttp import json_answer, serving, text_answer


async def _hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def _break(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


async def test_what_is_sent() -> None:
    async with serving() as engine, open_adapter_client() as client:
        engine.on("GET /v1/models", json_answer({"data": [{"id": "m"}]}))
        engine.on("POST /v1/load_lora_adapter", text_answer("Success"))
        engine.on("POST /v1/unload_lora_adapter", text_answer("Success"))
        target = AdapterTarget(engine.url, api_key="k")
        assert await client.list_models(target, deadline_s=50) == (ServedModel(id="m"),)
        await client.load(target, AdapterSource("sql", "/loras/sql"), deadline_s=50)
        await client.unload(target, "sql", deadline_s=50)
    assert [(asked.method, asked.path, asked.body) for asked in engine.asked] == [
        ("GET", "/v1/models", b""),
        ("POST", "/v1/load_lora_adapter", b'{"lora_name":"sql","lora_path":"/loras/sql"}'),
        ("POST", "/v1/unload_lora_adapter", b'{"lora_name":"sql"}'),
    ]
    assert {asked.headers["Authorization"] for asked in engine.asked} == {"Bearer k"}
    assert engine.asked[1].headers["Content-Type"] == "application/json"


async def test_an_artifact_that_needs_a_sidecar_is_not_asked_for() -> None:
    async with serving() as engine, open_adapter_client() as client:
        with pytest.raises(SidecarNeeded):
            await client.load(AdapterTarget(engine.url), AdapterSource("sql", "s3://b/sql"), deadline_s=50)
    assert engine.asked == []


async def test_a_deadline_is_kept() -> None:
    async with serving() as engine, open_adapter_client() as client, asyncio.timeout(60):
        engine.on("POST /v1/load_lora_adapter", _hang)
        with pytest.raises(EngineTimeout, match="no answer within"):
            await client.load(AdapterTarget(engine.url), AdapterSource("sql", "/x"), deadline_s=0.05)


async def test_a_broken_connection_is_an_unreachable_engine() -> None:
    async with serving() as engine, open_adapter_client() as client:
        engine.on("POST /v1/load_lora_adapter", _break)
        with pytest.raises(EngineUnreachable):
            await client.load(AdapterTarget(engine.url), AdapterSource("sql", "/x"), deadline_s=50)


async def test_nobody_listening_is_an_unreachable_engine(unused_tcp_port: int) -> None:
    async with open_adapter_client() as client:
        with pytest.raises(EngineUnreachable):
            await client.list_models(AdapterTarget(f"http://127.0.0.1:{unused_tcp_port}"), deadline_s=50)


async def test_no_url_is_an_unreachable_engine() -> None:
    async with open_adapter_client() as client:
        with pytest.raises(EngineUnreachable):
            await client.list_models(AdapterTarget("http://"), deadline_s=50)


async def test_an_endless_error_is_read_only_as_far_as_needed() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"no " * 1000)

    async with serving() as engine, open_adapter_client() as client, asyncio.timeout(60):
        engine.on("GET /v1/models", endless)
        with pytest.raises(AdapterRefused, match="no no no") as caught:
            await client.list_models(AdapterTarget(engine.url), deadline_s=50)
    assert caught.value.status == 500


async def test_a_list_without_an_end_is_refused() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)

    async with serving() as engine, open_adapter_client() as client, asyncio.timeout(60):
        engine.on("GET /v1/models", endless)
        with pytest.raises(AdapterRefused, match="more than"):
            await client.list_models(AdapterTarget(engine.url), deadline_s=50)


async def test_redirects_are_not_followed() -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/v1/elsewhere")

    async with serving() as engine, open_adapter_client() as client:
        engine.on("POST /v1/load_lora_adapter", elsewhere)
        engine.on("POST /v1/elsewhere", text_answer("Success"))
        with pytest.raises(AdapterRefused) as caught:
            await client.load(AdapterTarget(engine.url), AdapterSource("sql", "/x"), deadline_s=50)
    assert caught.value.status == 307
    assert len(engine.asked) == 1


async def test_a_session_can_be_lent() -> None:
    async with serving() as engine, aiohttp.ClientSession() as session:
        engine.on("GET /v1/models", json_answer({"data": []}))
        assert await AdapterClient(session).list_models(AdapterTarget(engine.url + "/"), deadline_s=50) == ()
