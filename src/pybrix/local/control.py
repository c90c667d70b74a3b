"""What may be asked of a running supervisor: HTTP with JSON on a socket for this user alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from pybrix.base.errors import PybrixError, UsageError
from pybrix.local.layout import Layout
from pybrix.local.upgrade import Seen

_CONNECT_TIMEOUT_S = 5.0
_LOOK_TIMEOUT_S = 10.0
_SOCKET_CHECK_S = 1.0

T = TypeVar("T")


class SupervisorSeen(msgspec.Struct, frozen=True, rename="camel"):
    """Who takes the orders. `instance` is another one after each start and hand-over."""

    instance: str
    version: str
    python: str


class Orders(Protocol):
    """What a supervisor does when it is told to. All of them raise `UsageError` when it did not work."""

    def seen(self) -> SupervisorSeen: ...

    def components(self) -> list[Seen]: ...

    async def replace(self, name: str) -> None: ...

    async def scale(self, count: int) -> None: ...

    async def hand_over(self, python: str) -> None: ...


class _Replace(msgspec.Struct):
    name: str


class _Scale(msgspec.Struct):
    gateways: int


class _HandOver(msgspec.Struct):
    python: str


class ControlServer:
    """Takes orders on a socket, one at a time."""

    def __init__(self, orders: Orders, socket: Path) -> None:
        self._orders = orders
        self._socket = socket
        self._busy = asyncio.Lock()
        app = web.Application()
        app.add_routes(
            [
                web.get("/supervisor", self._supervisor),
                web.get("/components", self._components),
                web.post("/replace", self._replace),
                web.post("/scale", self._scale),
                web.post("/hand-over", self._hand_over),
            ]
        )
        # Who asks may go away; what was begun is done.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Listen; a socket that a predecessor left is replaced."""
        await self._runner.setup()
        await self._listen()

    async def keep_listening(self) -> None:
        """Listen anew where somebody has removed the socket, as those do that tidy up, until cancelled."""
        while True:
            await asyncio.sleep(_SOCKET_CHECK_S)
            if self._socket.exists():
                continue
            # Where it cannot be made now, it is tried again.
            with contextlib.suppress(OSError):
                for site in list(self._runner.sites):
                    await site.stop()
                await self._listen()

    async def _listen(self) -> None:
        self._socket.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self._socket)).start()
        self._socket.chmod(0o600)

    async def stop(self) -> None:
        """Take no more orders."""
        await self._runner.cleanup()
        self._socket.unlink(missing_ok=True)

    async def _supervisor(self, _: web.Request) -> web.Response:
        return _json(self._orders.seen())

    async def _components(self, _: web.Request) -> web.Response:
        return _json(self._orders.components())

    async def _replace(self, request: web.Request) -> web.Response:
        return await self._do(request, _Replace, lambda order: self._orders.replace(order.name))

    async def _scale(self, request: web.Request) -> web.Response:
        return await self._do(request, _Scale, lambda order: self._orders.scale(order.gateways))

    async def _hand_over(self, request: web.Request) -> web.Response:
        return await self._do(request, _HandOver, lambda order: self._orders.hand_over(order.python))

    async def _do(self, request: web.Request, kind: type[T], act: Callable[[T], Awaitable[None]]) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=kind)
        except msgspec.MsgspecError as err:
            return _json({"error": str(err)}, 400)
        if self._busy.locked():
            return _json({"error": "something else is being changed right now; try again when it is done"}, 409)
        async with self._busy:
            try:
                await act(order)
            except PybrixError as err:
                return _json({"error": str(err)}, 422)
        return _json({})


class Control:
    """Gives orders to a running supervisor.

    Every method raises `UsageError` when it did not work, with the supervisor's own words, and `NoControl` when nobody
    takes orders.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._socket = layout.control_socket

    async def supervisor(self) -> SupervisorSeen:
        """Return who takes the orders."""
        return msgspec.json.decode(await self._ask("GET", "/supervisor"), type=SupervisorSeen)

    async def components(self) -> list[Seen]:
        """Return what runs, in the order in which it is to be replaced."""
        return msgspec.json.decode(await self._ask("GET", "/components"), type=list[Seen])

    async def replace(self, name: str) -> None:
        """Put a successor in the place of a component, started by the supervisor's own release."""
        await self._ask("POST", "/replace", _Replace(name))

    async def scale(self, gateways: int) -> None:
        """Have so many gateways."""
        await self._ask("POST", "/scale", _Scale(gateways))

    async def hand_over(self, python: str) -> None:
        """Have the supervisor become that of another environment."""
        await self._ask("POST", "/hand-over", _HandOver(python))

    async def _ask(self, method: str, path: str, order: object | None = None) -> bytes:
        # To look takes no time; what is ordered may.
        total_s = _LOOK_TIMEOUT_S if order is None else None
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=_CONNECT_TIMEOUT_S)
        body = None if order is None else msgspec.json.encode(order)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket)), timeout=timeout) as session,
                session.request(method, f"http://supervisor{path}", data=body) as response,
            ):
                answer = await response.read()
                if response.status == 200:
                    return answer
                raise UsageError(_error(answer))
        except (aiohttp.ClientConnectorError, FileNotFoundError) as err:
            raise NoControl(self._layout) from err
        except TimeoutError as err:
            raise UsageError(f"the supervisor does not answer on {self._socket}", "is its process stopped?") from err
        except (aiohttp.ClientError, OSError) as err:
            raise UsageError(
                f"the supervisor ended in the middle of it ({err}); what it has started runs on, but unwatched",
                f"`{self._layout.command('upgrade --only supervisor')}` puts a new one in its place",
            ) from err


class NoControl(UsageError):
    """Nobody takes orders on the socket: nothing runs, or a release that takes none."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(
            f"nobody takes orders on {layout.control_socket}", f"see `{layout.command('status')}` for what runs"
        )


def _error(answer: bytes) -> str:
    try:
        document: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.MsgspecError:
        return answer.decode(errors="replace")
    return str(document.get("error", document))


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")
