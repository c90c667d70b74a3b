"""The paths of the Kubernetes API and what each does. One request in, one answer out; watches and logs stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import web

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.cluster.apiserver import discovery, openapi
from pybrix.cluster.apiserver.auth import OPEN_PATHS, authenticate
from pybrix.cluster.apiserver.failures import (
    bad_request,
    failure,
    method_not_allowed,
    no_such_path,
    status_body,
    too_large,
    unsupported_media_type,
)
from pybrix.cluster.apiserver.lists import read_page
from pybrix.cluster.apiserver.logs import LogProvider
from pybrix.cluster.apiserver.negotiation import (
    JSON,
    Accepted,
    decode_body,
    decode_json,
    decode_yaml,
    duplicate_fields,
    media_type,
    parse_accept,
)
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import (
    WriteOptions,
    delete_options,
    list_options,
    parse_bool,
    parse_int,
    write_options,
)
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.tables.table import INCLUDES, partial_metadata, print_table
from pybrix.cluster.apiserver.watch import Watch
from pybrix.cluster.errors import StoreFull
from pybrix.cluster.pki import Pki
from pybrix.cluster.store.history import Stored
from pybrix.kube.errors import StatusError
from pybrix.kube.interface import PatchType

_log = structlog.get_logger()
BODY_LIMIT_BYTES = 3 * 1024 * 1024
# Clients limit the headers that they read.
_WARNING_CHARACTERS, _WARNINGS_CHARACTERS = 256, 4096
_DEFAULT_WATCH_S = 1800
_FIRST_LOG_WAIT_S = 0.3
_encode = msgspec.json.Encoder().encode
_APPLY_MEDIA = ("application/apply-patch+yaml", "application/apply-patch+json")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names. `namespace` None means all namespaces; `name` "" the collection."""

    served: ResourceType
    namespace: str | None
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace or "", self.name)


