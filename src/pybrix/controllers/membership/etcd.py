"""etcd v3, over the JSON gateway that every member serves on its client port.

https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/. The gateway needs no client library, tells a refused password
from a certificate that is not trusted, and costs a fraction of a millisecond more than gRPC, once in 20 s a cache.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from pybrix.controllers.membership.connectionproblem import connection_problem
from pybrix.controllers.membership.errors import (
    AuthenticationFailed,
    NoQuorum,
    NoSpace,
    NotSupported,
    PermissionDenied,
    StoreError,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from pybrix.controllers.membership.store import Server, Stored
from pybrix.controllers.membership.tlsprobe import tls_problem

_MAX_OPERATIONS = 100
"""In one transaction; etcd takes 128 unless told otherwise."""
_ATTEMPTS = 3
"""Members that are asked before a call fails."""
# Codes of gRPC: https://grpc.github.io/grpc/core/md_doc_statuscodes.html
_DEADLINE, _DENIED, _EXHAUSTED, _UNAVAILABLE, _UNAUTHENTICATED = 4, 7, 8, 14, 16


_Operation = tuple[str, dict[str, Any]]
"""What is done, in the API's words (Range, DeleteRange), and with what."""


class EtcdStore:
    """One etcd cluster. Members are asked in turn, from the one that answered last."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._timeout = aiohttp.ClientTimeout(total=server.timeout_s, connect=server.timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._at = 0
        self._token = ""
        self._leases: dict[str, tuple[str, dict[str, bytes]]] = {}
        """Of each group: its lease, and what was written with it."""

    async def read(self, keys: Sequence[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for response in await self._without_writing([("Range", {"key": _text(key)}) for key in keys]):
            for pair in response.get("kvs", ()):
                content = base64.b64decode(pair.get("value", ""))
                found[base64.b64decode(pair["key"]).decode()] = Stored(content, str(pair["mod_revision"]))
        return found

    async def swap(self, key: str, content: bytes | None, expected: Stored | None) -> bool:
        revision = expected.token if expected is not None else "0"
        write: dict[str, Any] = {"requestDeleteRange": {"key": _text(key)}}
        if content is not None:
            write = {"requestPut": {"key": _text(key), "value": _base64(content)}}
        compare = {"key": _text(key), "target": "MOD", "result": "EQUAL", "modRevision": revision}
        answer = await self._call("kv/txn", {"compare": [compare], "success": [write]})
        return bool(answer.get("succeeded"))

    async def keep(self, group: str, entries: Mapping[str, bytes], ttl_s: int) -> None:
        lease, written = self._leases.get(group, ("", {}))
        if not (lease and await self._renew(lease)):
            answer = await self._call("lease/grant", {"TTL": str(ttl_s)})
            lease, written = str(answer["ID"]), dict.fromkeys(written, b"")
        changes: list[dict[str, Any]] = [
            {"requestPut": {"key": _text(key), "value": _base64(content), "lease": lease}}
            for key, content in entries.items()
            if written.get(key) != content or not content
        ]
        changes += [{"requestDeleteRange": {"key": _text(key)}} for key in written if key not in entries]
        # Known before it is done: a part that fails is written again, a lease that is granted is not lost.
        self._leases[group] = (lease, dict.fromkeys({*written, *entries}, b""))
        standing = [key for key, content in entries.items() if content and written.get(key) == content]
        for at in range(0, len(standing), _MAX_OPERATIONS):
            await self._restore({key: entries[key] for key in standing[at : at + _MAX_OPERATIONS]}, lease)
        for part in _parts(changes):
            await self._call("kv/txn", {"success": part})
        self._leases[group] = (lease, dict(entries))

    async def remove(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> None:
        doomed: list[_Operation] = [("DeleteRange", {"key": _text(key)}) for key in keys]
        doomed += [
            ("DeleteRange", {"key": _text(prefix), "rangeEnd": _base64(_range_end(prefix.encode()))})
            for prefix in prefixes
        ]
        for group in [
            group for group in self._leases if any(p.startswith(group) or group.startswith(p) for p in prefixes)
        ]:
            await self._call("lease/revoke", {"ID": self._leases[group][0]}, is_gone_well=True)
            del self._leases[group]
        await self._without_writing(doomed)

    async def protect(self, password: str) -> None:
        """Ask for a password from now on: make the user `root` with it, and switch authentication on.

        Every step may have been done already, by this process or another one.
        """
        await self._call("auth/user/add", {"name": "root", "password": password}, may_exist=True)
        await self._call("auth/role/add", {"name": "root"}, may_exist=True)
        await self._call("auth/user/grant", {"user": "root", "role": "root"})
        await self._call("auth/enable", {})

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _without_writing(self, operations: Sequence[_Operation]) -> list[dict[str, Any]]:
        """Read or delete; return the responses.

        Where its space is used up, an older etcd (3.5.1) refuses every transaction, also one that needs none; it takes
        the same operations one by one.
        """
        responses: list[dict[str, Any]] = []
        for at in range(0, len(operations), _MAX_OPERATIONS):
            part = operations[at : at + _MAX_OPERATIONS]
            try:
                answer = await self._call("kv/txn", {"success": [{f"request{name}": body} for name, body in part]})
                # Each response is in a message of its own kind: response_range, response_delete_range.
                responses += [content for each in answer.get("responses", ()) for content in each.values()]
            except NoSpace:
                responses += [await self._call(f"kv/{name.lower()}", body) for name, body in part]
        return responses

    async def _restore(self, entries: Mapping[str, bytes], lease: str) -> None:
        """Write what was written before, if somebody has removed any of it."""
        compare = [{"key": _text(key), "target": "VERSION", "result": "GREATER", "version": "0"} for key in entries]
        puts = [
            {"requestPut": {"key": _text(key), "value": _base64(content), "lease": lease}}
            for key, content in entries.items()
        ]
        await self._call("kv/txn", {"compare": compare, "failure": puts})

    async def _renew(self, lease: str) -> bool:
        """Prolong a lease; False when it has ended."""
        answer = await self._call("lease/keepalive", {"ID": lease})
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    async def _call(
        self, path: str, body: Mapping[str, Any], *, is_gone_well: bool = False, may_exist: bool = False
    ) -> dict[str, Any]:
        """Call, at another member when one is away, with another token when this one is refused.

        Args:
            is_gone_well: that the thing is not there is what was wanted.
            may_exist: that the thing is there is what was wanted.
        """
        failure: StoreError | None = None
        for _ in range(_ATTEMPTS):
            try:
                return await self._authenticated(path, body)
            except (Unreachable, TimedOut, NoQuorum) as err:
                failure = err if isinstance(err, NoQuorum) else failure or err
                self._at += 1
                if len(self._server.addresses) == 1:
                    break
            except _Refused as err:
                if (is_gone_well and "not found" in str(err)) or (may_exist and "already exists" in str(err)):
                    return {}
                raise
        assert failure is not None
        if not isinstance(failure, NoQuorum):
            tls = self._server.tls
            problem = await tls_problem(
                self._address,
                b"GET /health HTTP/1.0\r\n\r\n",
                self._tls,
                server_name="" if tls is None else tls.server_name,
                is_silent=isinstance(failure, TimedOut),
                timeout_s=self._server.timeout_s,
            )
            if problem:
                raise TlsFailed(problem) from failure
            if lonely := await self._without_leader():
                raise NoQuorum(f"{lonely} has no leader: too few members are there to agree") from failure
        raise failure

    async def _without_leader(self) -> str:
        """Return a member that answers and has no leader; empty when there is none.

        Whatever needs a leader is answered later than anybody waits.
        """
        found = await asyncio.gather(*map(self._has_no_leader, self._server.addresses))
        return next((a for a, has_none in zip(self._server.addresses, found, strict=True) if has_none), "")

    async def _has_no_leader(self, address: str) -> bool:
        try:
            _, content = await self._send("GET", address, "health")
            answer = msgspec.json.decode(content)
        except (StoreError, msgspec.DecodeError):
            return False
        # An older etcd gives no reason; one whose space is used up (ALARM NOSPACE) answers other calls.
        is_unwell = isinstance(answer, dict) and str(answer.get("health")).lower() == "false"
        return is_unwell and "ALARM" not in str(answer.get("reason", ""))

    @property
    def _address(self) -> str:
        return self._server.addresses[self._at % len(self._server.addresses)]

    async def _authenticated(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._server.username and not self._token:
            await self._log_in()
        try:
            return await self._post(path, body)
        except _TokenRefused as err:
            if not self._server.username:
                raise AuthenticationFailed(f"etcd: {err}; name a Secret with username and password") from err
            # Tokens end after minutes, with a restart of the member, and with every change of users.
            await self._log_in()
            try:
                return await self._post(path, body)
            except _TokenRefused as again:
                raise AuthenticationFailed(f"etcd: {again}") from again

    async def _log_in(self) -> None:
        self._token = ""
        credentials = {"name": self._server.username, "password": self._server.password}
        try:
            answer = await self._post("auth/authenticate", credentials)
        except _Refused as err:
            if "authentication is not enabled" in str(err):
                return
            raise
        self._token = str(answer["token"])

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        address = self._address
        return _read(*await self._send("POST", address, f"v3/{path}", msgspec.json.encode(body)), address)

    async def _send(self, method: str, address: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and content of what a member answers."""
        if self._session is None:
            if self._server.tls is not None:
                self._tls = self._server.tls.context()
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        tls = self._server.tls
        try:
            async with self._session.request(
                method,
                f"{'http' if tls is None else 'https'}://{address}/{path}",
                data=body,
                headers={"Authorization": self._token} if self._token else {},
                ssl=True if self._tls is None else self._tls,
                server_hostname=(tls.server_name or None) if tls is not None else None,
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientSSLError, ssl.SSLError) as err:
            raise TlsFailed(f"{address}: {_tls_problem(err)}") from err
        except TimeoutError as err:
            raise TimedOut(f"{address} did not answer within {self._server.timeout_s:g} s") from err
        except (aiohttp.ClientError, OSError, ValueError) as err:
            raise Unreachable(f"{address}: {connection_problem(err)}") from err


