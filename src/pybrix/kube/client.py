"""The client of a Kubernetes API server, over aiohttp and msgspec.

    async with HttpClient(load_kubeconfig(path)) as client:
        pods = await client.list(Pod, "default", label_selector="app=web")

Answers are decoded to the fields that pybrix has types for; so writes are creations and patches, never replacements.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self, TypeVar, cast

import aiohttp
import msgspec
import structlog

import pybrix
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import GroupVersionKind, Object
from pybrix.api.scheme import kind_class
from pybrix.kube.errors import Gone, KubeError, Malformed, NotFound, Unreachable, status_error
from pybrix.kube.http import LineSplitter, failure, resource_path
from pybrix.kube.interface import EventType, ObjectList, PatchType, WatchEvent
from pybrix.kube.kubeconfig import ClusterAccess

T = TypeVar("T", bound=Object)

TOKEN_LIFETIME_S = 60.0
"""How long a token file is trusted before it is read again, as in client-go."""
EARLY_END_RATIO = 0.9
"""A watch that ends before this part of its time was cut off by a server that goes away."""

_log = structlog.get_logger()


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _ListAnswer(msgspec.Struct):
    """Items stay raw, so that one object that cannot be decoded does not hide the others."""

    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class _WatchLine(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(Object):
    """A bookmark lacks the fields that its kind may require."""

    gvk: ClassVar = GroupVersionKind("", "v1", "Bookmark", "")


class _TokenAnswer(msgspec.Struct):
    status: dict[str, Any]


class _Resource(msgspec.Struct):
    name: str
    kind: str
    namespaced: bool = False


class _ResourceList(msgspec.Struct):
    resources: list[_Resource] = []


_SERVICE_ACCOUNT = GroupVersionKind("", "v1", "ServiceAccount", "serviceaccounts")
_decode_list = msgspec.json.Decoder(_ListAnswer)
_decode_line = msgspec.json.Decoder(_WatchLine)


class HttpClient:
    """`kube.interface.Client` over HTTP. It connects with the first request and belongs to that event loop.

    Args:
        access: server and credentials.
        request_timeout_s: time for a whole answer, watches excepted; 30.
        watch_timeout_s: how long a watch is asked to last; 300.
        idle_timeout_s: a watch that is silent for so long is taken for dead. Servers send a bookmark a minute; 120.
        page_size: objects in one answer of a list; 500.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        request_timeout_s: float = 30.0,
        watch_timeout_s: int = 300,
        idle_timeout_s: float = 120.0,
        page_size: int = 500,
    ) -> None:
        self._access = access
        self._ssl = access.ssl_context()
        self._request_timeout = aiohttp.ClientTimeout(total=request_timeout_s, sock_connect=min(10, request_timeout_s))
        self._watch_timeout_s = watch_timeout_s
        self._watch_timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=idle_timeout_s)
        self._page_size = page_size
        self._session: aiohttp.ClientSession | None = None
        self._token = access.token
        self._token_read_at: float | None = None
        self._decoders: dict[type[Object], msgspec.json.Decoder[Any]] = {}
        self._discovered: dict[tuple[str, str], GroupVersionKind] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, cls: type[T], key: ObjectKey) -> T:
        return self._decode(cls, await self._send("GET", resource_path(cls.gvk, key.namespace, key.name)))

    async def list(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList[T]:
        path = resource_path(cls.gvk, namespace)
        query = _selectors(label_selector, field_selector) | {"limit": str(self._page_size)}
        items: list[T] = []
        while True:
            try:
                body = await self._send("GET", path, query=query)
            except Gone:
                # The continue token outlived the server's history: the list starts again, unpaged so that it ends.
                if "continue" not in query:
                    raise
                query = _selectors(label_selector, field_selector)
                items.clear()
                continue
            try:
                page = _decode_list.decode(body)
            except msgspec.DecodeError as err:
                raise Malformed(f"GET {path}: the answer is no list: {err}") from err
            items += (obj for raw in page.items or () if (obj := self._decode_or_skip(cls, raw)) is not None)
            if not page.metadata.continue_:
                return ObjectList(items, page.metadata.resource_version)
            query["continue"] = page.metadata.continue_

    async def watch(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """Yield changes; a stream that ends well before its time raises `Unreachable`, since the server goes away."""
        query = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(self._watch_timeout_s),
        }
        path = resource_path(cls.gvk, namespace)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        async with self._request("GET", path, query=query, timeout=self._watch_timeout) as response:
            splitter = LineSplitter()
            try:
                async for chunk in response.content.iter_any():
                    for line in splitter.feed(chunk):
                        if (event := self._decode_event(cls, line)) is not None:
                            yield event
            finally:
                _hang_up(response)
        if loop.time() - started_s < self._watch_timeout_s * EARLY_END_RATIO:
            raise Unreachable(f"GET {path}: the server ended the watch early")

    async def create(self, obj: T, *, field_manager: str = "pybrix") -> T:
        cls = type(obj)
        namespace = obj.metadata.namespace or self._access.namespace
        body = await self._send(
            "POST",
            resource_path(cls.gvk, namespace),
            query={"fieldManager": field_manager},
            body=msgspec.json.encode(obj),
        )
        return self._decode(cls, body)

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        gvk = await self._find_kind(str(data.get("apiVersion", "")), str(data.get("kind", "")))
        metadata = data.get("metadata")
        namespace = str(metadata.get("namespace") or "") if isinstance(metadata, Mapping) else ""
        body = await self._send(
            "POST",
            resource_path(gvk, namespace or self._access.namespace),
            query={"fieldManager": "pybrix"},
            body=msgspec.json.encode(data),
        )
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as err:
            raise Malformed(f"creating a {gvk.kind}: the answer is no object: {err}") from err

    async def server_version(self) -> str:
        """Return the version of the server, such as `v1.30.2`."""
        version = msgspec.json.decode(await self._send("GET", "/version"), type=dict[str, Any])
        return str(version.get("gitVersion", ""))

    async def get_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the object of any kind that has the kind, namespace and name of this one."""
        return msgspec.json.decode(await self._send("GET", await self._place_of(data)), type=dict[str, Any])

    async def list_raw(self, api_version: str, kind: str) -> Sequence[dict[str, Any]]:
        """Return all objects of a kind, of all namespaces, in one answer."""
        gvk = await self._find_kind(api_version, kind)
        body = msgspec.json.decode(await self._send("GET", resource_path(gvk, None)), type=dict[str, Any])
        # Items of a list say neither their version nor their kind.
        return [{"apiVersion": api_version, "kind": kind, **item} for item in body.get("items") or ()]

    async def apply_raw(
        self, data: Mapping[str, Any], *, field_manager: str = "pybrix", is_dry_run: bool = False
    ) -> dict[str, Any]:
        """Apply an object of any kind on the server, taking fields over from others; return what becomes of it."""
        query = {"fieldManager": field_manager, "force": "true"} | ({"dryRun": "All"} if is_dry_run else {})
        body = await self._send(
            "PATCH",
            await self._place_of(data),
            query=query,
            body=msgspec.json.encode(data),
            content_type=PatchType.APPLY.value,
        )
        return msgspec.json.decode(body, type=dict[str, Any])

    async def delete_raw(self, data: Mapping[str, Any]) -> None:
        """Delete the object of any kind that has the kind, namespace and name of this one."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        await self._send("DELETE", await self._place_of(data), body=msgspec.json.encode(options))

    async def _place_of(self, data: Mapping[str, Any]) -> str:
        gvk = await self._find_kind(str(data["apiVersion"]), str(data["kind"]))
        metadata = data["metadata"]
        return resource_path(gvk, metadata.get("namespace") or self._access.namespace, metadata["name"])

    async def patch(
        self,
        cls: type[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Any],
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        resource_version: str = "",
        field_manager: str = "pybrix",
        force: bool = False,
    ) -> T:
        if resource_version:
            if patch_type is not PatchType.MERGE or not isinstance(patch, Mapping):
                raise ValueError("resource_version goes with merge patches only")
            metadata = patch.get("metadata") or {}
            patch = {**patch, "metadata": {**metadata, "resourceVersion": resource_version}}
        query = {"fieldManager": field_manager}
        if force and patch_type is PatchType.APPLY:
            query["force"] = "true"
        # An apply patch is YAML, of which JSON is a part.
        body = await self._send(
            "PATCH",
            resource_path(cls.gvk, key.namespace, key.name, subresource),
            query=query,
            body=msgspec.json.encode(patch),
            content_type=patch_type.value,
        )
        return self._decode(cls, body)

    async def delete(
        self,
        cls: type[T],
        key: ObjectKey,
        *,
        uid: Uid | None = None,
        resource_version: str = "",
        propagation: str = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        if any(preconditions.values()):
            options["preconditions"] = {name: value for name, value in preconditions.items() if value}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        path = resource_path(cls.gvk, key.namespace, key.name)
        await self._send("DELETE", path, body=msgspec.json.encode(options))

    async def create_token(self, account: ObjectKey, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a token of a service account; return the TokenRequest's status: `token`, `expirationTimestamp`."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = resource_path(_SERVICE_ACCOUNT, account.namespace, account.name, "token")
        answer = await self._send("POST", path, body=msgspec.json.encode(body))
        try:
            return msgspec.json.decode(answer, type=_TokenAnswer).status
        except msgspec.DecodeError as err:
            raise Malformed(f"POST {path}: the answer is no TokenRequest: {err}") from err

    async def _find_kind(self, api_version: str, kind: str) -> GroupVersionKind:
        """Return where a kind is served: from the types here, else from the server's discovery, which is cached."""
        if (cls := kind_class(api_version, kind)) is not None:
            return cls.gvk
        if found := self._discovered.get((api_version, kind)):
            return found
        group, _, version = api_version.rpartition("/")
        try:
            body = await self._send("GET", f"/apis/{group}/{version}" if group else f"/api/{version}")
            resources = msgspec.json.decode(body, type=_ResourceList).resources
        except NotFound:
            resources = []
        except msgspec.DecodeError as err:
            raise Malformed(f"discovery of {api_version}: {err}") from err
        for resource in resources:
            if "/" not in resource.name:
                gvk = GroupVersionKind(group, version, resource.kind, resource.name, resource.namespaced)
                self._discovered[api_version, resource.kind] = gvk
        if (api_version, kind) not in self._discovered:
            raise NotFound(404, "NotFound", f'the server knows no kind "{kind}" in "{api_version}"')
        return self._discovered[api_version, kind]

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        async with self._request(method, path, query=query, body=body, content_type=content_type) as response:
            return await response.read()

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the response of a success; raise `StatusError` for the others and `Unreachable` for none."""
        if self._session is None:
            # No limit: every watch holds a connection of its own.
            connector = aiohttp.TCPConnector(limit=0)
            agent = {"User-Agent": f"pybrix/{pybrix.__version__}", "Accept": "application/json"}
            self._session = aiohttp.ClientSession(connector=connector, headers=agent)
        headers = {"Content-Type": content_type} if body is not None else {}
        if token := self._current_token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._session.request(
                method,
                self._access.server + path,
                params=query,
                data=body,
                headers=headers,
                ssl=self._ssl if self._ssl is not None else True,
                server_hostname=self._access.tls_server_name or None,
                timeout=timeout or self._request_timeout,
                allow_redirects=False,
            ) as response:
                if response.status >= 300:
                    raise failure(response.status, await response.read(), response.headers.get("Retry-After"))
                yield response
        except TimeoutError as err:
            raise Unreachable(f"{method} {path}: no answer from {self._access.server} in time") from err
        except (aiohttp.ClientError, OSError) as err:
            raise Unreachable(f"{method} {path}: {self._access.server}: {err or type(err).__name__}") from err

    def _current_token(self) -> str:
        file = self._access.token_file
        if file is None:
            return self._token
        now_s = asyncio.get_running_loop().time()
        if self._token_read_at is None or now_s - self._token_read_at > TOKEN_LIFETIME_S:
            try:
                self._token = file.read_text().strip()
            except OSError as err:
                raise KubeError(f"cannot read the token file {file}: {err.strerror}") from err
            self._token_read_at = now_s
        return self._token

    def _decode_event(self, cls: type[T], line: bytes) -> WatchEvent[T] | None:
        try:
            change = _decode_line.decode(line)
            if change.type == "ERROR":
                status = msgspec.json.decode(change.object, type=dict[str, Any])
                raise status_error(int(status.get("code", 500)), status)
            kind = EventType(change.type)
            if kind is EventType.BOOKMARK:
                return WatchEvent(kind, cast("T", msgspec.json.decode(change.object, type=_Bookmark)))
        except (msgspec.DecodeError, ValueError) as err:
            raise Malformed(f"watch of {cls.gvk.plural}: {err}") from err
        obj = self._decode_or_skip(cls, change.object)
        return None if obj is None else WatchEvent(kind, obj)

    def _decode(self, cls: type[T], body: bytes | msgspec.Raw) -> T:
        decoder = self._decoders.get(cls)
        if decoder is None:
            decoder = self._decoders[cls] = msgspec.json.Decoder(cls)
        try:
            decoded: T = decoder.decode(body)
        except msgspec.DecodeError as err:
            raise Malformed(f"the answer is no {cls.gvk.kind}: {err}") from err
        return decoded

    def _decode_or_skip(self, cls: type[T], raw: msgspec.Raw) -> T | None:
        """Decode one of many objects; one that a looser schema let in is logged and left out."""
        try:
            return self._decode(cls, raw)
        except Malformed as err:
            _log.error(
                "object skipped", kind=cls.gvk.kind, error=str(err), start=bytes(raw)[:200].decode("utf-8", "replace")
            )
            return None


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """Drop the connection of an answer that was not read to its end.

    To close it would wait for the server's goodbye of TLS, which nobody else waits for: where the event loop ends
    before, the socket stays open.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: text for name, text in given.items() if text}
