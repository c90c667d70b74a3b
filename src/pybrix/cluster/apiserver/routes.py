"""The paths of the Kubernetes API and what each does. One request in, one answer out; watches and logs stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import web

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.cluster.apiserver import discovery, openapi, openapi2
from pybrix.cluster.apiserver.access.attributes import Attributes
from pybrix.cluster.apiserver.access.authorizer import Authorizer, require
from pybrix.cluster.apiserver.access.impersonation import impersonated
from pybrix.cluster.apiserver.access.reviews import Reviews
from pybrix.cluster.apiserver.accounts import TokenRequests
from pybrix.cluster.apiserver.answers import encode, json_answer, status_answer
from pybrix.cluster.apiserver.auth import OPEN_PATHS, authenticate
from pybrix.cluster.apiserver.execs import ExecProvider
from pybrix.cluster.apiserver.failures import bad_request, failure, method_not_allowed, no_such_path, too_large
from pybrix.cluster.apiserver.logs import LogProvider
from pybrix.cluster.apiserver.negotiation import media_type
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import parse_bool
from pybrix.cluster.apiserver.podexec import answer_exec, refuse_stream
from pybrix.cluster.apiserver.podlogs import read_log
from pybrix.cluster.apiserver.presentation import Presentation
from pybrix.cluster.apiserver.reads import Reads
from pybrix.cluster.apiserver.targets import Target, parse_target
from pybrix.cluster.apiserver.tokens import AccountTokens
from pybrix.cluster.apiserver.users import User
from pybrix.cluster.apiserver.writes import APPLY_MEDIA, Writes
from pybrix.cluster.errors import StoreFull
from pybrix.cluster.pki import Pki
from pybrix.kube.errors import StatusError

_log = structlog.get_logger()
BODY_LIMIT_BYTES = 3 * 1024 * 1024
_METHOD_VERBS = {"GET": "get", "HEAD": "head", "POST": "post", "PUT": "put", "PATCH": "patch", "DELETE": "delete"}
_PATHS = ("/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version")


class Routes:
    """Answer requests. One instance serves all connections of one server."""

    def __init__(
        self,
        objects: Objects,
        *,
        pki: Pki,
        tokens: AccountTokens,
        authorizer: Authorizer,
        clock: Clock,
        logs: LogProvider | None,
        execs: ExecProvider | None,
        version: Mapping[str, str],
        bookmark_interval_s: float,
    ) -> None:
        self._objects = objects
        self._catalog = objects.catalog
        self._pki = pki
        self._tokens = tokens
        self._authorizer = authorizer
        self._logs = logs
        self._execs = execs
        self._version = dict(version)
        presentation = Presentation(objects.records, clock)
        self._reads = Reads(objects, presentation, clock=clock, bookmark_interval_s=bookmark_interval_s)
        self._writes = Writes(objects, presentation, TokenRequests(objects, tokens), Reviews(authorizer, tokens))

    def end_watches(self) -> None:
        """End all watches in order, as a server that stops does."""
        self._reads.end_watches()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request; what goes wrong becomes a `Status`."""
        try:
            return await self._dispatch(request)
        except StatusError as err:
            return status_answer(err)
        except web.HTTPRequestEntityTooLarge:
            return status_answer(too_large(BODY_LIMIT_BYTES))
        except RecursionError:
            return status_answer(bad_request("the request is nested too deeply"))
        except StoreFull as err:
            return status_answer(failure(507, "InsufficientStorage", str(err)))
        except UsageError as err:
            _log.error("request failed", method=request.method, path=request.path, error=str(err))
            return status_answer(failure(500, "InternalError", str(err)))
        except (asyncio.CancelledError, ConnectionError, web.HTTPException):
            raise
        except Exception as err:  # noqa: BLE001 - the request boundary
            _log.exception("request failed", method=request.method, path=request.path)
            return status_answer(failure(500, "InternalError", f"Internal error occurred: {type(err).__name__}"))

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        _check_text(request)
        parts = [part for part in request.path.split("/") if part]
        if parts and parts[0] in OPEN_PATHS:
            return web.Response(text="ok")
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport else None
        sender = authenticate(request.headers, tls, self._pki, self._tokens)
        user = impersonated(request.headers, sender, self._authorizer)
        is_core = parts[:1] == ["api"]
        if (is_core and len(parts) > 2) or (parts[:1] == ["apis"] and len(parts) > 3):
            group, version, rest = ("", parts[1], parts[2:]) if is_core else (parts[1], parts[2], parts[3:])
            return await self._resource(request, parse_target(self._catalog, group, version, rest), user)
        require(self._authorizer, user, Attributes(_METHOD_VERBS.get(request.method, ""), path=request.path))
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed(request.method) if parts[:1] in (["api"], ["apis"]) else no_such_path()
        if parts in (["api"], ["apis"]) and discovery.wants_aggregated(request.headers.get("Accept", "")):
            body = encode(discovery.print_aggregated(self._catalog, is_core=is_core))
            return web.Response(body=body, headers={"Content-Type": discovery.AGGREGATED})
        if parts == ["openapi", "v2"] and openapi2.wants_protobuf(request.headers.get("Accept", "")):
            body = openapi2.encode_document(openapi2.print_document(self._catalog))
            return web.Response(body=body, headers={"Content-Type": openapi2.PROTOBUF})
        document = self._document(parts)
        if document is None:
            raise no_such_path()
        return json_answer(document)

    def _document(self, parts: list[str]) -> Mapping[str, Any] | None:
        """Return what is at a path that names no resource; None when there is nothing."""
        match parts:
            case []:
                return {"paths": list(_PATHS)}
            case ["version"]:
                return self._version
            case ["api"]:
                return discovery.print_versions()
            case ["api", version]:
                return discovery.print_resources(self._catalog, "", version)
            case ["apis"]:
                return discovery.print_groups(self._catalog)
            case ["apis", group]:
                return discovery.print_group(self._catalog, group)
            case ["apis", group, version]:
                return discovery.print_resources(self._catalog, group, version)
            case ["openapi", "v2"]:
                return openapi2.print_document(self._catalog)
            case ["openapi", "v3"]:
                return openapi.print_index(self._catalog)
            case ["openapi", "v3", "api", version]:
                return openapi.print_document(self._catalog, "", version)
            case ["openapi", "v3", "apis", group, version]:
                return openapi.print_document(self._catalog, group, version)
        return None

    async def _resource(self, request: web.BaseRequest, target: Target, user: User) -> web.StreamResponse:
        verbs = target.served.verbs
        is_watch = request.method == "GET" and parse_bool(request.query, "watch")
        require(self._authorizer, user, target.attributes(target.verb(request.method, is_watch=is_watch)))
        if target.subresource in ("exec", "attach", "portforward") and request.method in ("GET", "POST"):
            # Whatever the method that begins the stream: it changes something.
            require(self._authorizer, user, target.attributes("create"))
            pod = self._objects.read(target.served, target.key).data
            if target.subresource == "exec":
                return await answer_exec(request, pod, target.key, self._execs)
            return refuse_stream(pod, target.key, target.subresource)
        if request.method in ("GET", "HEAD"):
            if target.subresource == "log":
                pod = self._objects.read(target.served, target.key).data
                return await read_log(request, pod, target.key, self._logs)
            if target.subresource in ("binding", "eviction", "token"):
                raise method_not_allowed(request.method)
            if target.name and "get" in verbs:
                return self._reads.get(request, target)
            if not target.name and "list" in verbs:
                if is_watch:
                    return await self._reads.watch(request, target)
                return await self._reads.list(request, target)
            raise method_not_allowed(request.method)
        body = await request.read()
        is_apply = media_type(request.headers.get("Content-Type", "")) in APPLY_MEDIA
        if is_apply and self._objects.store.get(target.served.storage, target.key) is None:
            # To apply what is not there creates it.
            require(self._authorizer, user, target.attributes("create"))
        return self._writes.answer(request, target, user, body)


def _check_text(request: web.BaseRequest) -> None:
    """Refuse a request whose headers or path are no text: they come back in answers and are stored as names."""
    for name, value in request.headers.items():
        if not value.isascii() and not _is_text(value):
            raise bad_request(f"the header {name} is not valid UTF-8")
    if not _is_text(request.path):
        raise bad_request("the path is not valid UTF-8")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
