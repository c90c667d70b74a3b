"""Spans: what Envoy sends to a collector, and what it tells the engines."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pybrix.api.config import GatewayConfiguration, TracingConfiguration
from pybrix.envoy.bootstrap import render_bootstrap
from pybrix.envoy.listener import render_listener
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.tracing import TRACING_CLUSTER, render_tracing, render_tracing_cluster
from tests.support.gateway_parts import Request, Server, free_port, read_request, response
from tests.support.real_envoy import CHAT, Gateway, start_gateway

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@dataclass(frozen=True)
class Span:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, str]
    service: str


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.spans: list[Span] = []
        self.paths: set[str] = set()
        self._arrived = asyncio.Event()
        self._server = Server(self._handle)

    async def start(self) -> None:
        await self._server.listen("127.0.0.1", self.port)

    async def kill(self) -> None:
        await self._server.kill()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            self.paths.add(request.path)
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
                about = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        told = {each.key: each.value.string_value for each in span.attributes}
                        ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                        self.spans.append(Span(span.name, *ids, told, about["service.name"]))
            self._arrived.set()
            writer.write(response(200, {"content-type": "application/x-protobuf"}))

    async def span_of(self, request_id: str) -> Span:
        """Return the span of a request, once it has come."""
        async with asyncio.timeout(60):
            while True:
                for span in self.spans:
                    if span.attributes.get("guid:x-request-id") == request_id and "http.url" in span.attributes:
                        return span
                self._arrived.clear()
                await self._arrived.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traced() -> AsyncIterator[tuple[Gateway, Collector]]:
    async with AsyncExitStack() as stack:
        collector = Collector(free_port())
        await collector.start()
        stack.push_async_callback(collector.kill)
        tracing = TracingConfiguration(endpoint=f"http://127.0.0.1:{collector.port}", sampling_ratio=1.0)
        yield await start_gateway(stack, tracing=tracing), collector


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_span_says_model_endpoint_and_strategy(traced: tuple[Gateway, Collector]) -> None:
    gateway, collector = traced
    await gateway.reset()
    first, second = gateway.engines[1].pod, gateway.engines[2].pod
    gateway.brain.route("default/m", first, second, reservation="r7", strategy="prefix-affinity")
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        assert answer.status == 200
        request_id = answer.headers["request-id"]
    span = await collector.span_of(request_id)
    want = {
        "gen_ai.request.model": "m",
        "pybrix.namespace": "default",
        "pybrix.strategy": "prefix-affinity",
        "pybrix.endpoint": f"{first.address}:{first.port}",
        "pybrix.pod": first.pod_name,
        "pybrix.ranking": f"{first.address}:{first.port},{second.address}:{second.port}",
        "pybrix.reservation": "r7",
        "http.status_code": "200",
    }
    assert {key: span.attributes.get(key) for key in want} == want
    assert "gen_ai.usage.input_tokens" not in span.attributes
    assert span.service == "pybrix-gateway"
    assert collector.paths == {"/v1/traces"}
    told = gateway.engines[1].requests[-1].headers["traceparent"]
    assert told.split("-")[1] == span.trace_id


async def test_a_trace_of_the_client_goes_on_to_the_engine(traced: tuple[Gateway, Collector]) -> None:
    gateway, collector = traced
    await gateway.reset()
    gateway.brain.route("default/m", gateway.engines[0].pod)
    headers = {"traceparent": PARENT.format(flags="01")}
    async with gateway.client.post(CHAT, json={"model": "m"}, headers=headers) as answer:
        request_id = answer.headers["request-id"]
    span = await collector.span_of(request_id)
    assert (span.trace_id, span.parent_id) == (TRACE_ID, "b7ad6b7169203331")
    _, trace_id, parent_id, flags = gateway.engines[0].requests[-1].headers["traceparent"].split("-")
    assert (trace_id, flags) == (TRACE_ID, "01")
    assert parent_id != "b7ad6b7169203331", "the engine's parent is a span of the gateway's"


async def test_what_the_client_does_not_sample_gets_no_span(traced: tuple[Gateway, Collector]) -> None:
    gateway, collector = traced
    await gateway.reset()
    gateway.brain.route("default/m", gateway.engines[0].pod)
    headers = {"traceparent": PARENT.format(flags="00")}
    async with gateway.client.post(CHAT, json={"model": "m"}, headers=headers) as answer:
        silent = answer.headers["request-id"]
    assert gateway.engines[0].requests[-1].headers["traceparent"].startswith(f"00-{TRACE_ID}-")
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        await collector.span_of(answer.headers["request-id"])
    assert silent not in [span.attributes.get("guid:x-request-id") for span in collector.spans]


async def test_requests_are_served_while_the_collector_is_away(traced: tuple[Gateway, Collector]) -> None:
    gateway, collector = traced
    await gateway.reset()
    gateway.brain.route("default/m", gateway.engines[0].pod)
    await collector.kill()
    for _ in range(20):
        async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
            assert answer.status == 200
    await collector.start()
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        request_id = answer.headers["request-id"]
    assert (await collector.span_of(request_id)).attributes["gen_ai.request.model"] == "m"


@pytest.mark.parametrize(
    ("endpoint", "port", "exporter", "is_tls"),
    [
        ("http://otel:4318", 4318, {"uri": "http://otel:4318/v1/traces"}, False),
        ("http://otel", 4318, {"uri": "http://otel/v1/traces"}, False),
        ("https://otel.example/in/v1", 443, {"uri": "https://otel.example/in/v1"}, True),
        ("grpc://otel:4317", 4317, {"authority": "otel:4317"}, False),
        ("grpcs://otel", 443, {"authority": "otel"}, True),
    ],
)
async def test_the_endpoint_says_how_spans_travel(
    endpoint: str, port: int, exporter: dict[str, str], is_tls: bool
) -> None:
    tracing = TracingConfiguration(endpoint=endpoint)
    cluster = render_tracing_cluster(tracing)
    rendered = render_tracing(GatewayConfiguration(tracing=tracing))
    assert cluster is not None
    assert rendered is not None
    (locality,) = cluster["load_assignment"]["endpoints"]
    assert locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["port_value"] == port
    assert ("transport_socket" in cluster) == is_tls
    provider = rendered["provider"]["typed_config"]
    service = provider.get("http_service", {}).get("http_uri") or provider["grpc_service"]["envoy_grpc"]
    assert exporter.items() <= service.items()
    assert rendered["random_sampling"] == {"value": 1.0}


async def test_without_an_endpoint_there_is_no_tracing() -> None:
    with tempfile.TemporaryDirectory() as name:
        paths, config = EnvoyPaths(Path(name), Path(name)), GatewayConfiguration()
        assert "tracing" not in str(render_listener(config, paths))
        assert TRACING_CLUSTER not in str(render_bootstrap(config, paths))


@pytest.mark.parametrize("scheme", ["grpc", "https", "grpcs"])
async def test_envoy_takes_every_kind_of_endpoint(scheme: str) -> None:
    async with AsyncExitStack() as stack:
        tracing = TracingConfiguration(endpoint=f"{scheme}://127.0.0.1:{free_port()}", sampling_ratio=1.0)
        gateway = await start_gateway(stack, tracing=tracing)
        gateway.brain.route("default/m", gateway.engines[0].pod)
        async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
            assert answer.status == 200


async def test_usage_and_the_question_to_the_brain_are_in_the_trace(traced: tuple[Gateway, Collector]) -> None:
    gateway, collector = traced
    await gateway.reset()
    pod = gateway.engines[0].pod
    gateway.brain.route("default/m", pod)
    usage = json.dumps({"usage": {"prompt_tokens": 31, "completion_tokens": 7}}).encode()

    async def answer_with_usage(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, {"content-type": "application/json"}, usage))

    gateway.engines[0].reply = answer_with_usage
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        request_id = answer.headers["request-id"]
    span = await collector.span_of(request_id)
    got = [span.attributes.get(f"gen_ai.usage.{kind}_tokens") for kind in ("input", "output")]
    assert got == ["31", "7"]
    (asked,) = [each for each in collector.spans if each.trace_id == span.trace_id and each is not span]
    assert (asked.parent_id, asked.attributes["upstream_cluster"]) == (span.span_id, "pybrix_brain")
