"""The running server: who may speak to it, what it survives, and what it does with slow or rude clients."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.server import ApiServer
from pybrix.cluster.errors import AddressInUse, NotLoopback
from pybrix.cluster.pki import Pki
from pybrix.kube.errors import BadRequest
from tests.support.apiserver import RunningApiServer, running_api_server
from tests.support.contract import Api, config_map, connect, pod


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningApiServer]:
    async with running_api_server(tmp_path) as running:
        yield running


@pytest.fixture
async def api(server: RunningApiServer) -> AsyncIterator[Api]:
    async with connect(server.kubeconfig) as client:
        yield client


async def status_of(session: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, Any]:
    async with session.get(url, headers=headers) as response:
        body = await response.read()
        return response.status, json.loads(body) if body.startswith(b"{") else body.decode()


async def test_token_or_certificate_is_needed_but_not_for_health(server: RunningApiServer) -> None:
    connector = aiohttp.TCPConnector(ssl=server.pki.client_ssl_context(with_certificate=False))
    async with aiohttp.ClientSession(server.url, connector=connector) as session:
        code, body = await status_of(session, "/api/v1/namespaces")
        assert (code, body["reason"]) == (401, "Unauthorized")
        assert (await status_of(session, "/version"))[0] == 401
        for path in ("/healthz", "/livez", "/readyz"):
            assert await status_of(session, path) == (200, "ok")
        assert (await status_of(session, "/api/v1/namespaces", Authorization="Bearer wrong"))[0] == 401
        assert (await status_of(session, "/api/v1/namespaces", Authorization="Basic eDp5"))[0] == 401
        assert (await status_of(session, "/api/v1/namespaces", Authorization=f"Bearer {server.pki.token}"))[0] == 200


async def test_certificate_alone_is_enough_but_does_not_mend_a_wrong_token(server: RunningApiServer) -> None:
    connector = aiohttp.TCPConnector(ssl=server.pki.client_ssl_context())
    async with aiohttp.ClientSession(server.url, connector=connector) as session:
        assert (await status_of(session, "/version"))[0] == 200
        assert (await status_of(session, "/version", Authorization="Bearer wrong"))[0] == 401


async def test_certificate_of_another_authority_is_refused(server: RunningApiServer, tmp_path: Path) -> None:
    stranger = Pki.load_or_create(tmp_path / "other", SystemClock())
    context = server.pki.client_ssl_context(with_certificate=False)
    context.load_cert_chain(stranger.directory / "admin.crt", stranger.directory / "admin.key")
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(ssl=context)) as session:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            await status_of(session, "/version")


async def test_address_that_others_can_reach_is_refused(server: RunningApiServer) -> None:
    for address in ("0.0.0.0", "192.168.1.1", "127.0.0.2", "example.com"):
        with pytest.raises(NotLoopback):
            ApiServer(server.store, address=address, pki=server.pki, clock=SystemClock())


async def test_taken_port_is_one_clear_line(server: RunningApiServer) -> None:
    second = ApiServer(server.store, port=server.server.port, pki=server.pki, clock=SystemClock())
    with pytest.raises(AddressInUse, match="choose another port"):
        await second.start()
    assert (await status_of(server.session, "/readyz"))[0] == 200


async def test_restarted_server_has_the_same_objects_and_watches_go_on(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as first, connect(first.kubeconfig) as api:
        made = await api.create("/api/v1/namespaces/default/configmaps", config_map("a", x="1"))
        version = made.body["metadata"]["resourceVersion"]
        await api.patch("/api/v1/namespaces/default/configmaps/a", {"data": {"x": "2"}})
    async with running_api_server(tmp_path) as second, connect(second.kubeconfig) as api:
        got = await api.get("/api/v1/namespaces/default/configmaps/a")
        assert (got.body["data"], got.body["metadata"]["uid"]) == ({"x": "2"}, made.body["metadata"]["uid"])
        events = await api.watch("/api/v1/namespaces/default/configmaps", until=1, resourceVersion=version)
        assert (events[0]["type"], events[0]["object"]["data"]) == ("MODIFIED", {"x": "2"})


async def test_watch_from_a_version_that_is_too_old_says_gone(server: RunningApiServer, api: Api) -> None:
    for number in range(5_100):
        server.server.objects.patch("namespaces", _key("default"), {"metadata": {"annotations": {"n": str(number)}}})
    events = await api.watch("/api/v1/namespaces", until=1, resourceVersion="5")
    assert (events[0]["type"], events[0]["object"]["code"], events[0]["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_version_from_the_future_is_a_timeout_not_a_silent_wait(api: Api) -> None:
    for query in ({"watch": "true"}, {}):
        answer = await api.get("/api/v1/namespaces", resourceVersion="99999999", **query)
        assert (answer.code, answer.reason) == (504, "Timeout")


async def test_idle_watch_hears_bookmarks(tmp_path: Path) -> None:
    async with running_api_server(tmp_path, bookmark_interval_s=0.05) as server:
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": str(server.store.revision)}
        async with server.session.get("/api/v1/configmaps", params=query) as response:
            event = json.loads(await response.content.readline())
        assert event["type"] == "BOOKMARK"
        assert event["object"]["metadata"]["resourceVersion"] == str(server.store.revision)


async def test_watch_ends_when_its_time_is_over(server: RunningApiServer) -> None:
    version = str(server.store.revision)
    query = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": version}
    async with server.session.get("/api/v1/configmaps", params=query) as response:
        assert await response.read() == b""


async def test_stopping_server_ends_its_watches_in_order(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as server:
        query = {"watch": "true", "resourceVersion": str(server.store.revision)}
        async with server.session.get("/api/v1/configmaps", params=query) as response:
            reading = asyncio.ensure_future(response.read())
            async with asyncio.timeout(50):
                await server.server.stop()
                assert await reading == b""


async def test_client_that_does_not_read_is_cut_off(server: RunningApiServer) -> None:
    server.server.objects.create("configmaps", config_map_in("default", "big", "x" * 200_000))

    def begin() -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", server.server.port), timeout=20)
        client = server.pki.client_ssl_context().wrap_socket(raw, server_hostname="localhost")
        path = f"/api/v1/configmaps?watch=true&resourceVersion={server.store.revision}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        return client

    def read_to_the_end(client: ssl.SSLSocket) -> int:
        received = 0
        with client, suppress(ConnectionError, ssl.SSLError):
            while piece := client.recv(1 << 20):
                received += len(piece)
        return received

    client = await asyncio.to_thread(begin)
    for number in range(600):
        patch = {"metadata": {"annotations": {"n": str(number)}}}
        server.server.objects.patch("configmaps", _key("big", "default"), patch)
        if number % 10 == 0:
            await asyncio.sleep(0)
    # The end comes, and long before all of what was written: the rest was dropped with the connection.
    assert await asyncio.to_thread(read_to_the_end, client) < 600 * 200_000 / 2


def config_map_in(namespace: str, name: str, value: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "data": {"x": value}}


def _key(name: str, namespace: str = "") -> ObjectKey:
    return ObjectKey(namespace, name)


class Logs:
    """A node agent's logs: some lines, then more when told, then the end."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.asked: dict[str, Any] = {}

    async def read(self, namespace: str, name: str, container: str, **options: Any) -> AsyncIterator[bytes]:
        self.asked = {"namespace": namespace, "name": name, "container": container, **options}
        if options["previous"]:
            raise BadRequest(
                400, "BadRequest", f'previous terminated container "{container}" in pod "{name}" not found'
            )
        yield b"one\n"
        if options["follow"]:
            await self.more.wait()
            yield b"two\n"


