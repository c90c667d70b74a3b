"""Explanations in answers, through a real Envoy: for who has the admin token, and for nobody else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from pybrix.api.config import GatewayConfiguration, IdentityConfiguration
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess
from tests.support.brains import BrainAddress, running_brain
from tests.support.gateway import DEFAULT_STRATEGY, make_pod
from tests.support.gateway_parts import PATIENT_MS, Engine, free_port
from tests.support.podapi import PodApi
from tests.support.waiting import until

TOKEN = "0123456789abcdef0123456789abcdef"
CHAT = "/v1/chat/completions"
ASKED = {"x-pybrix-explain": "1", "x-pybrix-admin-token": TOKEN}


@dataclass
class Served:
    address: BrainAddress
    engine: Engine
    client: aiohttp.ClientSession

    async def chat(self, headers: dict[str, str], model: str = "m") -> tuple[int, dict[str, str]]:
        async with self.client.post(CHAT, json={"model": model}, headers=headers) as answer:
            await answer.read()
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}

    async def is_decided(self) -> bool:
        try:
            return (await self.chat({}))[1].get("routing-strategy") == DEFAULT_STRATEGY
        except aiohttp.ClientConnectionError:
            return False

    async def kept(self, request_id: str) -> tuple[int, Any]:
        return await self.address.admin(f"/debug/requests/{request_id}")

    async def is_over(self, request_id: str) -> bool:
        _, document = await self.kept(request_id)
        return bool(document.get("outcome"))


@asynccontextmanager
async def serving(*, has_token: bool) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ex")))
        paths = EnvoyPaths(base / "run", base / "gateway")
        (base / "token").write_text(TOKEN)
        identity = IdentityConfiguration(admin_token_path=str(base / "token") if has_token else "")
        config = GatewayConfiguration(
            port=free_port(), identity=identity, drain_timeout_s=1, decision_timeout_ms=PATIENT_MS
        )
        engine = Engine("a", "127.66.3.1", free_port())
        await engine.start()
        stack.push_async_callback(engine.kill)
        labels = {"model.aibrix.ai/port": str(engine.pod.port)}
        api = PodApi(make_pod("a", ip=engine.pod.address, labels=labels))
        envoy = await EnvoyProcess.start(config, paths, binary=find_envoy())
        stack.push_async_callback(envoy.stop)
        client = await stack.enter_async_context(aiohttp.ClientSession(f"http://{config.address}:{config.port}"))
        served = Served(BrainAddress(paths.run_dir, paths.gateway_dir), engine, client)
        await stack.enter_async_context(running_brain(served.address, api, config))
        await until(served.is_decided)
        await until(served.address.is_idle)
        served.engine.requests.clear()
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with serving(has_token=True) as found:
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_answer_carries_its_explanation_and_its_id_is_found_later(served: Served) -> None:
    status, headers = await served.chat(ASKED)
    assert status == 200
    document = json.loads(headers["x-pybrix-explanation"])
    assert document["requestId"] == headers["request-id"]
    assert "0 requests in flight" in document["candidates"][0]["why"]
    told = served.engine.requests[-1].headers
    assert not {"x-pybrix-explain", "x-pybrix-admin-token", "x-pybrix-explanation"} & set(told)

    await until(lambda: served.is_over(headers["request-id"]))
    _, later = await served.kept(headers["request-id"])
    assert (later["outcome"]["state"], later["outcome"]["pod"]) == ("ended 200", "a")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x-pybrix-explain": "1"}, id="no token"),
        pytest.param({**ASKED, "x-pybrix-admin-token": TOKEN[:-1]}, id="another token"),
        pytest.param({"x-pybrix-explain": "1", "authorization": f"Bearer {TOKEN}"}, id="the token elsewhere"),
        pytest.param({"x-pybrix-admin-token": TOKEN}, id="not asked"),
        pytest.param({"x-pybrix-explanation": "{}"}, id="an explanation of the client's own"),
    ],
)
async def test_others_are_told_nothing_and_no_engine_sees_the_headers(served: Served, headers: dict[str, str]) -> None:
    status, answered = await served.chat(headers)
    assert status == 200
    assert "x-pybrix-explanation" not in answered
    told = served.engine.requests[-1].headers
    assert not {"x-pybrix-explain", "x-pybrix-admin-token"} & set(told)


async def test_a_refusal_is_explained(served: Served) -> None:
    status, headers = await served.chat({**ASKED, "external-filter": "disk=ssd"})
    document = json.loads(headers["x-pybrix-explanation"])
    assert document["refused"]["status"] == status
    assert document["excluded"][0]["pod"] == "a"
    _, kept = await served.kept(headers["request-id"])
    assert kept["refused"] == document["refused"]


async def test_without_an_admin_token_the_headers_never_reach_the_brain() -> None:
    async with serving(has_token=False) as served:
        status, headers = await served.chat(ASKED)
        assert status == 200
        assert "x-pybrix-explanation" not in headers
        assert not {"x-pybrix-explain", "x-pybrix-admin-token"} & set(served.engine.requests[-1].headers)
        assert (await served.kept(headers["request-id"]))[0] == 200


async def test_what_envoy_routes_alone_is_stripped_as_well(served: Served) -> None:
    served.address.stop.set()

    async def is_alone() -> bool:
        return (await served.chat(ASKED))[1].get("routing-strategy") == "fallback-least-request"

    await until(is_alone)
    assert not {"x-pybrix-explain", "x-pybrix-admin-token"} & set(served.engine.requests[-1].headers)
