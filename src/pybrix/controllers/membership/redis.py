"""Redis: one server, a master that Sentinels know, or a Cluster.

The keys of one cache are in one slot of a Cluster (they share a hash tag), so all three come down to the same: which
server has them, and asking that one until it says that it is another.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from pybrix.controllers.membership.connectionproblem import connection_problem
from pybrix.controllers.membership.errors import (
    AuthenticationFailed,
    KeyTaken,
    NoQuorum,
    NoSpace,
    NotSupported,
    PermissionDenied,
    ReadOnly,
    StoreError,
    TimedOut,
    TlsFailed,
    Unreachable,
    no_membership,
)
from pybrix.controllers.membership.store import Server, Stored, split_address
from pybrix.controllers.membership.tlsprobe import tls_problem

T = TypeVar("T")
_SCRIPT = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.$")
_HOPS = 3
"""Servers that are asked in turn because each names another one."""
_SWAP = """
local found = redis.call('GET', KEYS[1])
if ARGV[1] == '' then
  if found then return 0 end
elseif found ~= string.sub(ARGV[1], 2) then
  return 0
end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], string.sub(ARGV[2], 2)) end
return 1
"""
"""Compare and set. Of both arguments the first character says that there is a value, so that one may be empty."""


class RedisStore:
    """One Redis, however it is spread over servers."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._clients: dict[str, Redis] = {}
        self._address = ""
        """The server that has the keys, where it has to be found."""
        self._kept: dict[str, set[str]] = {}
        self._tls: ssl.SSLContext | None = None

    async def read(self, keys: Sequence[str]) -> dict[str, Stored]:
        found = await self._ask(lambda client: client.mget(list(keys))) if keys else []
        return {key: Stored(value) for key, value in zip(keys, found, strict=True) if isinstance(value, bytes)}

    async def swap(self, key: str, content: bytes | None, expected: Stored | None) -> bool:
        before = b"" if expected is None else b"=" + expected.content
        after = b"" if content is None else b"=" + content
        try:
            return bool(await self._ask(lambda client: client.eval(_SWAP, 1, key, before, after)))
        except KeyTaken as err:
            raise KeyTaken(no_membership(key)) from err

    async def keep(self, group: str, entries: Mapping[str, bytes], ttl_s: int) -> None:
        gone = self._kept.get(group, set()) - set(entries)
        self._kept[group] = gone | set(entries)

        async def write(client: Redis) -> None:
            async with client.pipeline(transaction=True) as pipeline:
                for key, content in entries.items():
                    pipeline.set(key, content, px=ttl_s * 1000)
                if gone:
                    pipeline.delete(*gone)
                await pipeline.execute()

        if entries or gone:
            await self._ask(write)
        self._kept[group] = set(entries)

    async def remove(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> None:
        # What begins with a prefix would have to be searched for in all that is there; others' keys are among it.
        doomed = set(keys)
        for group in [group for group in self._kept if any(group.startswith(prefix) for prefix in prefixes)]:
            doomed |= self._kept.pop(group)
        if doomed:
            await self._ask(lambda client: client.delete(*sorted(doomed)))

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def _ask(self, command: Any) -> Any:
        """Run a command at the server that has the keys; look for that server anew when it is another one by now."""
        for hop in range(_HOPS):
            address = self._address or await self._locate()
            try:
                return await command(self._client(address))
            except MovedError as err:
                self._address = f"{err.host}:{err.port}"
                if self._server.mode != "Cluster":
                    raise NotSupported(f"{address} is a node of a Redis Cluster: set mode: Cluster") from err
            except (RedisError, OSError, TimeoutError) as err:
                failure = await self._failure(address, err)
                is_elsewhere = isinstance(failure, ReadOnly | Unreachable | TimedOut | NoQuorum)
                if is_elsewhere and self._server.mode != "Standalone":
                    # The master may be another one by now.
                    self._address = ""
                    if hop < 1:
                        continue
                raise failure from err
        raise Unreachable(f"{_HOPS} servers in turn named another one that has the keys")

    async def _locate(self) -> str:
        """Return the address of the server to ask, and remember it where it had to be found."""
        if self._server.mode != "Sentinel":
            return await self._first_that_answers()
        failure: StoreError | None = None
        for sentinel in self._server.addresses:
            try:
                client: Any = self._client(sentinel, is_sentinel=True)
                reply = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._server.master_name)
            except (RedisError, OSError, TimeoutError) as err:
                failure = failure or await self._failure(sentinel, err)
                continue
            if reply:
                host, port = (part.decode() if isinstance(part, bytes) else str(part) for part in reply)
                self._address = f"{host}:{port}"
                return self._address
            failure = NotSupported(f"the Sentinel {sentinel} knows no master {self._server.master_name!r}")
        raise failure or Unreachable("there is no Sentinel to ask")

    async def _first_that_answers(self) -> str:
        if len(self._server.addresses) == 1:
            return self._server.addresses[0]
        failure: StoreError | None = None
        for address in self._server.addresses:
            try:
                await self._client(address).ping()
            except (RedisError, OSError, TimeoutError) as err:
                failure = failure or await self._failure(address, err)
                continue
            self._address = address
            return address
        raise failure or Unreachable("there is no address to ask")

    def _client(self, address: str, *, is_sentinel: bool = False) -> Redis:
        name = f"sentinel {address}" if is_sentinel else address
        if name in self._clients:
            return self._clients[name]
        server = self._server
        host, port = split_address(address)
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "socket_timeout": server.timeout_s,
            "socket_connect_timeout": server.timeout_s,
            # Who asks decides what a failure means.
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "client_name": "pybrix-controllers",
            "max_connections": 4,
        }
        if is_sentinel:
            options["password"] = server.sentinel_password or None
        else:
            options |= {"db": server.database, "username": server.username or None, "password": server.password or None}
        kind: type[Connection] = Connection
        if server.tls is not None:
            self._tls = self._tls or server.tls.context()
            options |= {"context": self._tls, "server_name": server.tls.server_name}
            kind = _TlsConnection
        client = self._clients[name] = Redis.from_pool(ConnectionPool(connection_class=kind, **options))
        return client

    async def _failure(self, address: str, err: BaseException) -> StoreError:
        """Return what an error means, having looked what TLS is to it where nothing came through."""
        failure = _read(address, err)
        if isinstance(failure, Unreachable | TimedOut) and not isinstance(err, ResponseError):
            problem = await tls_problem(
                address,
                b"PING\r\n",
                self._tls,
                server_name="" if self._server.tls is None else self._server.tls.server_name,
                is_silent=isinstance(failure, TimedOut),
                timeout_s=self._server.timeout_s,
            )
            if problem:
                return TlsFailed(problem)
        return failure


