"""HTTP answers: JSON with warnings, a `Status` for what went wrong, and streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import structlog
from aiohttp import web

from pybrix.cluster.apiserver.failures import status_body
from pybrix.cluster.apiserver.negotiation import JSON
from pybrix.kube.errors import StatusError

_log = structlog.get_logger()
# Clients limit the headers that they read.
# What is answered at once, and how many pieces of a larger answer go out together.
_WHOLE_BYTES, _PIECES = 256 * 1024, 64
_WARNING_CHARACTERS, _WARNINGS_CHARACTERS = 256, 4096
encode = msgspec.json.Encoder().encode


def json_answer(data: Any, status: int = 200, warnings: list[str] | None = None) -> web.Response:
    return raw_answer(encode(data), status, warnings)


def raw_answer(body: bytes, status: int = 200, warnings: list[str] | None = None) -> web.Response:
    """Answer with JSON that is encoded already."""
    response = web.Response(body=body, status=status, content_type=JSON)
    room = _WARNINGS_CHARACTERS
    for warning in warnings or ():
        text = "".join(c if c.isprintable() else " " for c in warning[:_WARNING_CHARACTERS])
        room -= len(text)
        if room >= 0:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{escaped}"')
    return response


async def pieces_answer(request: web.BaseRequest, pieces: Sequence[bytes]) -> web.StreamResponse:
    """Send JSON that comes in pieces, without putting a large one together."""
    size_bytes = sum(map(len, pieces))
    if size_bytes <= _WHOLE_BYTES:
        return raw_answer(b"".join(pieces))
    response = web.StreamResponse()
    response.content_type = JSON
    response.content_length = size_bytes
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            for start in range(0, len(pieces), _PIECES):
                await response.write(b"".join(pieces[start : start + _PIECES]))
        await response.write_eof()
    except ConnectionError:
        pass  # The client went away.
    return response


def status_answer(err: StatusError) -> web.Response:
    response = json_answer(status_body(err), err.code)
    if err.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    retry = err.details.get("retryAfterSeconds")
    if retry:
        response.headers["Retry-After"] = str(retry)
    return response


async def stream_answer(
    request: web.BaseRequest, pieces: AsyncIterator[bytes], content_type: str, *, first_wait_s: float | None = None
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
