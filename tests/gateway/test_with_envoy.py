"""The brain and a real Envoy together: what a client sees, and what the brain knows afterwards."""

from __future__ import annotations

import asyncio
import json
import tempfile
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess
from pybrix.envoy.wire import FALLBACK_STRATEGY
from pybrix.gateway import app
from tests.support.brains import BrainAddress, running_brain
from tests.support.gateway import DEFAULT_STRATEGY, make_adapter, make_pod, make_slice
from tests.support.gateway_parts import PATIENT_MS, STREAM_HEAD, Engine, Request, chunk, free_port
from tests.support.podapi import PodApi
from tests.support.waiting import until, until_now

CHAT = "/v1/chat/completions"
RENEWAL_S = 1.0


@dataclass
class Gateway:
    config: GatewayConfiguration
    address: BrainAddress
    api: PodApi
    engines: list[Engine]
    client: aiohttp.ClientSession

    async def chat(self, model: str = "m", **headers: str) -> tuple[int, dict[str, str], Any]:
        async with self.client.post(CHAT, json={"model": model}, headers=headers) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.json()

    async def is_decided_by_the_brain(self) -> bool:
        return (await self.chat())[1].get("routing-strategy") == DEFAULT_STRATEGY

    async def state(self) -> Any:
        return (await self.address.admin("/debug/view"))[1]


def pod_of(engine: Engine, **options: Any) -> Any:
    labels = {"model.aibrix.ai/port": str(engine.pod.port)}
    return make_pod(engine.pod.pod_name, uid=engine.pod.pod_uid, ip=engine.pod.address, labels=labels, **options)


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pb")))
        paths = EnvoyPaths(base / "run", base / "gateway")
        config = GatewayConfiguration(
            port=free_port(),
            reservation_renewal_s=RENEWAL_S,
            drain_timeout_s=1,
            decision_timeout_ms=PATIENT_MS,
        )
        port = free_port()
        engines = [Engine(f"pod-{n}", f"127.66.1.{n + 1}", port) for n in range(3)]
        for engine in engines:
            await engine.start()
            stack.push_async_callback(engine.kill)
        api = PodApi(*[pod_of(engine) for engine in engines], make_pod("sleepy", model="slow", ready=False))
        envoy = await EnvoyProcess.start(config, paths, binary=find_envoy())
        stack.push_async_callback(envoy.stop)
        client = await stack.enter_async_context(aiohttp.ClientSession(f"http://{config.address}:{config.port}"))
        yield Gateway(config, BrainAddress(paths.run_dir, paths.gateway_dir), api, engines, client)


async def test_requests_are_spread_refused_and_settled(gateway: Gateway) -> None:
    async with running_brain(gateway.address, gateway.api, gateway.config):
        await until(lambda: reaches(gateway))
        answers = await asyncio.gather(*[gateway.chat() for _ in range(30)])
        assert [status for status, _, _ in answers] == [200] * 30
        assert set(Counter(headers["target-pod"] for _, headers, _ in answers)) == {"pod-0", "pod-1", "pod-2"}
        assert {headers["routing-strategy"] for _, headers, _ in answers} == {DEFAULT_STRATEGY}
        assert (await gateway.chat(**{"routing-strategy": "random"}))[1]["routing-strategy"] == "random"

        status, headers, body = await gateway.chat("unknown")
        assert (status, headers["x-error-no-model-backends"], body["error"]["code"]) == (
            404,
            "unknown",
            "model_not_found",
        )
        assert "slow" in body["error"]["message"]
        status, headers, body = await gateway.chat("slow")
        assert (status, headers["retry-after"], body["error"]["type"]) == (503, "5", "overloaded_error")
        status, _, body = await gateway.chat(**{"routing-strategy": "dice"})
        assert (status, "incorrect routing strategy dice" in body["error"]["message"]) == (400, True)

        await until(gateway.address.is_idle)
        endpoints = next(m for m in (await gateway.state())["models"] if m["model"] == "m")["endpoints"]
        assert sum(e["outcomes"]["byStatusClass"]["2xx"] for e in endpoints) >= 31


