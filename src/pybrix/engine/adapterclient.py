"""Ask engines and sidecars over HTTP to list, load and unload LoRA adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from pybrix.engine.adapters import (
    AdapterRefused,
    AdapterSource,
    AdapterTarget,
    AdminRequest,
    EngineTimeout,
    EngineUnreachable,
    ServedModel,
    check_load,
    check_unload,
    parse_list,
    render_headers,
    render_list,
    render_load,
    render_unload,
)

# Of an answer that is an error; what engines say fits, a proxy's page need not.
_ERROR_BODY_BYTES = 4096
# Of a list of models: thousands of adapters fit.
_LIST_BODY_BYTES = 4 * 1024 * 1024


class AdapterClient:
    """Administer the adapters of any number of engines; each call is one request with a deadline of its own.

    Redirects are not followed: an engine has no business sending its administrator elsewhere.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def list_models(self, target: AdapterTarget, *, deadline_s: float) -> tuple[ServedModel, ...]:
        """Return the models and adapters that the engine serves.

        Raises:
            AdapterError: see `pybrix.engine.adapters`.
        """
        status, body = await self._send(target, render_list(), deadline_s, _LIST_BODY_BYTES)
        return parse_list(status, body)

    async def load(self, target: AdapterTarget, source: AdapterSource, *, deadline_s: float) -> None:
        """Load an adapter; a sidecar fetches its files first, so that its deadline has to cover a download.

        Raises:
            AdapterError: see `pybrix.engine.adapters`; `AlreadyLoaded` when one of that name is there.
        """
        status, body = await self._send(target, render_load(target.protocol, source), deadline_s, _ERROR_BODY_BYTES)
        secrets = (target.api_key, source.additional_config.get("api-key", ""), *source.credentials.values())
        check_load(status, body, secrets)

    async def unload(self, target: AdapterTarget, name: str, *, deadline_s: float, cleanup_local: bool = True) -> None:
        """Unload an adapter.

        Raises:
            AdapterError: see `pybrix.engine.adapters`; `UnknownAdapter` when there is none of that name.
        """
        request = render_unload(target.protocol, name, cleanup_local=cleanup_local)
        status, body = await self._send(target, request, deadline_s, _ERROR_BODY_BYTES)
        check_unload(status, body, (target.api_key,))

    async def _send(
        self, target: AdapterTarget, request: AdminRequest, deadline_s: float, limit_bytes: int
    ) -> tuple[int, bytes]:
        """Return status and body; of an error's body only the beginning."""
        headers = render_headers(target)
        if request.body:
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                request.method,
                target.url.rstrip("/") + request.path,
                data=request.body or None,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=deadline_s),
            ) as response:
                is_error = response.status >= 300
                body = await _read(response, _ERROR_BODY_BYTES if is_error else limit_bytes)
                if len(body) > limit_bytes and not is_error:
                    raise AdapterRefused(f"{request.path} answers more than {limit_bytes} bytes", response.status)
                return response.status, body
        except TimeoutError as err:
            raise EngineTimeout(f"{target.url}{request.path}: no answer within {deadline_s:g} s") from err
        except (aiohttp.ClientError, OSError) as err:
            raise EngineUnreachable(f"{target.url}{request.path}: {_name(err)}") from err


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Return the body up to one byte more than the limit; the connection is closed when there is more."""
    pieces = []
    size = 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > limit_bytes:
            response.close()
            break
    return b"".join(pieces)[: limit_bytes + 1]


def _name(err: Exception) -> str:
    """Return what went wrong with a connection, in the system's words where it has some."""
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    return str(err) or type(err).__name__


@asynccontextmanager
async def open_adapter_client(*, max_connections: int = 0) -> AsyncIterator[AdapterClient]:
    """Open a client with a session of its own.

    Every request has its own connection: a kept one may lead to an engine that has restarted meanwhile, and that looks
    like a failure of the engine that is there now.

    Args:
        max_connections: requests under way at once; others wait, and their deadlines run meanwhile. 0 is no limit, for
            callers that limit themselves.
    """
    connector = aiohttp.TCPConnector(limit=max_connections, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield AdapterClient(session)
