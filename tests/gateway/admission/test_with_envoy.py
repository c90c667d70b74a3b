"""Users, keys and limits as clients and administrators meet them: real Envoy, real brain, real Redis."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pybrix.api.config import GatewayConfiguration, IdentityConfiguration
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess
from pybrix.envoy.wire import FALLBACK_STRATEGY
from pybrix.gateway.admin import SOCKET_NAME
from pybrix.gateway.admission.counter import lease_limit
from tests.support.brains import BrainAddress, running_brain
from tests.support.gateway import DEFAULT_STRATEGY, make_pod
from tests.support.gateway_parts import PATIENT_MS, Engine, Request, free_port, response
from tests.support.podapi import PodApi
from tests.support.redisserver import running_redis
from tests.support.waiting import until

CHAT = "/v1/chat/completions"
USAGE = {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}


@dataclass
class Installed:
    """One Envoy with the place of its brain."""

    config: GatewayConfiguration
    address: BrainAddress
    client: aiohttp.ClientSession

    async def admin(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connector = aiohttp.UnixConnector(str(self.address.run_dir / SOCKET_NAME))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://brain{path}", json=body) as answer,
        ):
            return answer.status, await answer.json()

    async def chat(self, key: str = "", **headers: str) -> tuple[int, dict[str, str], Any]:
        if key:
            headers["Authorization"] = f"Bearer {key}"
        async with self.client.post(CHAT, json={"model": "m", "max_tokens": 5}, headers=headers) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.json()

    async def has(self, status: int, key: str, strategy: str = "") -> bool:
        try:
            found, headers, _ = await self.chat(key)
        except aiohttp.ClientError:
            return False
        return found == status and strategy in {"", headers.get("routing-strategy")}

    async def limits(self) -> Any:
        return (await self.address.admin("/debug/view"))[1]["limits"]

    async def is_settled(self) -> bool:
        return bool((await self.limits())["requestsCharged"] == 0)


async def answer_with_usage(request: Request, writer: asyncio.StreamWriter) -> None:
    said = {"headers": dict(request.headers), **USAGE}
    writer.write(response(200, {"content-type": "application/json"}, json.dumps(said).encode()))


@asynccontextmanager
async def installed(number: int = 0, **options: Any) -> AsyncIterator[tuple[Installed, PodApi]]:
    async with AsyncExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pb")))
        paths = EnvoyPaths(base / "run", base / "gateway")
        config = GatewayConfiguration(port=free_port(), drain_timeout_s=1, decision_timeout_ms=PATIENT_MS)
        config = msgspec.structs.replace(config, **options)
        engine = Engine("pod-0", f"127.66.{30 + number}.1", free_port())
        engine.reply = answer_with_usage
        await engine.start()
        stack.push_async_callback(engine.kill)
        labels = {"model.aibrix.ai/port": str(engine.pod.port)}
        api = PodApi(make_pod("pod-0", uid=engine.pod.pod_uid, ip=engine.pod.address, labels=labels))
        envoy = await EnvoyProcess.start(config, paths, binary=find_envoy())
        stack.push_async_callback(envoy.stop)
        client = await stack.enter_async_context(aiohttp.ClientSession(f"http://{config.address}:{config.port}"))
        yield Installed(config, BrainAddress(paths.run_dir, paths.gateway_dir), client), api


KEYS_REQUIRED = IdentityConfiguration(is_api_key_required=True)
HEADER_TRUSTED = IdentityConfiguration(is_user_header_trusted=True)


async def test_a_key_lets_in_with_the_brain_and_without_and_nothing_else_does() -> None:
    async with installed(identity=KEYS_REQUIRED) as (gateway, api):
        async with running_brain(gateway.address, api, gateway.config):
            assert await gateway.admin("POST", "/CreateUser", {"name": "alice", "rpm": 0, "tpm": 0}) == (
                200,
                {"message": "Created User: alice", "user": {"name": "alice", "rpm": 0, "tpm": 0}},
            )
            status, made = await gateway.admin("POST", "/keys", {"user": "alice"})
            assert (status, made["user"]) == (201, "alice")
            key = made["key"]
            await until(lambda: gateway.has(200, key, DEFAULT_STRATEGY))
            status, headers, body = await gateway.chat(key)
            assert (status, body["headers"]["x-pybrix-user"]) == (200, "alice")
            assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-tokens"]) == ("100", "100000")
            assert int(headers["x-ratelimit-remaining-requests"]) < 100
            await refused(gateway, key)
            for file in gateway.address.data_dir.rglob("*"):
                assert not file.is_file() or key.encode() not in file.read_bytes()
        # The brain is gone.
        await until(lambda: gateway.has(200, key, FALLBACK_STRATEGY))
        await refused(gateway, key)
        # The next one knows the key from its file, and takes it away.
        async with running_brain(gateway.address, api, gateway.config):
            await until(lambda: gateway.has(200, key, DEFAULT_STRATEGY))
            assert (await gateway.admin("DELETE", f"/keys/{made['id']}"))[0] == 200
            await until(lambda: gateway.has(401, key))
        await refused(gateway, key)
        assert await gateway.has(401, key)


async def refused(gateway: Installed, key: str) -> None:
    for headers in ({}, {"user": "alice"}, {"x-pybrix-user": "alice"}, {"Authorization": f"Bearer {key[:-1]}_"}):
        status, _, body = await gateway.chat(**headers)
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")


async def test_limits_are_enforced_and_real_usage_is_charged() -> None:
    async with (
        installed(identity=HEADER_TRUSTED) as (gateway, api),
        running_brain(gateway.address, api, gateway.config),
    ):
        await gateway.admin("POST", "/CreateUser", {"name": "alice", "rpm": 3, "tpm": 1000})
        await until(lambda: gateway.has(200, "", DEFAULT_STRATEGY))
        assert "x-ratelimit-limit-requests" not in (await gateway.chat())[1]
        answers = [await gateway.chat(user="alice") for _ in range(4)]
        assert [status for status, _, _ in answers] == [200, 200, 200, 429]
        _, headers, body = answers[3]
        assert body["error"] == {
            "message": "user: alice has exceeded RPM: 3",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        assert headers["x-error-rpm-exceeded"] == "true"
        assert 1 <= int(headers["retry-after"]) <= 61
        assert headers["x-ratelimit-remaining-requests"] == "0"
        await until(gateway.is_settled)
        # Three answers of ten tokens.
        assert (await gateway.chat(user="alice"))[1]["x-ratelimit-remaining-tokens"] == "970"

        status, headers, body = await gateway.chat(user="mallory")
        assert (status, headers["x-error-user"]) == (401, "true")
        assert body["error"]["message"] == "user: mallory does not exist"

        await gateway.admin("POST", "/UpdateUser", {"name": "alice", "rpm": 100, "tpm": 35})
        status, headers, body = await gateway.chat(user="alice")
        assert (status, headers["x-error-tpm-exceeded"]) == (429, "true")
        assert body["error"]["message"] == "user: alice has exceeded TPM: 35"


async def test_the_header_of_a_client_is_nobody_unless_it_is_trusted() -> None:
    async with installed() as (gateway, api), running_brain(gateway.address, api, gateway.config):
        await gateway.admin("POST", "/CreateUser", {"name": "alice", "rpm": 1, "tpm": 0})
        await until(lambda: gateway.has(200, "", DEFAULT_STRATEGY))
        answers = [await gateway.chat(user=name) for name in ("alice", "alice", "mallory")]
        assert [status for status, _, _ in answers] == [200, 200, 200]


async def test_two_gateways_on_one_redis_share_a_limit_and_go_on_without_it() -> None:
    limit = 50
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_redis())
        both: list[Installed] = []
        for number in range(2):
            gateway, api = await stack.enter_async_context(
                installed(number, identity=HEADER_TRUSTED, redis=server.config)
            )
            await stack.enter_async_context(running_brain(gateway.address, api, gateway.config))
            both.append(gateway)
        for gateway in both:
            await until(lambda g=gateway: g.has(200, "", DEFAULT_STRATEGY))  # type: ignore[misc]
            assert (await gateway.limits())["limits"] == "shared"
        await both[0].admin("POST", "/CreateUser", {"name": "alice", "rpm": limit, "tpm": 0})
        assert (await both[1].admin("POST", "/ReadUser", {"name": "alice"}))[1]["user"]["rpm"] == limit

        seen: Counter[int] = Counter()
        # Nothing that was spent leaves the window of a minute meanwhile.
        async with asyncio.timeout(50):
            # Denials before Redis has answered are none of the limit: it may take its time.
            while seen.total() < 2 * limit or seen[200] < limit * 0.8:
                answers = await asyncio.gather(*[gateway.chat(user="alice") for gateway in both])
                seen.update(status for status, _, _ in answers)
        assert set(seen) == {200, 429}
        assert seen[200] <= limit + 2 * 2 * lease_limit(limit)

        await server.stop()
        status, _, _ = await both[0].chat(user="bob")
        assert status in {200, 401}

        async def is_alone() -> bool:
            return bool((await both[0].limits())["limits"] == "per-instance")

        await until(is_alone)
        assert (await both[0].chat(user="somebody"))[0] == 200
        text = (await both[0].address.admin("/metrics"))[1]
        assert "pybrix_gateway_limits_degraded 1.0" in text


@pytest.mark.parametrize(
    ("path", "body", "want"),
    [
        ("/ReadUser", {"name": "x"}, (404, {"detail": "user does not exist"})),
        ("/UpdateUser", {"name": "x"}, (404, {"detail": "User: x does not exist"})),
        ("/DeleteUser", {"name": "x"}, (404, {"detail": "User: x does not exist"})),
        ("/keys", {"user": "x"}, (404, {"detail": "User: x does not exist"})),
        (
            "/CreateUser",
            {"name": "alice", "rpm": 9},
            (200, {"message": "User: alice exists", "user": {"name": "alice", "rpm": 1, "tpm": 2}}),
        ),
        (
            "/ReadUser",
            {"name": "alice"},
            (200, {"message": "User: alice", "user": {"name": "alice", "rpm": 1, "tpm": 2}}),
        ),
        (
            "/UpdateUser",
            {"name": "alice", "rpm": 3},
            (200, {"message": "Updated User: alice", "user": {"name": "alice", "rpm": 3, "tpm": 0}}),
        ),
        (
            "/DeleteUser",
            {"name": "alice"},
            (200, {"message": "Deleted User: alice", "user": {"name": "alice", "rpm": 1, "tpm": 2}}),
        ),
    ],
)  # fmt: skip
async def test_the_user_api_answers_as_aibrix(
    tmp_path: Path, path: str, body: object, want: tuple[int, object]
) -> None:
    config = GatewayConfiguration()
    with tempfile.TemporaryDirectory(prefix="pb") as run:
        gateway = Installed(config, BrainAddress(Path(run) / "r", tmp_path), None)  # type: ignore[arg-type]
        async with running_brain(gateway.address, PodApi(), config):
            await gateway.admin("POST", "/CreateUser", {"name": "alice", "rpm": 1, "tpm": 2})
            assert await gateway.admin("POST", path, body) == want
            assert (await gateway.admin("POST", path, {"name": ""}))[0] == 422


async def test_the_user_api_on_a_port_wants_the_admin_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-long-random-text\n")
    port = free_port()
    config = GatewayConfiguration(identity=IdentityConfiguration(users_port=port, admin_token_path=str(token)))
    with tempfile.TemporaryDirectory(prefix="pb") as run:
        address = BrainAddress(Path(run) / "r", tmp_path)
        async with (
            running_brain(address, PodApi(), config),
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a-long-random-text"}):
                async with client.get("/users", headers=headers) as answer:
                    assert answer.status == 401
            async with client.get("/users", headers={"Authorization": "Bearer a-long-random-text"}) as answer:
                assert (answer.status, await answer.json()) == (200, {"users": []})
            async with client.get("/healthz") as answer:
                assert (answer.status, await answer.text()) == (200, "healthy")