async def test_an_adapter_is_routed_to_by_the_event_of_its_slice_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HOUSEKEEPING_S", 3600.0)
    async with running_brain(gateway.address, gateway.api, gateway.config):
        await until(lambda: reaches(gateway))
        gateway.api.put(make_adapter("lora", ready=False, phase="Pending", message="no candidate pods"))

        async def answers(status: int) -> bool:
            return (await gateway.chat("lora"))[0] == status

        await until(lambda: answers(503))
        _, headers, body = await gateway.chat("lora")
        assert (headers["retry-after"], "no candidate pods" in body["error"]["message"]) == ("5", True)
        gateway.api.put(make_slice("lora", gateway.engines[1].pod.pod_uid))
        await until(lambda: answers(200))
        assert {(await gateway.chat("lora"))[1]["target-pod"] for _ in range(6)} == {"pod-1"}
        async with gateway.client.get("/v1/models") as answer:
            entries = {entry["id"]: entry for entry in (await answer.json())["data"]}
        assert (entries["lora"]["parent"], entries["m"].get("parent")) == ("m", None)
        async with gateway.client.get("/v1/models/lora") as answer:
            assert await answer.json() == entries["lora"]
    # Without the brain, Envoy's own choice is among the adapter's pods as well.
    for _ in range(6):
        status, headers, _ = await gateway.chat("lora")
        assert (status, headers["target-pod"], headers["routing-strategy"]) == (200, "pod-1", FALLBACK_STRATEGY)


async def test_the_pods_configuration_and_the_clients_headers_decide(gateway: Gateway) -> None:
    config = {
        "defaultProfile": "usual",
        "profiles": {
            "usual": {"routingStrategy": "random:2,throughput"},
            "locked": {"lockedRoutingStrategy": "random"},
        },
    }
    for engine in gateway.engines:
        pod = pod_of(engine, annotations={"model.aibrix.ai/config": json.dumps(config)})
        pod.metadata.labels["place"] = engine.pod.pod_name
        gateway.api.put(pod)
    async with running_brain(gateway.address, gateway.api, gateway.config):

        async def is_configured() -> bool:
            with suppress(aiohttp.ClientError):
                return (await gateway.chat())[1].get("x-aibrix-config-profile") == "usual"
            return False

        await until(is_configured)
        _, headers, _ = await gateway.chat()
        assert headers["routing-strategy"] == "random:2,throughput"
        assert "x-session-id" not in headers
        _, headers, _ = await gateway.chat(**{"config-profile": "locked", "routing-strategy": "throughput"})
        assert (headers["routing-strategy"], headers["x-aibrix-config-profile"]) == ("random", "locked")

        status, headers, _ = await gateway.chat(**{"routing-strategy": "session-affinity", "x-pybrix-session": "mine"})
        pod, session = headers["target-pod"], headers["x-session-id"]
        assert (status, session) == (200, b64encode(headers["target-pod-ip"].encode()).decode())
        bound = {"routing-strategy": "session-affinity:9,random", "x-session-id": session}
        assert {(await gateway.chat(**bound))[1]["target-pod"] for _ in range(6)} == {pod}

        wanted = {"external-filter": "place in (pod-1)"}
        assert {(await gateway.chat(**wanted))[1]["target-pod"] for _ in range(6)} == {"pod-1"}
        status, headers, body = await gateway.chat(**{"external-filter": "place=nowhere"})
        assert (status, headers["x-error-routing"], headers["retry-after"]) == (503, "true", "5")
        assert "place is 'pod-" in body["error"]["message"]
        assert (await gateway.chat(**{"external-filter": "("}))[0] == 400
    # Without the brain, nothing a client sends becomes a header of the answer.
    _, headers, _ = await gateway.chat(**{"x-pybrix-session": "mine", "x-pybrix-profile": "mine"})
    assert headers["routing-strategy"] == FALLBACK_STRATEGY
    assert not {"x-session-id", "x-aibrix-config-profile"} & set(headers)


async def reaches(gateway: Gateway) -> bool:
    try:
        return await gateway.is_decided_by_the_brain()
    except (aiohttp.ClientError, KeyError):
        return False