async def test_logs_come_from_the_node_agent(tmp_path: Path) -> None:
    logs = Logs()
    async with running_api_server(tmp_path, logs=logs) as server, connect(server.kubeconfig) as api:
        await api.create(api.at("pods"), pod("p", schedulingGates=[]))
        assert (await api.get(api.at("pods", "p", "log"))).code == 400
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}
        assert (await api.create(api.at("pods", "p", "binding"), binding)).code == 201
        got = await api.get(api.at("pods", "p", "log"), tailLines="3", timestamps="true")
        assert (got.code, got.body) == (200, "one\n")
        assert (logs.asked["container"], logs.asked["tail_lines"], logs.asked["timestamps"]) == ("main", 3, True)
        refused = await api.get(api.at("pods", "p", "log"), previous="true")
        assert (refused.code, refused.body["kind"]) == (400, "Status")
        assert (await api.get(api.at("pods", "p", "log"), container="nope")).code == 400
        assert (await api.get(api.at("pods", "p", "log"), tailLines="-1")).code == 400
        async with server.session.get(api.at("pods", "p", "log"), params={"follow": "true"}) as response:
            assert await response.content.readline() == b"one\n"
            logs.more.set()
            assert await response.content.read() == b"two\n"


async def test_pod_of_several_containers_needs_a_choice(tmp_path: Path) -> None:
    async with running_api_server(tmp_path, logs=Logs()) as server, connect(server.kubeconfig) as api:
        body = pod("p", schedulingGates=[])
        body["spec"]["containers"].append({"name": "side", "image": "x:1"})
        await api.create(api.at("pods"), body)
        refused = await api.get(api.at("pods", "p", "log"))
        assert "choose one of: [main side]" in refused.body["message"]