class _Refused(StoreError):
    """An answer that is no and that trying again does not change."""

    is_reachable = True


class _TokenRefused(StoreError):
    """The token is missing or over."""


def _read(status: int, content: bytes, address: str) -> dict[str, Any]:
    """Return the decoded answer, or raise what it says."""
    try:
        answer = msgspec.json.decode(content)
    except msgspec.DecodeError:
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    if not isinstance(answer, dict):
        if b"HTTP request to an HTTPS server" in content:
            raise TlsFailed(f"{address} speaks TLS, and the connection is set up without it: set tls")
        if status == 404:
            raise NotSupported(
                f"{address} does not serve etcd's JSON gateway: start it with --enable-grpc-gateway (etcd 3.4 or newer)"
            )
        raise NotSupported(f"{address} answered {status} and something that etcd does not say")
    code, message = answer.get("code"), str(answer.get("message") or answer.get("error") or "")
    said = f"{address}: {message.removeprefix('etcdserver: ')}"
    if code == _UNAUTHENTICATED or "user name is empty" in message or "revision of auth store" in message:
        raise _TokenRefused(said)
    if "authentication failed" in message:
        raise AuthenticationFailed(said)
    if code == _DENIED:
        raise PermissionDenied(said)
    if code == _EXHAUSTED and "space" in message:
        raise NoSpace(said)
    if "leader" in message:
        raise NoQuorum(said)
    if code == _DEADLINE or "timed out" in message:
        # A member that cannot reach the others answers reads of its own, and no others.
        raise NoQuorum(said)
    if code == _UNAVAILABLE and "connection closed" in message:
        # The gateway is a client of its own server, and shows the server's certificate.
        hint = "its JSON gateway is refused; with --trusted-ca-file the server's certificate needs the usage clientAuth"
        raise Unreachable(f"{said}: {hint}")
    if code in (_UNAVAILABLE, _EXHAUSTED) or status >= 500:
        raise Unreachable(said)
    raise _Refused(said)


def _tls_problem(err: Exception) -> str:
    text = str(err)
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
        return "it does not speak TLS, and tls is set"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            f"its certificate is not trusted: {text.partition('certificate verify failed: ')[2].partition(' (_ssl')[0]}"
        )
    if "CERTIFICATE_REQUIRED" in text or "BAD_CERTIFICATE" in text.upper().replace(" ", "_"):
        return "it asks for a client certificate that it trusts"
    return text


def _parts(changes: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [list(changes[at : at + _MAX_OPERATIONS]) for at in range(0, len(changes), _MAX_OPERATIONS)]


def _range_end(prefix: bytes) -> bytes:
    """Return the first key after all that begin with the prefix, which ends in no 0xff here."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _text(key: str) -> str:
    return _base64(key.encode())