async def test_an_engine_that_resets_is_charged_and_the_client_sees_nothing(gateway: Gateway) -> None:
    async def reset(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with running_brain(gateway.address, gateway.api, gateway.config):
        await until(lambda: reaches(gateway))
        gateway.engines[0].reply = reset
        answers = await asyncio.gather(*[gateway.chat() for _ in range(30)])
        assert [status for status, _, _ in answers] == [200] * 30
        assert "pod-0" not in {headers["target-pod"] for _, headers, _ in answers}
        await until(gateway.address.is_idle)
        endpoints = {e["pod"]: e for m in (await gateway.state())["models"] for e in m["endpoints"]}
        assert endpoints["pod-0"]["outcomes"]["failedAttempts"] > 0
        assert endpoints["pod-1"]["outcomes"]["failedAttempts"] == 0


async def test_a_long_stream_stays_reserved_also_for_the_next_brain(gateway: Gateway) -> None:
    go_on = asyncio.Event()

    async def stream(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await writer.drain()
        await go_on.wait()
        usage = {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}
        writer.write(chunk(f"data: {json.dumps(usage)}\n\n".encode()) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with running_brain(gateway.address, gateway.api, gateway.config):
        await until(lambda: reaches(gateway))
        await until(gateway.address.is_idle)
        for engine in gateway.engines:
            engine.reply = stream
        answer = await gateway.client.post(CHAT, json={"model": "m", "stream": True})
        pod = answer.headers["target-pod"]

        async def is_renewed() -> bool:
            text: str = (await gateway.address.admin("/metrics"))[1]
            return 'records_total{kind="renewal"}' in text

        await until(is_renewed)
        assert await gateway.address.held() == 1

    async with running_brain(gateway.address, gateway.api, gateway.config):

        async def is_adopted() -> bool:
            return await gateway.address.held() == 1

        await until(is_adopted)
        endpoints = {e["pod"]: e for m in (await gateway.state())["models"] for e in m["endpoints"]}
        assert endpoints[pod]["requestsInFlight"] == 1
        go_on.set()
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        await until(gateway.address.is_idle)
        endpoints = {e["pod"]: e for m in (await gateway.state())["models"] for e in m["endpoints"]}
        assert (endpoints[pod]["outcomes"]["promptTokens"], endpoints[pod]["outcomes"]["completionTokens"]) == (7, 3)


async def test_no_request_fails_while_the_brain_comes_and_goes(gateway: Gateway) -> None:
    seen: Counter[tuple[int, str]] = Counter()
    ended = asyncio.Event()

    async def load() -> None:
        while not ended.is_set():
            status, headers, _ = await gateway.chat()
            seen[status, headers.get("routing-strategy", "")] += 1

    async with asyncio.TaskGroup() as tasks:
        for turn in range(3):
            async with running_brain(gateway.address, gateway.api, gateway.config):
                await until(lambda: reaches(gateway))
                if turn == 0:
                    for _ in range(4):
                        tasks.create_task(load())
                await answered(seen, DEFAULT_STRATEGY)
            await answered(seen, FALLBACK_STRATEGY)
        ended.set()
    assert set(seen) == {(200, DEFAULT_STRATEGY), (200, FALLBACK_STRATEGY)}, seen


async def answered(seen: Counter[tuple[int, str]], strategy: str) -> None:
    """Wait for 20 more answers of a strategy."""
    want = seen[200, strategy] + 20
    await until_now(lambda: seen[200, strategy] >= want)


async def test_a_pod_that_turns_not_ready_gets_no_further_request(gateway: Gateway) -> None:
    async with running_brain(gateway.address, gateway.api, gateway.config):
        await until(lambda: reaches(gateway))
        gateway.api.put(pod_of(gateway.engines[0], ready=False))

        await until_now(lambda: "127.66.1.1" not in gateway.address.endpoints())
        answers = await asyncio.gather(*[gateway.chat() for _ in range(20)])
        assert {headers["target-pod"] for _, headers, _ in answers} == {"pod-1", "pod-2"}