async def test_body_beyond_the_limit_is_refused(api: Api) -> None:
    answer = await api.create(api.at("configmaps"), config_map("a", x="y" * 4_000_000))
    assert (answer.code, answer.reason) == (413, "RequestEntityTooLarge")
    answer = await api.create(api.at("configmaps"), config_map("a", x="y" * 1_200_000))
    assert answer.code == 422


@pytest.mark.parametrize(
    ("method", "path", "body", "want"),
    [
        ("POST", "/api/v1/namespaces/default/pods", b"{", 400),
        ("POST", "/api/v1/namespaces/default/pods", b"[]", 400),
        ("POST", "/api/v1/namespaces/default/pods", b"null", 400),
        ("POST", "/api/v1/namespaces/default/pods", b"", 400),
        ("POST", "/api/v1/namespaces/default/pods", b"[" * 100_000, 400),
        ("POST", "/api/v1/namespaces/default/pods", b'{"metadata":"x"}', 400),
        ("POST", "/api/v1/namespaces/default/pods", b'{"kind":"Service"}', 400),
        ("POST", "/api/v1/namespaces/default/pods", b'{"apiVersion":"v2"}', 400),
        ("POST", "/api/v1/namespaces/default/bindings", b"[1]", 400),
        ("POST", "/api/v1/pods", b"{}", 405),
        ("PATCH", "/api/v1/namespaces/default/pods", b"{}", 405),
        ("PUT", "/api/v1/namespaces/default/configmaps/x", b'{"metadata":{"name":"y"}}', 400),
        ("GET", "/api/v1/namespaces/default/pods/x/nonsense", None, 404),
        ("GET", "/api/v1/nonsense", None, 404),
        ("GET", "/apis/nonsense.io/v1", None, 404),
        ("GET", "/api/v1/namespaces/default/nodes", None, 404),
        ("GET", "/api/v1/pods?limit=x", None, 400),
        ("GET", "/api/v1/pods?watch=maybe", None, 400),
        ("GET", "/api/v1/pods?resourceVersion=abc", None, 400),
        ("GET", "/openapi/v3/apis/nope/v1", None, 404),
        ("DELETE", "/api/v1/namespaces/default", None, 403),
        ("DELETE", "/api/v1/namespaces/default/configmaps/x?gracePeriodSeconds=x", None, 400),
        ("DELETE", "/api/v1/namespaces/default/configmaps/x", b'{"propagationPolicy":"Sideways"}', 422),
        ("DELETE", "/api/v1/namespaces/default/configmaps/x", b'{"preconditions":{"uid":3}}', 400),
        ("POST", "/", b"{}", 404),
        ("TRACE", "/api/v1/pods", None, 405),
    ],
)
async def test_malformed_request_gets_a_status(api: Api, method: str, path: str, body: bytes | None, want: int) -> None:
    answer = await api.request(method, path, body)
    assert (answer.code, answer.body["kind"]) == (want, "Status"), answer.body


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70_000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "labels", "spec", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
SEEDS: dict[str, tuple[str, dict[str, Any]]] = {
    "pods": ("/api/v1/namespaces/default/pods", pod("p")),
    "services": (
        "/api/v1/namespaces/default/services",
        {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 1, "name": "a"}], "clusterIP": ""}},
    ),
    "deployments": (
        "/apis/apps/v1/namespaces/default/deployments",
        {
            "metadata": {"name": "d", "ownerReferences": [{"uid": "1"}], "finalizers": ["a/b"]},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod("p")["spec"]},
            },
        },
    ),
    "definitions": (
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        {
            "metadata": {"name": "as.b.c"},
            "spec": {
                "group": "b.c",
                "scope": "Namespaced",
                "names": {"plural": "as", "kind": "A", "shortNames": ["q"], "categories": ["all"]},
                "conversion": {"strategy": "None"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"x": {"type": "object"}}}},
                        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.x"}},
                        "additionalPrinterColumns": [{"name": "x", "type": "string", "jsonPath": ".x"}],
                        "selectableFields": [{"jsonPath": ".spec.x"}],
                    }
                ],
            },
        },
    ),
    "events": (
        "/api/v1/namespaces/default/events",
        {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "source": {}, "series": {"count": 1}},
    ),
    "slices": (
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        {"metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{}]},
    ),
    "leases": (
        "/apis/coordination.k8s.io/v1/namespaces/default/leases",
        {"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 1, "renewTime": "2026-01-01T00:00:00.000000Z"}},
    ),
    "secrets": (
        "/api/v1/namespaces/default/secrets",
        {"metadata": {"name": "s"}, "stringData": {"a": "b"}, "data": {}},
    ),
    "nodes": ("/api/v1/nodes", {"metadata": {"name": "n"}, "spec": {}, "status": {"conditions": [{"type": "Ready"}]}}),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in items:
        found += places(part, (*path, name))
    return found


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = new if len(path) == 1 else with_value(value[path[0]], path[1:], new)
    return copied


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_manifest_makes_the_server_fail(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any value in any place of any kind is stored or refused; a stored one can be read, shown, patched, deleted."""
    _, (path, seed) = data.draw(st.sampled_from(sorted(SEEDS.items())))
    body = seed
    for _ in range(data.draw(st.integers(1, 3))):
        body = with_value(body, data.draw(st.sampled_from(places(body))), data.draw(JSON_VALUES))
    patch = data.draw(JSON_VALUES)
    asyncio.run(_send(tmp_path_factory, path, body, patch))


_SERVERS: dict[str, Path] = {}


async def _send(factory: pytest.TempPathFactory, path: str, body: Any, patch: Any) -> None:
    directory = _SERVERS.setdefault("one", factory.mktemp("fuzz"))
    async with running_api_server(directory) as server:
        made = await call(server, "POST", path, body)
        assert made[0] < 500, (made, body)
        listed = await call(server, "GET", path, None, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert listed[0] == 200, (listed, body)
        if made[0] == 201:
            own = f"{path}/{made[1]['metadata']['name']}"
            for media in ("merge-patch", "strategic-merge-patch", "json-patch"):
                answer = await call(server, "PATCH", own, patch, media=f"application/{media}+json")
                assert answer[0] < 500, (answer, body, patch)
            answer = await call(server, "PATCH", own + "?fieldManager=f", patch, media="application/apply-patch+yaml")
            assert answer[0] < 500, (answer, body, patch)
            for index in ("/openapi/v3", "/openapi/v3/apis/b.c/v1", "/apis"):
                assert (await call(server, "GET", index, None))[0] in (200, 404)
            gone = await call(server, "DELETE", own, None)
            assert gone[0] == 200, (gone, body)
            await call(server, "PATCH", own, {"metadata": {"finalizers": None}}, media="application/merge-patch+json")


async def call(
    server: RunningApiServer, method: str, path: str, body: Any, *, media: str = "application/json", accept: str = "*/*"
) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Accept": accept, "Content-Type": media}
    async with server.session.request(method, path, data=data, headers=headers) as response:
        return response.status, await response.json(content_type=None)
