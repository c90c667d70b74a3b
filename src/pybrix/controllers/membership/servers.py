"""Connections to metadata servers, one for each server however many caches use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from pybrix.controllers.membership.etcd import EtcdStore
from pybrix.controllers.membership.redis import RedisStore
from pybrix.controllers.membership.store import Server, Store

Opener = Callable[[Server], Store]


def open_store(server: Server) -> Store:
    """Return a store; it connects when it is used, and again whenever it has to."""
    return EtcdStore(server) if server.kind == "etcd" else RedisStore(server)


class Connections:
    """Stores by server, closed when nobody uses them any more: a rotated password makes another server."""

    def __init__(self, opener: Opener = open_store) -> None:
        self._opener = opener
        self._stores: dict[Server, Store] = {}
        self._users: dict[str, Server] = {}

    async def of(self, user: str, server: Server) -> Store:
        """Return the store of a server for a user, who has no other one from now on."""
        before = self._users.get(user)
        self._users[user] = server
        if before is not None and before != server:
            await self._close_unused(before)
        if server not in self._stores:
            self._stores[server] = self._opener(server)
        return self._stores[server]

    @asynccontextmanager
    async def borrow(self, server: Server) -> AsyncIterator[Store]:
        """Return the store of a server: the one that is in use, or else one for this block."""
        if (store := self._stores.get(server)) is not None:
            yield store
            return
        async with aclosing(self._opener(server)) as opened:
            yield opened

    async def leave(self, user: str) -> None:
        server = self._users.pop(user, None)
        if server is not None:
            await self._close_unused(server)

    async def aclose(self) -> None:
        self._users.clear()
        for server in list(self._stores):
            await self._close_unused(server)

    async def _close_unused(self, server: Server) -> None:
        if server not in self._users.values() and (store := self._stores.pop(server, None)) is not None:
            await store.aclose()
