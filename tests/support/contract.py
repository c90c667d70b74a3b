"""A bare HTTP client for the contract suite: a kubeconfig in, status codes and JSON out."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support.apiserver import Ran, run_kubectl
from tests.support.waiting import until

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_BALLAST_WRITES = 60
_CONTROLLERS_S = 30.0
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the decoded JSON, or text where it is none."""

    code: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))


@dataclass(slots=True)
class Api:
    """Requests against one cluster. `namespace` belongs to this test alone."""

    session: aiohttp.ClientSession
    url: str
    anonymous: aiohttp.ClientSession
    namespace: str = ""

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        media: str = "application/json",
        accept: str = "application/json",
        is_anonymous: bool = False,
        token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request with the kubeconfig's credentials, with a `token` instead, or with none."""
        data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        session = self.anonymous if is_anonymous or token else self.session
        sent = {"Accept": accept, **({"Content-Type": media} if data is not None else {}), **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        async with session.request(method, self.url + path, data=data, params=query, headers=sent) as response:
            text = await response.text()
            try:
                return Answer(response.status, json.loads(text), response.headers)
            except ValueError:
                return Answer(response.status, text, response.headers)

    def at(self, plural: str, name: str = "", subresource: str = "", *, group: str = "", version: str = "v1") -> str:
        """Return a path in this test's namespace."""
        base = f"/apis/{group}/{version}" if group else f"/api/{version}"
        parts = [base, "namespaces", self.namespace, plural, *filter(None, (name, subresource))]
        return "/".join(parts)

    async def create(self, path: str, body: Any, **query: str) -> Answer:
        return await self.request("POST", path, body, query=query)

    async def get(self, path: str, accept: str = "application/json", **query: str) -> Answer:
        return await self.request("GET", path, query=query, accept=accept)

    async def put(self, path: str, body: Any, **query: str) -> Answer:
        return await self.request("PUT", path, body, query=query)

    async def patch(self, path: str, body: Any, media: str = MERGE, **query: str) -> Answer:
        return await self.request("PATCH", path, body, query=query, media=media)

    async def delete(self, path: str, body: Any = None, **query: str) -> Answer:
        return await self.request("DELETE", path, body, query=query)

    async def watch(self, path: str, *, until: int, accept: str = "application/json", **query: str) -> list[Any]:
        """Return the first `until` events that are no plain bookmarks."""
        events: list[Any] = []
        async with self.session.get(
            self.url + path, params={"watch": "true", "timeoutSeconds": "20", **query}, headers={"Accept": accept}
        ) as response:
            assert response.status == 200, await response.text()
            pending = b""
            async for piece in response.content.iter_any():
                *lines, pending = (pending + piece).split(b"\n")
                for line in filter(None, lines):
                    event = json.loads(line)
                    if event["type"] != "BOOKMARK" or event["object"]["metadata"].get("annotations"):
                        events.append(event)
                if len(events) >= until:
                    return events[:until]
        return events

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Wait for what controllers do. Raises TimeoutError."""
        await until(check, _CONTROLLERS_S)

    async def ready(self) -> None:
        """Wait for what controllers put into a new namespace."""

        async def is_furnished() -> bool:
            paths = self.at("serviceaccounts", "default"), self.at("configmaps", "kube-root-ca.crt")
            return all([(await self.get(path)).code == 200 for path in paths])

        await self.until(is_furnished)

    async def forget(self, version: str) -> int:
        """Write until a watch from a version is too old; return its code: 410, or 200 where all is remembered."""
        body = config_map("ballast", x="")
        await self.create(self.at("configmaps"), body)
        for number in range(_BALLAST_WRITES):
            code = await self._watch_code(version)
            if code == 410:
                return code
            await self.put(self.at("configmaps", "ballast"), {**body, "data": {"x": f"{number:03d}" * (300 * 1024)}})
        return await self._watch_code(version)

    async def _watch_code(self, version: str) -> int:
        query = {"watch": "true", "timeoutSeconds": "5", "resourceVersion": version}
        headers = {"Accept": METADATA}
        async with self.session.get(self.url + self.at("configmaps"), params=query, headers=headers) as response:
            if response.status != 200:
                return response.status
            # The ballast is newer, so there is a first event; it may be the refusal.
            return int(json.loads(await response.content.readline())["object"].get("code", 200))


@asynccontextmanager
async def connect(kubeconfig: Path) -> AsyncIterator[Api]:
    """Connect as the current context of a kubeconfig says, and make a namespace."""
    config = yaml.safe_load(kubeconfig.read_text())
    named = {kind: {e["name"]: e for e in config[kind]} for kind in ("contexts", "clusters", "users")}
    context = named["contexts"][config["current-context"]]["context"]
    cluster, user = named["clusters"][context["cluster"]]["cluster"], named["users"][context["user"]]["user"]
    url = cluster["server"].rstrip("/")
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    known = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    headers = {}
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile() as pem:
            for part in ("client-certificate-data", "client-key-data"):
                pem.write(base64.b64decode(user[part]) + b"\n")
            pem.flush()
            known.load_cert_chain(pem.name)
    elif "token" in user:
        headers["Authorization"] = f"Bearer {user['token']}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=known), headers=headers) as session,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as anonymous,
    ):
        api = Api(session, url, anonymous)
        made = await api.create(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "contract-"}}
        )
        assert made.code == 201, made.body
        api.namespace = made.body["metadata"]["name"]
        try:
            yield api
        except BaseException:
            # What went wrong is told, not that a server which is gone cannot be tidied.
            with contextlib.suppress(aiohttp.ClientError):
                await api.delete(f"/api/v1/namespaces/{api.namespace}")
            raise
        await api.delete(f"/api/v1/namespaces/{api.namespace}")


def config_map(name: str, labels: Mapping[str, str] | None = None, **data: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def deployment(name: str, *, replicas: int | None = 0, image: str = "registry.k8s.io/pause:3.9") -> dict[str, Any]:
    labels = {"app": name}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def pod(name: str, image: str = "registry.k8s.io/pause:3.9", **spec: Any) -> dict[str, Any]:
    # Nothing runs it: the contract is about the API, and gated pods are scheduled nowhere.
    gated: dict[str, Any] = {"schedulingGates": [{"name": "pybrix.ai/contract"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": image}], **gated, **spec},
    }


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The real kubectl against one cluster, in one namespace."""

    kubeconfig: Path
    namespace: str

    async def run(self, *args: str, stdin: str = "") -> Ran:
        return await run_kubectl(self.kubeconfig, "--namespace", self.namespace, *args, stdin=stdin)

    async def ok(self, *args: str, stdin: str = "") -> str:
        """Return what a command prints; one that fails, fails the test."""
        ran = await self.run(*args, stdin=stdin)
        assert ran.code == 0, (args, ran.err)
        return ran.out

    async def got(self, *args: str) -> Any:
        return json.loads(await self.ok("get", *args, "-o", "json"))
