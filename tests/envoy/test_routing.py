"""What a client sees while the brain answers."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from yarl import URL

from pybrix.envoy import wire
from pybrix.envoy.local_replies import MAX_HEADERS, MAX_HEADERS_KIB
from pybrix.envoy.xds import render_xds
from tests.support.gateway_parts import Request, eventually, response
from tests.support.real_envoy import BODY_LIMIT_BYTES, CHAT, Gateway, start_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_first_endpoint_of_the_list_answers_and_is_named(gateway: Gateway) -> None:
    first, second, _ = gateway.engines
    gateway.brain.route("default/m", second.pod, first.pod, reservation="res-1")
    async with gateway.client.post(f"{CHAT}?a=b", json={"model": "m"}) as answer:
        said = await answer.json()
    assert answer.headers["target-pod"] == "pod-1"
    assert answer.headers["target-pod-ip"] == f"{second.pod.address}:{second.pod.port}"
    assert answer.headers["routing-strategy"] == "scripted"
    assert said["path"] == f"{CHAT}?a=b"
    record = await gateway.sink.wait_for(answer.headers["request-id"])
    assert (record["reservation"], record["cluster"], record["status"], record["attempts"]) == (
        "res-1",
        "default/m",
        200,
        1,
    )
    assert record["upstream"] == answer.headers["target-pod-ip"]


async def test_the_brain_sees_the_path_the_body_and_the_headers_of_the_contract(gateway: Gateway) -> None:
    gateway.brain.route("team/org/m:8b", gateway.engines[2].pod)
    sent = {"routing-strategy": "random", wire.NAMESPACE_HEADER: "team", "user": "ada", "cookie": "no"}
    body = json.dumps({"model": "org/m:8b", "messages": []})
    async with gateway.client.post("/v1/completions?x=1", data=body, headers=sent) as answer:
        assert answer.status == 200
    (question,) = gateway.brain.questions
    assert (question.method, question.path, question.body) == ("POST", "/v1/completions?x=1", body.encode())
    assert question.headers["x-request-id"] == answer.headers["request-id"]
    assert {name: question.headers.get(name) for name in sent} == sent | {"cookie": None}


async def test_a_namespace_in_the_path_is_taken_away_towards_the_engine(gateway: Gateway) -> None:
    gateway.brain.route("team/org/m:8b", gateway.engines[2].pod)
    async with gateway.client.post(f"/namespaces/team{CHAT}?q=1", json={"model": "org/m:8b"}) as answer:
        said = await answer.json()
    assert said["path"] == f"{CHAT}?q=1"
    assert gateway.brain.questions[0].path == f"/namespaces/team{CHAT}?q=1"


async def test_a_retry_walks_down_the_list(gateway: Gateway) -> None:
    first, second, third = gateway.engines
    await first.kill()

    async def reset(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    second.reply = reset
    gateway.brain.route("default/m", first.pod, second.pod, third.pod)
    async with gateway.client.post(CHAT, data=io.BytesIO(b" " * 2_000_000 + b'{"model": "m"}')) as answer:
        said = await answer.json()
    assert (answer.status, answer.headers["target-pod"], said["size"]) == (200, "pod-2", 2_000_014)
    record = await gateway.sink.wait_for(answer.headers["request-id"])
    assert (record["attempts"], record["upstream"]) == (3, f"{third.pod.address}:{third.pod.port}")


async def test_an_engine_that_says_503_is_passed_over(gateway: Gateway) -> None:
    async def busy(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(503, {}, b"loading"))

    gateway.engines[0].reply = busy
    gateway.brain.route("default/m", gateway.engines[0].pod, gateway.engines[1].pod)
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        assert (answer.status, answer.headers["target-pod"]) == (200, "pod-1")


async def test_many_requests_survive_an_engine_that_dies_under_them(gateway: Gateway) -> None:
    dying, living = gateway.engines[:2]
    arrived = asyncio.Semaphore(0)

    async def hang(request: Request, writer: asyncio.StreamWriter) -> None:
        arrived.release()
        await asyncio.Event().wait()

    dying.reply = hang
    gateway.brain.route("default/m", dying.pod, living.pod)

    async def ask() -> tuple[int, str]:
        async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
            return answer.status, answer.headers["target-pod"]

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask()) for _ in range(60)]
        for _ in asked:
            await arrived.acquire()
        await dying.kill()
    assert {task.result() for task in asked} == {(200, "pod-1")}


async def test_an_address_outside_the_cluster_is_never_used(gateway: Gateway) -> None:
    gateway.brain.route("team/org/m:8b", gateway.engines[0].pod)
    async with gateway.client.post(CHAT, json={"model": "org/m:8b"}) as answer:
        assert answer.headers["target-pod"] == "pod-2"


@pytest.mark.parametrize(("said", "seen"), [(400, 400), (404, 404), (429, 429), (wire.wire_status(503), 503)], ids=str)
async def test_a_refusal_of_the_brain_reaches_the_client_whole(gateway: Gateway, said: int, seen: int) -> None:
    body = {"error": {"message": "because", "type": "t", "param": None, "code": "c"}}
    gateway.brain.refuse(said, body, {"retry-after": "7", "x-error-some": "true", "x-internal": "no"})
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        got = await answer.json()
    assert (answer.status, got, answer.content_type) == (seen, body, "application/json")
    assert (answer.headers["retry-after"], answer.headers["x-error-some"]) == ("7", "true")
    assert answer.headers["request-id"] == gateway.brain.questions[0].headers["x-request-id"]
    assert not {"x-internal", "x-envoy-upstream-service-time", "target-pod", "target-pod-ip"} & set(answer.headers)


async def test_a_model_without_endpoints_is_503_and_worth_a_retry(gateway: Gateway) -> None:
    gateway.brain.route("default/empty")
    async with gateway.client.post(CHAT, json={"model": "empty"}) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], answer.headers["retry-after"]) == (503, "service_unavailable", "5")
    assert "empty" in error["message"]


async def test_a_cluster_that_no_route_knows_is_503(gateway: Gateway) -> None:
    gateway.brain.route("default/new", gateway.engines[0].pod)
    async with gateway.client.post(CHAT, json={"model": "new"}) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (await answer.json())["error"]["code"] == "service_unavailable"


async def test_a_body_over_the_limit_is_413(gateway: Gateway) -> None:
    async with gateway.client.post(CHAT, data=io.BytesIO(b"x" * (BODY_LIMIT_BYTES + 1))) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (413, "request_too_large")
    assert str(BODY_LIMIT_BYTES) in error["message"]
    assert gateway.brain.questions == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", CHAT, 405, "method_not_allowed", "POST"),
        ("PUT", f"/namespaces/team{CHAT}", 405, "method_not_allowed", "POST"),
        ("POST", "/v1/models", 405, "method_not_allowed", "GET"),
        ("DELETE", "/namespaces/team/v1/models/m", 405, "method_not_allowed", "GET"),
        ("POST", wire.HEALTH_PATH, 405, "method_not_allowed", "GET"),
        ("POST", "/v1/nothing", 404, "unknown_path", None),
        ("POST", f"{CHAT}/more", 404, "unknown_path", None),
        ("GET", "/", 404, "unknown_path", None),
        ("POST", "/namespaces/a/b/v1/completions", 404, "unknown_path", None),
    ],
)
async def test_other_paths_and_methods_are_refused_without_asking(
    gateway: Gateway, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    async with gateway.client.request(method, path, data=b"{}") as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["type"]) == (status, code, "invalid_request_error")
    assert answer.headers.get("allow") == allow
    assert gateway.brain.questions == []


async def test_a_path_is_normalized_before_it_is_matched(gateway: Gateway) -> None:
    gateway.brain.route("default/m", gateway.engines[0].pod)
    head = b"POST /x/..//v1/./completions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
    assert (await raw_exchange(gateway, head)).startswith(b"HTTP/1.1 200")
    assert gateway.brain.questions[0].path == "/v1/completions"


@pytest.mark.parametrize(
    "request_line", [b"POST /v1/completions HTTP/1.1", b"GET /v1/models HTTP/0.8", b"nonsense"], ids=str
)
async def test_what_is_not_valid_http_gets_json(gateway: Gateway, request_line: bytes) -> None:
    answer = await raw_exchange(gateway, request_line + b"\r\nhost: a\r\ncontent-length: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    error = json.loads(body)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "malformed_request")
    assert "not a valid HTTP request" in error["message"]


@pytest.mark.parametrize(
    "headers",
    [{f"x-{number}": "1" for number in range(MAX_HEADERS)}, {"x-long": "y" * (MAX_HEADERS_KIB * 1024)}],
    ids=["many", "large"],
)
async def test_too_many_or_too_large_headers_are_told_with_the_limit(gateway: Gateway, headers: dict[str, str]) -> None:
    async with gateway.client.get("/v1/models", headers=headers) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (431, "headers_too_large")
    assert f"more than {MAX_HEADERS} headers, or more than {MAX_HEADERS_KIB} KiB" in error["message"]


async def test_headers_within_the_limit_reach_the_engine(gateway: Gateway) -> None:
    gateway.brain.route("default/m", gateway.engines[0].pod)
    async with gateway.client.post(CHAT, json={"model": "m"}, headers={"x-long": "y" * 50_000}) as answer:
        assert answer.status == 200
    assert gateway.engines[0].requests[0].headers["x-long"] == "y" * 50_000


@pytest.mark.parametrize("host", [b"", b"host: a\r\n"], ids=["no-host", "host"])
async def test_http_1_0_is_answered(gateway: Gateway, host: bytes) -> None:
    gateway.brain.route("default/m", gateway.engines[0].pod)
    head = b"POST /v1/completions HTTP/1.0\r\n" + host + b"content-length: 13\r\n\r\n"
    answer = await raw_exchange(gateway, head + b'{"model":"m"}')
    assert answer.split(b" ", 2)[1] == b"200"


async def raw_exchange(gateway: Gateway, request: bytes) -> bytes:
    """Send bytes, half-close, return what comes back until the gateway closes or falls silent."""
    reader, writer = await asyncio.open_connection(gateway.config.address, gateway.config.port)
    writer.write(request)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    answer += await reader.readexactly(length)
    writer.close()
    return answer


async def test_engines_that_all_break_off_are_502(gateway: Gateway) -> None:
    async def reset(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    for engine in gateway.engines:
        engine.reply = reset
    gateway.brain.route("default/m", *(engine.pod for engine in gateway.engines))
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["type"], error["code"]) == (502, "api_error", "endpoint_reset")


async def test_engines_that_cannot_be_reached_are_503(gateway: Gateway) -> None:
    for engine in gateway.engines:
        await engine.kill()
    gateway.brain.route("default/m", *(engine.pod for engine in gateway.engines))
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], answer.headers["retry-after"]) == (503, "endpoint_unreachable", "5")


async def test_an_engine_that_says_nothing_for_too_long_is_504() -> None:
    async def hang(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        gateway = await start_gateway(stack, stream_idle_timeout_s=1.5)
        gateway.engines[0].reply = hang
        gateway.brain.route("default/m", gateway.engines[0].pod)
        async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
            error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (504, "timeout")


async def test_models_are_listed_by_envoy_itself(gateway: Gateway) -> None:
    async def names(path: str, **headers: str) -> list[str]:
        async with gateway.client.get(path, headers=headers) as answer:
            page: dict[str, Any] = await answer.json()
            assert (answer.status, page["object"]) == (200, "list")
            return [model["id"] for model in page["data"]]

    assert await names("/v1/models") == ["empty", "m", "org/m:8b", "twice"]
    assert await names("/v1/models/?x=1") == ["empty", "m", "org/m:8b", "twice"]
    assert await names("/namespaces/team/v1/models/") == ["org/m:8b", "twice"]
    assert await names("/v1/models", **{wire.NAMESPACE_HEADER: "team"}) == ["org/m:8b", "twice"]
    assert await names("/namespaces/default/v1/models?x=1") == ["empty", "m", "twice"]
    assert await names("/namespaces/none/v1/models") == []
    assert await names("/v1/models", **{wire.NAMESPACE_HEADER: "none"}) == []
    assert gateway.brain.questions == []


@pytest.mark.parametrize(
    ("path", "model", "namespace"),
    [
        ("/v1/models/m", "m", None),
        ("/v1/models/m?x=1", "m", None),
        ("/v1/models/org/m:8b", "org/m:8b", None),
        ("/v1/models/org%2Fm%3a8b", "org/m:8b", "team"),
        ("/v1/models/twice", "twice", None),
        ("/namespaces/team/v1/models/org%2fm:8b", "org/m:8b", None),
    ],
)
async def test_a_model_is_retrieved_by_its_name(gateway: Gateway, path: str, model: str, namespace: str | None) -> None:
    headers = {wire.NAMESPACE_HEADER: namespace} if namespace else {}
    async with gateway.client.get(URL(path, encoded=True), headers=headers) as answer:
        entry = await answer.json()
    assert (answer.status, answer.content_type) == (200, "application/json")
    async with gateway.client.get("/v1/models") as listed:
        assert entry in (await listed.json())["data"]
    assert entry["id"] == model
    assert gateway.brain.questions == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/models/no%22pe", 'model no"pe does not exist; available models: empty, m, org/m:8b, twice'),
        ("/v1/models/%ff%31", "model %ff1 does not exist; available models: empty, m, org/m:8b, twice"),
        ("/v1/models/org", "model org does not exist; available models: empty, m, org/m:8b, twice"),
        (
            "/namespaces/team/v1/models/m",
            "model m does not exist in namespace team; available models: org/m:8b, twice",
        ),
        ("/namespaces/none/v1/models/m", "model m does not exist in namespace none; available models: none"),
    ],
)
async def test_a_model_that_does_not_exist_is_404_with_those_that_do(gateway: Gateway, path: str, message: str) -> None:
    async with gateway.client.get(URL(path, encoded=True)) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["message"]) == (404, "model_not_found", message)
    assert "x-error-no-model-backends" in answer.headers


async def test_models_can_be_asked_for_when_there_are_none(gateway: Gateway) -> None:
    gateway.writer.write(render_xds(gateway.config, (), gateway.paths))

    async def is_told() -> bool:
        async with gateway.client.get("/v1/models/m") as answer:
            said: str = (await answer.json()).get("error", {}).get("message", "")
            return (answer.status, said) == (404, "model m does not exist; available models: none")

    await eventually(is_told)


async def test_envoy_itself_says_that_it_is_well(gateway: Gateway) -> None:
    await gateway.brain.kill()
    async with gateway.client.get(wire.HEALTH_PATH) as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
