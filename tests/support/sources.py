"""Places that artifacts come from, on loopback: a web server that can misbehave, and a model hub."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

ADAPTER = {"adapter_config.json": b'{"peft_type": "LORA"}', "adapter_model.safetensors": b"weights" * 1000}


@dataclass
class Served:
    """One file of an origin."""

    data: bytes
    etag: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    has_length: bool = True
    understands_ranges: bool = True


@dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int = 0
    sent_bytes: int = 0


@dataclass
class Origin:
    """A web server. What is scripted happens once each, in order, to GETs of bodies longer than one byte."""

    url: str = ""
    files: dict[str, Served] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    """Path -> JSON."""
    required: str | None = None
    """The only Authorization that is let in."""
    failures: list[int] = field(default_factory=list)
    """Statuses for the next requests."""
    broken: set[str] = field(default_factory=set)
    """Paths that answer 503."""
    cuts: list[int] = field(default_factory=list)
    """The next bodies end after so many bytes, without a proper end."""
    gate: asyncio.Event | None = None
    """Bodies wait for it after their first half."""
    half_sent: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Asked] = field(default_factory=list)

    def put(self, path: str, data: bytes, **options: Any) -> str:
        """Serve a file and return its URL."""
        options.setdefault("etag", '"' + hashlib.sha256(data).hexdigest()[:16] + '"')
        self.files[path] = Served(data, **options)
        return self.url + path

    def bodies(self, path: str | None = None) -> list[Asked]:
        """Return the GETs that were more than the look at one byte."""
        return [
            asked
            for asked in self.asked
            if asked.method == "GET"
            and asked.headers.get("Range") != "bytes=0-0"
            and asked.path in (self.files if path is None else (path,))
        ]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path, request.query_string, dict(request.headers))
        self.asked.append(asked)
        response = await self._answer(request, asked)
        asked.status = response.status
        return response

    async def _answer(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        if request.path in self.redirects:
            return web.Response(status=302, headers={"Location": self.redirects[request.path]})
        if self.required is not None and request.headers.get("Authorization") != self.required:
            return web.json_response({"error": "no"}, status=401)
        if request.path in self.broken:
            return web.Response(status=503)
        if self.failures:
            return web.Response(status=self.failures.pop(0))
        if request.path in self.answers:
            return web.json_response(self.answers[request.path])
        served = self.files.get(request.path)
        if served is None:
            return web.Response(status=404)
        return await self._send(request, served, asked)

    async def _send(self, request: web.Request, served: Served, asked: Asked) -> web.StreamResponse:
        data, status, headers = served.data, 200, dict(served.headers)
        if served.etag is not None:
            headers["ETag"] = served.etag
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        is_current = request.headers.get("If-Range") in (None, served.etag)
        if match and served.understands_ranges and is_current:
            start, end = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
            if start >= len(data):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            data, status = data[start : end + 1], 206
        response = web.StreamResponse(status=status, headers=headers)
        if served.has_length:
            response.content_length = len(data)
        await response.prepare(request)
        if request.method == "HEAD" or request.headers.get("Range") == "bytes=0-0":
            await response.write(data[:1] if request.method == "GET" else b"")
            return response
        if self.cuts:
            data = data[: self.cuts.pop(0)]
            await response.write(data)
            asked.sent_bytes = len(data)
            await asyncio.sleep(0.01)
            assert request.transport is not None
            request.transport.close()
            return response
        if self.gate is not None:
            await response.write(data[: len(data) // 2])
            self.half_sent.set()
            await self.gate.wait()
            data = data[len(data) // 2 :]
        await response.write(data)
        asked.sent_bytes = len(data)
        return response


@asynccontextmanager
async def origin() -> AsyncIterator[Origin]:
    """Serve an empty origin on a free loopback port."""
    here = Origin()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", here.answer)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.01)
    here.url = str(server.make_url("")).rstrip("/")
    try:
        yield here
    finally:
        if here.gate is not None:
            here.gate.set()
        await server.close()


def publish_repository(
    hub: Origin, repository: str, files: Mapping[str, bytes], *, commit: str = "c0ffee1", revision: str = "main"
) -> None:
    """Let an origin have a repository as the model hub has it; large files are LFS's."""
    siblings = []
    for name, data in files.items():
        sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_blob(data)}
        if len(data) > 1000:
            sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        siblings.append(sibling)
        hub.put(f"/{repository}/resolve/{commit}/{name}", data)
    hub.answers[f"/api/models/{repository}/revision/{revision}"] = {"sha": commit, "siblings": siblings}


def git_blob(data: bytes) -> str:
    """Return git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def tar_gz(files: Mapping[str, bytes], *, links: Mapping[str, str] | None = None) -> bytes:
    """Pack files, and symbolic links by name and target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Pack files, compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()