class Routes:
    """Answer requests. One instance serves all connections of one server."""

    def __init__(
        self,
        objects: Objects,
        *,
        pki: Pki,
        clock: Clock,
        logs: LogProvider | None,
        version: Mapping[str, str],
        bookmark_interval_s: float,
    ) -> None:
        self._objects = objects
        self._store = objects.store
        self._catalog = objects.catalog
        self._pki = pki
        self._clock = clock
        self._logs = logs
        self._version = dict(version)
        self._bookmark_interval_s = bookmark_interval_s
        self._watches: set[Watch] = set()

    def end_watches(self) -> None:
        """End all watches in order, as a server that stops does."""
        for watch in list(self._watches):
            if watch.subscription is not None:
                watch.subscription.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request; what goes wrong becomes a `Status`."""
        try:
            return await self._dispatch(request)
        except StatusError as err:
            return _status(err)
        except web.HTTPRequestEntityTooLarge:
            return _status(too_large(BODY_LIMIT_BYTES))
        except RecursionError:
            return _status(bad_request("the request is nested too deeply"))
        except StoreFull as err:
            return _status(failure(507, "InsufficientStorage", str(err)))
        except UsageError as err:
            _log.error("request failed", method=request.method, path=request.path, error=str(err))
            return _status(failure(500, "InternalError", str(err)))
        except (asyncio.CancelledError, ConnectionError, web.HTTPException):
            raise
        except Exception as err:  # noqa: BLE001 - the request boundary
            _log.exception("request failed", method=request.method, path=request.path)
            return _status(failure(500, "InternalError", f"Internal error occurred: {type(err).__name__}"))

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        if parts and parts[0] in OPEN_PATHS:
            return web.Response(text="ok")
        transport = request.transport
        authenticate(request.headers, transport.get_extra_info("ssl_object") if transport else None, self._pki)
        if parts[:1] in (["api"], ["apis"]):
            return await self._api(request, parts)
        if request.method not in ("GET", "HEAD"):
            raise no_such_path()
        match parts:
            case []:
                return _json({"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]})
            case ["version"]:
                return _json(self._version)
            case ["openapi", "v3"]:
                return _json(openapi.print_index(self._catalog))
            case ["openapi", "v3", "api", version]:
                return _json(_found(openapi.print_document(self._catalog, "", version)))
            case ["openapi", "v3", "apis", group, version]:
                return _json(_found(openapi.print_document(self._catalog, group, version)))
        raise no_such_path()

    async def _api(self, request: web.Request, parts: list[str]) -> web.StreamResponse:
        is_core = parts[0] == "api"
        if len(parts) <= (2 if is_core else 3):
            if request.method not in ("GET", "HEAD"):
                raise method_not_allowed(request.method)
            if len(parts) == 1 and discovery.wants_aggregated(request.headers.get("Accept", "")):
                body = _encode(discovery.print_aggregated(self._catalog, is_core=is_core))
                return web.Response(body=body, headers={"Content-Type": discovery.AGGREGATED})
            match parts:
                case ["api"]:
                    return _json(discovery.print_versions())
                case ["api", version]:
                    return _json(_found(discovery.print_resources(self._catalog, "", version)))
                case ["apis"]:
                    return _json(discovery.print_groups(self._catalog))
                case ["apis", group]:
                    return _json(_found(discovery.print_group(self._catalog, group)))
                case ["apis", group, version]:
                    return _json(_found(discovery.print_resources(self._catalog, group, version)))
        group, version, rest = ("", parts[1], parts[2:]) if is_core else (parts[1], parts[2], parts[3:])
        target = self._target(group, version, rest)
        return await self._resource(request, target)

    def _target(self, group: str, version: str, rest: list[str]) -> Target:
        namespace: str | None = None
        is_namespace_itself = (
            group == "" and rest[0] == "namespaces" and (len(rest) < 3 or rest[2] in ("status", "finalize"))
        )
        if rest[0] == "namespaces" and not is_namespace_itself:
            if len(rest) < 3:
                raise no_such_path()
            namespace, rest = rest[1], rest[2:]
        if len(rest) > 3:
            raise no_such_path()
        served = self._catalog.find(group, version, rest[0])
        if served is None or (namespace is not None and not served.is_namespaced):
            raise no_such_path()
        if not served.is_namespaced:
            namespace = ""
        name, subresource = [*rest, "", ""][1:3]
        if name and served.is_namespaced and namespace is None:
            raise no_such_path()
        known = (
            *served.subresources,
            *(("status",) if served.has_status else ()),
            *(("scale",) if served.scale is not None else ()),
        )
        if subresource and subresource not in known:
            raise no_such_path()
        return Target(served, namespace, name, subresource)

    async def _resource(self, request: web.Request, target: Target) -> web.StreamResponse:
        method = "GET" if request.method == "HEAD" else request.method
        body = await request.read() if method in ("POST", "PUT", "PATCH", "DELETE") else b""
        if target.served.deprecation:
            warnings = [target.served.deprecation]
        else:
            warnings = []
        if target.subresource in ("log", "binding", "eviction"):
            return await self._pod_door(request, target, method, body)
        match method, bool(target.name):
            case "GET", False if "list" in target.served.verbs:
                if parse_bool(request.query, "watch"):
                    return await self._watch(request, target)
                return self._list(request, target)
            case "GET", True if "get" in target.served.verbs:
                return self._get(request, target)
            case "POST", False:
                return self._create(request, target, body, warnings)
            case "PUT", True if "update" in target.served.verbs:
                sent = _body(request, body)
                options = _write_options(request, body, warnings)
                data = self._objects.replace(target.served, target.key, sent, options, target.subresource)
                return self._object(request, target.served, data, options.warnings)
            case "PATCH", True if "patch" in target.served.verbs:
                return self._patch(request, target, body, warnings)
            case "DELETE", True if "delete" in target.served.verbs and not target.subresource:
                return self._delete(request, target, body)
            case "DELETE", False if "deletecollection" in target.served.verbs and target.namespace is not None:
                options_ = delete_options(request.query, _body(request, body))
                selected = list_options(request.query, target.served.selectable)
                gone = self._objects.delete_collection(target.served, target.namespace, selected, options_)
                return _json(
                    {
                        "kind": target.served.kind_of_list,
                        "apiVersion": target.served.api_version,
                        "metadata": {"resourceVersion": str(self._store.revision)},
                        "items": gone,
                    }
                )
        raise method_not_allowed(request.method)

    # Reading.

    def _get(self, request: web.Request, target: Target) -> web.Response:
        stored = self._objects.read(target.served, target.key)
        asked = list_options(request.query, target.served.selectable).resource_version
        if asked and int(asked) > self._store.revision:
            # The object cannot be as new as that.
            raise failure(504, "Timeout", f"Too large resource version: {asked}, current: {self._store.revision}")
        if target.subresource == "scale":
            return _json(self._objects.scale_of(target.served, stored.data))
        return self._object(request, target.served, self._objects.view(target.served, stored.data), [])

    def _object(
        self, request: web.Request, served: ResourceType, data: dict[str, Any], warnings: list[str], status: int = 200
    ) -> web.Response:
        accepted = parse_accept(request.headers.get("Accept", ""))
        if data.get("kind") == "Scale" and served.kind != "Scale":
            return _json(data, status, warnings)
        if accepted.is_table:
            version = data["metadata"].get("resourceVersion", "")
            return _json(self._table(request, served, accepted, [data], {"resourceVersion": version}), status, warnings)
        if accepted.is_metadata_only:
            return _json(partial_metadata(data), status, warnings)
        return _json(data, status, warnings)

    def _table(
        self,
        request: web.Request,
        served: ResourceType,
        accepted: Accepted,
        objects: list[dict[str, Any]],
        metadata: dict[str, Any],
    ) -> dict[str, Any]:
        include = request.query.get("includeObject", "Metadata") or "Metadata"
        if include not in INCLUDES:
            raise bad_request(f"unrecognized includeObject value: {include!r}")
        return print_table(
            served, objects, self._clock.now(), include=include, version=accepted.table_version, metadata=metadata
        )

    def _list(self, request: web.Request, target: Target) -> web.Response:
        served = target.served
        page = read_page(
            self._store, served.storage, target.namespace, list_options(request.query, target.served.selectable)
        )
        accepted = parse_accept(request.headers.get("Accept", ""))
        if accepted.is_table:
            views = [self._objects.view(served, s.data) for s in page.items]
            return _json(self._table(request, served, accepted, views, page.metadata))
        if accepted.is_metadata_only:
            items = [partial_metadata(s.data) for s in page.items]
            kind = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return _json({**kind, "metadata": page.metadata, "items": items})
        render = self._raw(served)
        head = _encode({"kind": served.kind_of_list, "apiVersion": served.api_version, "metadata": page.metadata})
        body = b'%s,"items":[%s]}' % (head[:-1], b",".join([render(s) for s in page.items]))
        return web.Response(body=body, content_type=JSON)

    def _raw(self, served: ResourceType) -> Callable[[Stored], bytes]:
        def render(stored: Stored) -> bytes:
            if stored.data.get("apiVersion") == served.api_version and stored.revision > served.settled_revision:
                return stored.raw
            return _encode(self._objects.view(served, stored.data))

        return render

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        served = target.served
        options = list_options(request.query, served.selectable)
        accepted = parse_accept(request.headers.get("Accept", ""))
        render = self._raw(served)
        if accepted.is_table:

            def render(stored: Stored) -> bytes:
                view = self._objects.view(served, stored.data)
                metadata = {"resourceVersion": str(stored.revision)}
                return _encode(self._table(request, served, accepted, [view], metadata))

        elif accepted.is_metadata_only:

            def render(stored: Stored) -> bytes:
                return _encode(partial_metadata(stored.data))

        watch = Watch(
            self._store,
            served,
            target.namespace,
            options,
            render,
            clock=self._clock,
            timeout_s=options.timeout_s or _DEFAULT_WATCH_S,
            bookmark_interval_s=self._bookmark_interval_s,
        )
        if watch.subscription is not None and request.transport is not None:
            # A client that does not read blocks this handler in `write`; only the connection's end frees it.
            watch.subscription.on_cut = request.transport.abort
        self._watches.add(watch)
        try:
            return await _stream(request, watch.chunks(), JSON)
        finally:
            self._watches.discard(watch)
            if watch.subscription is not None:
                watch.subscription.close()

    # Writing.

    def _create(self, request: web.Request, target: Target, body: bytes, warnings: list[str]) -> web.Response:
        if "create" not in target.served.verbs:
            raise method_not_allowed(request.method)
        namespace = target.namespace
        if namespace is None:
            raise method_not_allowed(request.method)
        sent = _body(request, body)
        options = _write_options(request, body, warnings)
        if target.served.storage == "bindings":
            name = sent.get("metadata", {}).get("name", "") if isinstance(sent, dict) else ""
            return self._bind(ObjectKey(namespace, str(name)), sent, options)
        data = self._objects.create_object(target.served, namespace, sent, options)
        return self._object(request, target.served, data, options.warnings, 201)

    def _bind(self, key: ObjectKey, sent: Any, options: WriteOptions) -> web.Response:
        self._objects.bind(key, sent, options)
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    def _patch(self, request: web.Request, target: Target, body: bytes, warnings: list[str]) -> web.Response:
        media = media_type(request.headers.get("Content-Type", ""))
        accepted = [str(t) for t in PatchType if not (target.served.is_custom and t is PatchType.STRATEGIC)]
        if media in _APPLY_MEDIA:
            patch_type, patch = PatchType.APPLY, decode_yaml(body)
            if not request.query.get("fieldManager"):
                raise bad_request("PatchOptions.meta.k8s.io: fieldManager: Required value: is required for apply patch")
        elif media in accepted:
            patch_type, patch = PatchType(media), decode_json(body)
        else:
            raise unsupported_media_type(media, accepted)
        options = _write_options(request, body, warnings)
        if options.force and patch_type is not PatchType.APPLY:
            raise bad_request("PatchOptions.meta.k8s.io: force: Forbidden: may not be specified for non-apply patch")
        existed = self._store.get(target.served.storage, target.key) is not None
        data = self._objects.patch_object(target.served, target.key, patch_type, patch, options, target.subresource)
        return self._object(request, target.served, data, options.warnings, 200 if existed else 201)

    def _delete(self, request: web.Request, target: Target, body: bytes) -> web.Response:
        options = delete_options(request.query, _body(request, body))
        data, is_gone = self._objects.delete_object(target.served, target.key, options)
        if not is_gone or target.served.storage == "pods":
            return self._object(request, target.served, data, [])
        details = {
            "name": target.name,
            "group": target.served.group,
            "kind": target.served.plural,
            "uid": data["metadata"].get("uid", ""),
        }
        details = {k: v for k, v in details.items() if v}
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    # Doors of pods.

    async def _pod_door(self, request: web.Request, target: Target, method: str, body: bytes) -> web.StreamResponse:
        match target.subresource, method:
            case "log", "GET":
                return await self._read_log(request, target.key)
            case "binding", "POST":
                return self._bind(target.key, _body(request, body), _write_options(request, body, []))
            case "eviction", "POST":
                sent = _body(request, body)
                if not isinstance(sent, dict):
                    raise bad_request("the body is not an Eviction")
                self._objects.delete_object(
                    target.served, target.key, delete_options(request.query, sent.get("deleteOptions"))
                )
                return _json(
                    {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201
                )
        raise method_not_allowed(request.method)

    async def _read_log(self, request: web.Request, key: ObjectKey) -> web.StreamResponse:
        pod = self._objects.read(self._objects.served("pods"), key).data
        query = request.query
        container = _container(pod, query.get("container", ""))
        if self._logs is None:
            raise failure(503, "ServiceUnavailable", "this server has no node agent that could read logs")
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {key.name} does not have a host assigned")
        pieces = self._logs.read(
            key.namespace,
            key.name,
            container,
            follow=parse_bool(query, "follow"),
            tail_lines=_not_negative(query, "tailLines"),
            since_seconds=_not_negative(query, "sinceSeconds"),
            since_time=query.get("sinceTime") or None,
            previous=parse_bool(query, "previous"),
            timestamps=parse_bool(query, "timestamps"),
            limit_bytes=_not_negative(query, "limitBytes"),
        )
        return await _stream(request, pieces, "text/plain", first_wait_s=_FIRST_LOG_WAIT_S)


def _not_negative(query: Mapping[str, str], name: str) -> int | None:
    value = parse_int(query, name)
    if value is not None and value < 0:
        raise bad_request(f"{name}: must be greater than or equal to 0")
    return value


def _container(pod: dict[str, Any], asked: str) -> str:
    """Return the container whose log is meant: the one asked for, the only one, or the annotated default."""
    spec = pod["spec"]
    names = [c["name"] for c in spec.get("containers", ())]
    initial = [c["name"] for c in spec.get("initContainers", ())]
    name = pod["metadata"]["name"]
    if asked:
        if asked not in (*names, *initial):
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    default = pod["metadata"].get("annotations", {}).get("kubectl.kubernetes.io/default-container")
    if default in names:
        return str(default)
    if len(names) == 1:
        return str(names[0])
    choices = f"choose one of: [{' '.join(names)}]" + (
        f" or one of the init containers: [{' '.join(initial)}]" if initial else ""
    )
    raise bad_request(f"a container name must be specified for pod {name}, {choices}")


def _write_options(request: web.Request, body: bytes, warnings: list[str]) -> WriteOptions:
    """Return the options of a write whose body has been decoded."""
    options = write_options(request.query, request.headers.get("User-Agent", ""))
    options.warnings.extend(warnings)
    if options.field_validation != "Ignore":
        options.duplicates.extend(duplicate_fields(body, request.headers.get("Content-Type", "")))
    return options


def _body(request: web.Request, body: bytes) -> Any:
    return decode_body(body, request.headers.get("Content-Type", ""))


def _found(document: dict[str, Any] | None) -> dict[str, Any]:
    if document is None:
        raise no_such_path()
    return document


def _json(data: Any, status: int = 200, warnings: list[str] | None = None) -> web.Response:
    response = web.Response(body=_encode(data), status=status, content_type=JSON)
    room = _WARNINGS_CHARACTERS
    for warning in warnings or ():
        text = "".join(c if c.isprintable() else " " for c in warning[:_WARNING_CHARACTERS])
        room -= len(text)
        if room >= 0:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def _status(err: StatusError) -> web.Response:
    response = _json(status_body(err), err.code)
    if err.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    retry = err.details.get("retryAfterSeconds")
    if retry:
        response.headers["Retry-After"] = str(retry)
    return response


async def _stream(
    request: web.Request, pieces: AsyncIterator[bytes], content_type: str, *, first_wait_s: float | None = None
) -> web.StreamResponse:
    """Send pieces as they come.

    With `first_wait_s`, what fails so soon is an answer of its own; after it the headers go out.
    """
    first: asyncio.Future[bytes | None] | None = None
    response = web.StreamResponse()
    response.content_type = content_type
    try:
        if first_wait_s is not None:
            first = asyncio.ensure_future(_next(pieces))
            await asyncio.wait({first}, timeout=first_wait_s)
            if first.done() and first.exception() is not None:
                first.result()
        await response.prepare(request)
        if first is not None:
            piece = await first
            if piece is None:
                return response
            await response.write(piece)
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        return response  # The client went away; that is how most watches end.
    except Exception:
        if not response.prepared:
            raise
        # An answer is under way: its end without the final chunk tells the client that it is not complete.
        _log.exception("stream failed", path=request.path)
        if request.transport is not None:
            request.transport.abort()
        return response
    finally:
        if first is not None and not first.done():
            first.cancel()
            await asyncio.wait({first})
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
    return response


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)