class _TlsConnection(SSLConnection):
    """TLS with a context of ours: redis-py takes a client's certificate from files only."""

    def __init__(self, *, context: ssl.SSLContext, server_name: str, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = context
        self._server_name = server_name

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = dict(super()._connection_arguments())
        if self._server_name:
            arguments["server_hostname"] = self._server_name
        return arguments


def _read(address: str, err: BaseException) -> StoreError:
    # Where a script was refused says nothing to people.
    text = _SCRIPT.sub("", str(err)) or type(err).__name__
    said = f"{address}: {text}"
    if (tls := _tls_error(err)) is not None:
        return TlsFailed(f"{address}: {tls}")
    if isinstance(err, AuthenticationError) or any(
        word in text for word in ("NOAUTH", "WRONGPASS", "invalid password")
    ):
        return AuthenticationFailed(said)
    if isinstance(err, NoPermissionError) or "NOPERM" in text:
        return PermissionDenied(said)
    if isinstance(err, OutOfMemoryError) or text.startswith("OOM") or "OOM command" in text:
        return NoSpace(said)
    if isinstance(err, ReadOnlyError) or any(
        word in text for word in ("READONLY", "MISCONF", "NOREPLICAS", "read only")
    ):
        return ReadOnly(said)
    if isinstance(err, ClusterDownError | AskError) or "CLUSTERDOWN" in text or "MASTERDOWN" in text:
        return NoQuorum(said)
    if isinstance(err, BusyLoadingError):
        return Unreachable(said)
    if isinstance(err, TimeoutError) or "timeout" in text.lower():
        return TimedOut(f"{address} did not answer in time: {text}")
    if "WRONGTYPE" in text:
        return KeyTaken(said)
    if isinstance(err, ResponseError):
        return NotSupported(said)
    return Unreachable(f"{address}: {connection_problem(err)}")


def _tls_error(err: BaseException | None) -> str | None:
    """Return what TLS found wrong, from an error or what it came from."""
    while err is not None:
        if isinstance(err, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {err.verify_message}"
        if isinstance(err, ssl.SSLError):
            text = str(err).upper()
            if "CERTIFICATE REQUIRED" in text or "CERTIFICATE_REQUIRED" in text or "HANDSHAKE FAILURE" in text:
                return "it asks for a client certificate that it trusts"
            return "it does not speak TLS, and tls is set" if "WRONG_VERSION_NUMBER" in text else str(err)
        err = err.__cause__ or err.__context__
    return None
