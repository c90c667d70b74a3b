"""The HTTP client against a scripted server: what it asks, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web

from pybrix.api.core import EndpointSlice, Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import ObjectMeta
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    Malformed,
    NotFound,
    StatusError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from pybrix.kube.interface import EventType, PatchType
from pybrix.kube.kubeconfig import ClusterAccess
from tests.support.certificates import Authority
from tests.support.scriptedhttp import ScriptedServer, json_answer, serving, stream_answer, text_answer

KEY = ObjectKey("shop", "a")
PODS = "/api/v1/namespaces/shop/pods"


@asynccontextmanager
async def talking(**options: Any) -> AsyncIterator[tuple[HttpClient, ScriptedServer]]:
    async with serving() as server, HttpClient(ClusterAccess(server.url, token="secret"), **options) as client:
        yield client, server


def pod(name: str = "a", version: str = "1", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": version}} | more


def line(event: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": event, "object": obj}).encode() + b"\n"


async def test_get_decodes_what_it_knows_and_asks_with_the_token() -> None:
    async with talking() as (client, server):
        server.on(f"GET {PODS}/a", json_answer(pod(spec={"nodeName": "n", "unknownToUs": 1})))
        got = await client.get(Pod, KEY)
        assert (got.key, got.spec.node_name, got.kind) == (KEY, "n", "Pod")
        assert server.asked[0].headers["Authorization"] == "Bearer secret"


async def test_a_list_follows_its_pages() -> None:
    async with talking(page_size=2) as (client, server):
        first = {"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [pod("a"), pod("b")]}
        last = {"metadata": {"resourceVersion": "7"}, "items": [pod("c")]}
        server.on(f"GET {PODS}", json_answer(first), json_answer(last))
        got = await client.list(Pod, "shop", label_selector="app in (x, y)", field_selector="spec.nodeName=n")
        assert [p.metadata.name for p in got.items] == ["a", "b", "c"]
        assert got.resource_version == "7"
        selectors = {"limit": "2", "labelSelector": "app in (x, y)", "fieldSelector": "spec.nodeName=n"}
        assert [a.query for a in server.asked] == [selectors, selectors | {"continue": "next"}]


async def test_a_list_whose_token_expires_starts_again_in_one_piece() -> None:
    async with talking() as (client, server):
        first = {"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [pod("old")]}
        expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "token too old"}
        whole = {"metadata": {"resourceVersion": "9"}, "items": [pod("new")]}
        server.on("GET /api/v1/pods", json_answer(first), json_answer(expired, 410), json_answer(whole))
        got = await client.list(Pod)
        assert [p.metadata.name for p in got.items] == ["new"]
        assert server.asked[-1].query == {}


async def test_an_object_that_does_not_decode_does_not_hide_the_others() -> None:
    async with talking() as (client, server):
        items = [pod("a"), {"metadata": {"name": 5}}, pod("c")]
        server.on("GET /api/v1/pods", json_answer({"metadata": {}, "items": items}))
        assert [p.metadata.name for p in (await client.list(Pod)).items] == ["a", "c"]


@pytest.mark.parametrize("items", [None, []])
async def test_an_empty_list(items: list[Any] | None) -> None:
    async with talking() as (client, server):
        server.on("GET /api/v1/pods", json_answer({"metadata": {"resourceVersion": "3"}, "items": items}))
        got = await client.list(Pod)
        assert (list(got.items), got.resource_version) == ([], "3")


async def test_a_watch_yields_changes_and_bookmarks() -> None:
    async with talking(watch_timeout_s=0) as (client, server):
        big = pod("big", "3", status={"message": "x" * 3_000_000})
        stream = line("ADDED", pod()) + line("MODIFIED", big) + line("DELETED", pod("a", "4"))
        stream += line("BOOKMARK", {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}})
        pieces = [stream[i : i + 100_001] for i in range(0, len(stream), 100_001)]
        server.on("GET /api/v1/pods", stream_answer(*pieces))
        got = [event async for event in client.watch(Pod, resource_version="1")]
        assert [(e.type.value, e.object.metadata.resource_version) for e in got] == [
            ("ADDED", "1"),
            ("MODIFIED", "3"),
            ("DELETED", "4"),
            ("BOOKMARK", "9"),
        ]
        assert len(got[1].object.status.message) == 3_000_000
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "1", "timeoutSeconds": "0"}
        assert server.asked[0].query == query


async def test_a_bookmark_needs_none_of_the_fields_its_kind_requires() -> None:
    async with talking(watch_timeout_s=0) as (client, server):
        body = line("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
        server.on("GET /apis/discovery.k8s.io/v1/endpointslices", stream_answer(body))
        (event,) = [event async for event in client.watch(EndpointSlice, resource_version="1")]
        assert event.type is EventType.BOOKMARK
        assert event.object.metadata.resource_version == "9"


async def test_too_old_a_version_is_gone_at_once_or_in_the_stream() -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (9)"}
    async with talking() as (client, server):
        server.on("GET /api/v1/pods", json_answer(status, 410), stream_answer(line("ERROR", status)))
        for _ in range(2):
            with pytest.raises(Gone, match="too old resource version"):
                await anext(aiter(client.watch(Pod, resource_version="1")))


async def test_a_watch_that_ends_early_or_breaks_is_unreachable() -> None:
    async def break_off(request: web.Request) -> None:
        assert request.transport is not None
        request.transport.close()

    async with talking() as (client, server):
        whole = stream_answer(line("ADDED", pod()))
        broken = stream_answer(line("ADDED", pod()), b'{"type":"ADD', before_end=break_off)
        server.on("GET /api/v1/pods", whole, broken)
        for _ in range(2):
            events = client.watch(Pod, resource_version="1")
            assert (await anext(events)).object.key == KEY
            with pytest.raises(Unreachable):
                await anext(events)


async def test_a_watch_that_is_left_leaves_no_connection_behind(tmp_path: Path) -> None:
    authority, stay = Authority(), asyncio.Event()

    async def for_ever(_: web.Request) -> None:
        await stay.wait()

    async with serving(authority.server_context(tmp_path)) as server:
        server.on("GET /api/v1/pods", stream_answer(line("ADDED", pod()), before_end=for_ever))
        port = int(server.url.rpartition(":")[2])
        async with HttpClient(ClusterAccess(server.url, ca=authority.pem)) as client:
            begun = asyncio.Event()

            async def follow() -> None:
                async for _ in client.watch(Pod, resource_version="1"):
                    begun.set()

            following = asyncio.ensure_future(follow())
            await begun.wait()
            assert _connections_to(port) == 1
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        # No time for a goodbye: the loop may end here.
        await asyncio.sleep(0)
        assert _connections_to(port) == 0


def _connections_to(port: int) -> int:
    return sum(bool(each.raddr) and each.raddr.port == port for each in psutil.Process().net_connections("tcp"))


async def test_a_silent_watch_is_given_up() -> None:
    async def hang(_: web.Request) -> None:
        await asyncio.Event().wait()

    async with talking(idle_timeout_s=0.05) as (client, server):
        server.on("GET /api/v1/pods", stream_answer(line("ADDED", pod()), before_end=hang))
        with pytest.raises(Unreachable, match="in time"):
            [event async for event in client.watch(Pod, resource_version="1")]


async def test_create_says_where_and_who() -> None:
    async with talking() as (client, server):
        server.on(f"POST {PODS}", json_answer(pod(), 201))
        got = await client.create(Pod(metadata=ObjectMeta(name="a", namespace="shop")), field_manager="tester")
        assert got.uid == "uid-a"
        assert server.asked[0].query == {"fieldManager": "tester"}
        body = json.loads(server.asked[0].body)
        assert body["apiVersion"] == "v1"
        assert body["kind"] == "Pod"
        assert body["metadata"] == {"name": "a", "namespace": "shop"}


async def test_create_raw_keeps_every_field_and_finds_unknown_kinds_once() -> None:
    manifest = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "r"}, "spec": {"any": None}}
    async with talking() as (client, server):
        resources = [
            {"name": "rayjobs/status", "kind": "RayJob", "namespaced": True},
            {"name": "rayjobs", "kind": "RayJob", "namespaced": True},
        ]
        server.on("GET /apis/ray.io/v1", json_answer({"resources": resources}))
        server.on("POST /apis/ray.io/v1/namespaces/default/rayjobs", json_answer(manifest, 201))
        for _ in range(2):
            assert await client.create_raw(manifest) == manifest
        assert [a.method for a in server.asked] == ["GET", "POST", "POST"]
        assert json.loads(server.asked[1].body) == manifest


async def test_a_kind_that_nobody_knows_is_not_found_and_asked_for_again() -> None:
    async with talking() as (client, server):
        for _ in range(2):
            with pytest.raises(NotFound, match=r'no kind "RayJob" in "ray\.io/v1"'):
                await client.create_raw({"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "r"}})
        assert len(server.asked) == 2


async def test_a_merge_patch_carries_the_observed_version() -> None:
    async with talking() as (client, server):
        server.on(f"PATCH {PODS}/a/status", json_answer(pod()))
        patch = {"metadata": {"labels": {"x": None}}, "status": {"phase": "Running"}}
        kept = copy.deepcopy(patch)
        await client.patch(Pod, KEY, patch, subresource="status", resource_version="41")
        want = {"metadata": {"labels": {"x": None}, "resourceVersion": "41"}, "status": {"phase": "Running"}}
        assert json.loads(server.asked[0].body) == want
        assert server.asked[0].headers["Content-Type"] == "application/merge-patch+json"
        assert patch == kept


async def test_the_other_patches_have_their_content_types() -> None:
    async with talking() as (client, server):
        server.on(f"PATCH {PODS}/a", json_answer(pod()))
        await client.patch(Pod, KEY, [{"op": "remove", "path": "/spec"}], patch_type=PatchType.JSON)
        await client.patch(Pod, KEY, pod(), patch_type=PatchType.APPLY, force=True)
        assert server.asked[0].headers["Content-Type"] == "application/json-patch+json"
        assert server.asked[1].headers["Content-Type"] == "application/apply-patch+yaml"
        assert server.asked[1].query == {"fieldManager": "pybrix", "force": "true"}
        with pytest.raises(ValueError, match="merge patches only"):
            await client.patch(Pod, KEY, [], patch_type=PatchType.JSON, resource_version="1")


async def test_delete_names_the_uid() -> None:
    async with talking() as (client, server):
        server.on(f"DELETE {PODS}/a", json_answer({"kind": "Status", "status": "Success"}))
        await client.delete(Pod, KEY, uid=Uid("u"), propagation="Foreground", grace_period_seconds=0)
        assert json.loads(server.asked[0].body) == {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": "u"},
            "gracePeriodSeconds": 0,
        }


@pytest.mark.parametrize(
    ("code", "reason", "want"),
    [
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (429, "TooManyRequests", TooManyRequests),
        (503, "ServiceUnavailable", StatusError),
    ],
)
async def test_refusals_are_typed(code: int, reason: str, want: type[StatusError]) -> None:
    async with talking() as (client, server):
        status = {"kind": "Status", "code": code, "reason": reason, "message": "no"}
        server.on(f"GET {PODS}/a", json_answer(status, code, Retry_After="5"))
        with pytest.raises(want) as refusal:
            await client.get(Pod, KEY)
        assert type(refusal.value) is want
        assert refusal.value.details == {"retryAfterSeconds": 5}


async def test_no_server_is_unreachable() -> None:
    async with serving() as server:
        url = server.url
    async with HttpClient(ClusterAccess(url)) as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
            await client.get(Pod, KEY)


async def test_no_answer_in_time_is_unreachable() -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with talking(request_timeout_s=0.05) as (client, server):
        server.on(f"GET {PODS}/a", hang)
        with pytest.raises(Unreachable, match="in time"):
            await client.get(Pod, KEY)


async def test_an_answer_of_another_shape_is_malformed() -> None:
    async with talking() as (client, server):
        server.on(f"GET {PODS}/a", text_answer("<html>login</html>"))
        with pytest.raises(Malformed, match="no Pod"):
            await client.get(Pod, KEY)
        server.on(f"GET {PODS}", text_answer("<html>login</html>"))
        with pytest.raises(Malformed, match="no list"):
            await client.list(Pod, "shop")


async def test_a_token_file_is_read_and_named_when_it_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with serving() as server:
        server.on(f"GET {PODS}/a", json_answer(pod()))
        async with HttpClient(ClusterAccess(server.url, token_file=file)) as client:
            await client.get(Pod, KEY)
        assert server.asked[0].headers["Authorization"] == "Bearer first"
        file.unlink()
        async with HttpClient(ClusterAccess(server.url, token_file=file)) as client:
            with pytest.raises(Exception, match="cannot read the token file"):
                await client.get(Pod, KEY)


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    authority = Authority()
    certificate, private_key = authority.issue("admin")
    async with serving(authority.server_context(tmp_path, asks_for_certificate=True)) as server:
        server.on(f"GET {PODS}/a", json_answer(pod()))
        trusted = ClusterAccess(server.url, ca=authority.pem, certificate=certificate, private_key=private_key)
        async with HttpClient(trusted) as client:
            assert (await client.get(Pod, KEY)).uid == "uid-a"
        async with HttpClient(ClusterAccess(server.url, ca=Authority().pem)) as client:
            with pytest.raises(Unreachable, match="certificate"):
                await client.get(Pod, KEY)


async def test_tls_under_another_server_name(tmp_path: Path) -> None:
    authority = Authority()
    async with serving(authority.server_context(tmp_path)) as server:
        server.on(f"GET {PODS}/a", json_answer(pod()))
        for name, is_known in (("api.test", True), ("else.test", False)):
            async with HttpClient(ClusterAccess(server.url, ca=authority.pem, tls_server_name=name)) as client:
                if is_known:
                    assert (await client.get(Pod, KEY)).uid == "uid-a"
                else:
                    with pytest.raises(Unreachable, match=r"else\.test"):
                        await client.get(Pod, KEY)
