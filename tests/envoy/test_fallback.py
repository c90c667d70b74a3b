"""What a client sees while the brain is dead or stopped: Envoy routes by itself."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from pybrix.envoy import wire
from pybrix.envoy.bootstrap import BRAIN_CLUSTER
from tests.support.gateway_parts import eventually
from tests.support.real_envoy import CHAT, Gateway, start_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def alone(gateway: Gateway) -> AsyncIterator[Gateway]:
    """A gateway whose brain is dead."""
    await gateway.brain.kill()
    yield gateway


async def ask(gateway: Gateway, body: object, path: str = CHAT, **headers: str) -> tuple[int, dict[str, str], str]:
    data = body if isinstance(body, str) else json.dumps(body)
    async with gateway.client.post(path, data=io.BytesIO(data.encode()), headers=headers) as answer:
        error = (await answer.json()).get("error", {})
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, error.get("message", "")


PADDING = {"messages": [{"role": "user", "content": 'say "model": "nope" {[\\"}]'}], "n": 1.5e3, "x": None, "y": True}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m"},
        {**PADDING, "model": "m"},
        {"tools": [{"model": "nope", "deep": [[{"model": 3}]]}], "model": "m", "metadata": {"model": "nope"}},
        '{ "a" : "\\\\" , "model"\t:\n"m" }',
        '{"mo\\"del": "nope", "model": "\\u006d"}',
        '{"text": "model", "model":"m","x":{}}',
        {"prompt": "é" * 300_000, "model": "m"},
        '{"model": "nope", "model": 3, "model": "m", "a": {"model": "nope"}}\n',
        '{"model": "nope", "mod\\u0065l": "m"}',
    ],
    ids=["short", "last", "nested", "spaced", "escaped", "value-named-model", "large", "twice", "escaped-key"],
)
async def test_the_model_is_found_in_any_body(alone: Gateway, body: object) -> None:
    status, headers, _ = await ask(alone, body)
    assert (status, headers["routing-strategy"]) == (200, wire.FALLBACK_STRATEGY)
    assert headers["target-pod"] in {"pod-0", "pod-1", "pod-2"}
    record = await alone.sink.wait_for(headers["request-id"])
    assert (record["cluster"], record["reservation"], record["upstream"]) == (
        "default/m",
        None,
        headers["target-pod-ip"],
    )


@pytest.mark.parametrize(
    ("path", "headers"),
    [(CHAT, {}), (f"/namespaces/team{CHAT}", {}), (CHAT, {wire.NAMESPACE_HEADER: "team"})],
    ids=["unnamed", "by-path", "by-header"],
)
async def test_a_model_of_another_namespace_is_reached(alone: Gateway, path: str, headers: dict[str, str]) -> None:
    status, got, _ = await ask(alone, {"model": "org/m:8b"}, path, **headers)
    assert (status, got["target-pod"]) == (200, "pod-2")


@pytest.mark.parametrize(
    ("body", "status", "marker", "message"),
    [
        ("", 400, "x-error-request-body-processing", "not a JSON object"),
        ("[1]", 400, "x-error-request-body-processing", "not a JSON object"),
        ('{"model', 400, "x-error-request-body-processing", "not a JSON object"),
        ('{"a": [1, "model": "m"', 400, "x-error-request-body-processing", "not a JSON object"),
        ("{}", 400, "x-error-no-model-in-request", "you must provide a model parameter"),
        ('{"a": {"model": "m"}}', 400, "x-error-no-model-in-request", "you must provide a model parameter"),
        ('{"model": null}', 400, "x-error-no-model-in-request", "you must provide a model parameter"),
        ('{"model": 3}', 400, "x-error-no-model-in-request", "must be a non-empty string"),
        ('{"model": "m", "model": null}', 400, "x-error-no-model-in-request", "you must provide a model parameter"),
        ('{"model": "m", "a"', 400, "x-error-request-body-processing", "not a JSON object"),
        ('{"model": "m"}}', 400, "x-error-request-body-processing", "not a JSON object"),
        ('{"model": ""}', 400, "x-error-no-model-in-request", "must be a non-empty string"),
        ('{"model": "nope"}', 404, "x-error-no-model-backends", "available models: empty, m, org/m:8b, twice"),
        ('{"model": "m\\r\\nx-a: b"}', 404, "x-error-no-model-backends", "does not exist"),
        ('{"model": "default/m"}', 404, "x-error-no-model-backends", "does not exist"),
        ('{"model": "a\\"b%1$M"}', 404, "x-error-no-model-backends", 'model a"b%1$M does not exist'),
        ('{"model": "twice"}', 400, "x-error-model-ambiguous", "exists in several namespaces (default, team)"),
        ('{"model": "empty"}', 503, "x-error-no-model-backends", "has no ready endpoints"),
    ],
)
async def test_refusals_look_like_those_of_the_brain(
    alone: Gateway, body: str, status: int, marker: str, message: str
) -> None:
    got_status, headers, got_message = await ask(alone, body)
    assert (got_status, headers["content-type"]) == (status, "application/json")
    assert message in got_message
    assert marker in headers
    assert ("retry-after" in headers) == (status == 503)
    assert "request-id" in headers
    assert "target-pod" not in headers


async def test_an_unknown_model_of_a_namespace_names_those_of_the_namespace(alone: Gateway) -> None:
    status, _, message = await ask(alone, {"model": "m"}, f"/namespaces/team{CHAT}")
    assert (status, message) == (404, "model m does not exist in namespace team; available models: org/m:8b, twice")
    status, _, message = await ask(alone, {"model": "m"}, **{wire.NAMESPACE_HEADER: "default/x"})
    assert (status, message) == (404, "model m does not exist in namespace default/x; available models: none")


async def test_a_dead_engine_is_survived_without_the_brain(alone: Gateway) -> None:
    await alone.engines[0].kill()
    answers = await asyncio.gather(*(ask(alone, {"model": "m"}) for _ in range(40)))
    assert {status for status, _, _ in answers} == {200}
    assert {headers["target-pod"] for _, headers, _ in answers} == {"pod-1", "pod-2"}


async def test_models_are_still_listed(alone: Gateway) -> None:
    async with alone.client.get("/v1/models") as answer:
        assert [model["id"] for model in (await answer.json())["data"]] == ["empty", "m", "org/m:8b", "twice"]


@pytest_asyncio.fixture(loop_scope="module")
async def impatient() -> AsyncIterator[Gateway]:
    """A gateway that does not wait long for a brain that does not answer."""
    async with AsyncExitStack() as stack:
        gateway = await start_gateway(stack, decision_timeout_ms=250)
        await gateway.reset()
        yield gateway


async def test_a_stopped_brain_costs_the_first_few_requests_only(impatient: Gateway) -> None:
    gateway, waits = impatient, f"cluster.{BRAIN_CLUSTER}.upstream_rq_timeout"
    gateway.brain.route("default/m", gateway.engines[0].pod)
    before = (await gateway.admin.stats(waits))[waits]
    gateway.brain.running.clear()
    for _ in range(20):
        status, headers, _ = await ask(gateway, {"model": "m"})
        assert (status, headers["routing-strategy"]) == (200, wire.FALLBACK_STRATEGY)
    # The others were not put to the brain at all.
    assert 1 <= (await gateway.admin.stats(waits))[waits] - before <= 4
    gateway.brain.running.set()

    async def is_decided() -> bool:
        return (await ask(gateway, {"model": "m"}))[1]["routing-strategy"] == "scripted"

    await eventually(is_decided)


async def test_a_brain_that_comes_back_is_asked_again(alone: Gateway) -> None:
    await alone.brain.start()
    alone.brain.route("default/m", alone.engines[1].pod)
    await eventually(alone.brain_is_asked)
    assert (await ask(alone, {"model": "m"}))[1]["target-pod"] == "pod-1"


LIES = {
    wire.ENDPOINTS_HEADER: "{victim}",
    wire.CLUSTER_HEADER: "team/org/m:8b",
    wire.RESERVATION_HEADER: "stolen",
    wire.STRATEGY_HEADER: "mine",
    "target-pod": "{victim}",
    "target-pod-ip": "{victim}",
    "X-Request-Id": "mine",
    "x-envoy-retry-on": "5xx",
    "X-Envoy-Original-Dst-Host": "{victim}",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-original-path": "/v1/nothing",
    "X-ENVOY-anything": "1",
}


@pytest.mark.parametrize("state", ["up", "dead"])
async def test_what_a_client_says_about_routing_changes_nothing(gateway: Gateway, state: str) -> None:
    await lies_change_nothing(gateway, state)


async def test_what_a_client_says_about_routing_changes_nothing_while_the_brain_is_stopped(impatient: Gateway) -> None:
    await lies_change_nothing(impatient, "stopped")


async def lies_change_nothing(gateway: Gateway, state: str) -> None:
    chosen, victim = gateway.engines[0].pod, gateway.engines[2].pod
    await gateway.apply((wire.ModelCluster("default", "m", (chosen,)), *gateway.models[1:]))
    gateway.brain.route("default/m", chosen, reservation="true-one")
    if state == "dead":
        await gateway.brain.kill()
    elif state == "stopped":
        gateway.brain.running.clear()
    lies = {name: value.format(victim=f"{victim.address}:{victim.port}") for name, value in LIES.items()}
    status, headers, _ = await ask(gateway, {"model": "m"}, **lies)
    assert (status, headers["target-pod"]) == (200, "pod-0")
    assert headers["request-id"] != "mine"
    assert headers["routing-strategy"] == ("scripted" if state == "up" else wire.FALLBACK_STRATEGY)
    record = await gateway.sink.wait_for(headers["request-id"])
    assert record["reservation"] == ("true-one" if state == "up" else None)
    (request,) = gateway.engines[0].requests
    seen = [value for name, value in request.headers.items() if name in {each.lower() for each in LIES}]
    assert not set(seen) & set(lies.values())
    if state == "up":
        asked = gateway.brain.questions[0].headers
        assert not {name for name in asked if name in {each.lower() for each in LIES} - {"x-request-id"}}
