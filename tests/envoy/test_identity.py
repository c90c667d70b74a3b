"""API keys: Envoy lets nobody through without one, whether the brain is there or not."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from pybrix.api.config import IdentityConfiguration
from pybrix.envoy import wire
from tests.support.gateway_parts import eventually, response
from tests.support.real_envoy import CHAT, Gateway, start_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


def new_key() -> str:
    return wire.API_KEY_PREFIX + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


ALICE, BOB, GONE = new_key(), new_key(), new_key()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded_gateway() -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        yield await start_gateway(stack, identity=IdentityConfiguration(is_api_key_required=True))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["with the brain", "without the brain"])
async def brain_or_none(guarded_gateway: Gateway, request: pytest.FixtureRequest) -> None:
    if request.param == "without the brain":
        await guarded_gateway.brain.kill()
    else:
        await guarded_gateway.brain.start()


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(guarded_gateway: Gateway, brain_or_none: None) -> AsyncIterator[Gateway]:
    gateway = guarded_gateway
    gateway.users = {hashed(ALICE): "alice", hashed(BOB): "bob"}
    gateway.brain.route("default/m", gateway.engines[0].pod)
    await gateway.apply(gateway.models)
    await eventually(lambda: is_let_in(gateway, ALICE))
    await eventually(lambda: has_status(gateway, GONE, 401))
    for engine in gateway.engines:
        engine.requests.clear()
    gateway.brain.questions.clear()
    yield gateway


async def chat(gateway: Gateway, **headers: str) -> tuple[int, dict[str, str], Any]:
    async with gateway.client.post(CHAT, json={"model": "m"}, headers=headers) as answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.json()


async def has_status(gateway: Gateway, key: str, status: int) -> bool:
    return (await chat(gateway, Authorization=f"Bearer {key}"))[0] == status


async def is_let_in(gateway: Gateway, key: str) -> bool:
    return await has_status(gateway, key, 200)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {new_key()}"},
        {"Authorization": f"Bearer {ALICE[:-1]}"},
        {"Authorization": f"Bearer {ALICE}x"},
        {"Authorization": f"Bearer sk_{ALICE[4:]}x"},
        {"Authorization": f"Bearer {hashed(ALICE)}"},
        {"Authorization": f"Basic {ALICE}"},
        {"Authorization": "Bearer"},
        {"x-api-key": new_key()},
        {"user": "alice"},
        {wire.USER_HEADER: "alice"},
        {wire.USER_HEADER: "alice", "Authorization": f"Bearer {new_key()}"},
        {wire.CLUSTER_HEADER: "default/m", wire.ENDPOINTS_HEADER: "127.66.0.1:80"},
    ],
    ids=[
        "no-key",
        "another-key",
        "shorter",
        "longer",
        "other-prefix",
        "the-hash",
        "basic",
        "empty",
        "other-header",
        "plain-user",
        "our-user-header",
        "our-user-header-and-another-key",
        "steering",
    ],
)
async def test_nobody_comes_in_without_a_key(guarded: Gateway, headers: dict[str, str]) -> None:
    status, answered, body = await chat(guarded, **headers)
    assert (status, answered["content-type"], answered["www-authenticate"]) == (401, "application/json", "Bearer")
    assert (body["error"]["type"], body["error"]["code"]) == ("authentication_error", "invalid_api_key")
    assert answered["request-id"]
    assert not guarded.brain.questions
    assert not [request for engine in guarded.engines for request in engine.requests]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/namespaces/team/v1/models", "/nothing", "/healthz/x"])
async def test_every_path_but_health_wants_a_key(guarded: Gateway, path: str) -> None:
    async with guarded.client.get(path) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")
    async with guarded.client.get(path, headers={"x-api-key": BOB}) as answer:
        assert answer.status in {200, 404}


async def test_health_is_open(guarded: Gateway) -> None:
    async with guarded.client.get("/healthz") as answer:
        assert answer.status == 200
    async with guarded.client.post("/healthz") as answer:
        assert answer.status == 401


@pytest.mark.parametrize("header", ["Authorization", "x-api-key"])
async def test_a_key_names_its_user_and_does_not_reach_the_engine(guarded: Gateway, header: str) -> None:
    given = f"Bearer {BOB}" if header == "Authorization" else BOB
    status, _, body = await chat(guarded, **{header: given, wire.USER_HEADER: "alice"})
    assert (status, body["headers"][wire.USER_HEADER]) == (200, "bob")
    assert BOB not in str(body)
    for question in guarded.brain.questions:
        assert question.headers[wire.USER_HEADER] == "bob"
        assert BOB not in str(question.headers)


async def test_a_key_that_is_taken_away_is_refused_at_once(guarded: Gateway) -> None:
    assert await is_let_in(guarded, BOB)
    guarded.users = {hashed(ALICE): "alice"}
    await guarded.apply(guarded.models)
    await eventually(lambda: has_status(guarded, BOB, 401))
    assert await is_let_in(guarded, ALICE)


async def test_without_any_key_nobody_comes_in(guarded: Gateway) -> None:
    guarded.users = {}
    await guarded.apply(guarded.models)
    await eventually(lambda: has_status(guarded, ALICE, 401))


async def test_ratelimit_headers_of_a_decision_reach_the_client(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    gateway.users = {hashed(ALICE): "alice"}
    await gateway.apply(gateway.models)
    await gateway.brain.start()
    pod = gateway.engines[0].pod
    said = {
        wire.CLUSTER_HEADER: "default/m",
        wire.ENDPOINTS_HEADER: f"{pod.address}:{pod.port}",
        wire.RESERVATION_HEADER: "r1",
        wire.STRATEGY_HEADER: "scripted",
        "x-ratelimit-limit-requests": "60",
        "x-other": "secret",
    }
    gateway.brain.answer = lambda question: response(200, said)

    async def is_asked() -> bool:
        return (await chat(gateway, Authorization=f"Bearer {ALICE}"))[1].get("routing-strategy") == "scripted"

    await eventually(is_asked)
    _, headers, body = await chat(gateway, Authorization=f"Bearer {ALICE}")
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert "x-other" not in headers
    assert "x-ratelimit-limit-requests" not in body["headers"]


async def test_a_script_that_fails_lets_nobody_through(guarded: Gateway) -> None:
    # A name that is no text makes the script fail, and Envoy goes on after a script that fails.
    guarded.users = {hashed(ALICE): {"not": "a name"}, hashed(BOB): "bob"}  # type: ignore[dict-item]
    await guarded.apply(guarded.models)
    await eventually(lambda: has_status(guarded, ALICE, 403))
    assert (await chat(guarded, Authorization=f"Bearer {ALICE}"))[2]["error"]["type"] == "invalid_request_error"
    assert await is_let_in(guarded, BOB)
    async with guarded.client.get("/healthz") as answer:
        assert answer.status == 200
