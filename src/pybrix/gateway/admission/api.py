"""The API for users and keys: AIBrix's user API, byte for byte, and what it lacks: a list, and API keys.

On the socket in the run directory nobody asks who calls: only this user can. On a port, every call needs the admin
token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from pybrix.base.errors import UsageError
from pybrix.gateway.admission.admintoken import AdminToken
from pybrix.gateway.admission.service import Admission
from pybrix.gateway.admission.users import HeaderName, User
from pybrix.gateway.errors import AccountsUnavailable

MAX_BODY_BYTES = 64 * 1024
MIN_TOKEN_CHARS = 16

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _KeyWish(msgspec.Struct):
    user: HeaderName


def add_user_routes(app: web.Application, admission: Admission) -> None:
    """Add the API to an application."""
    accounts = admission.accounts

    async def create_user(request: web.Request) -> web.Response:
        user = await _read(request, User)
        found = await accounts.get_user(user.name)
        if found is not None:
            return _user(f"User: {user.name} exists", found)
        await admission.put_user(user)
        return _user(f"Created User: {user.name}", user)

    async def read_user(request: web.Request) -> web.Response:
        wanted = await _read(request, User)
        found = await accounts.get_user(wanted.name)
        if found is None:
            return _detail(404, "user does not exist")
        return _user(f"User: {found.name}", found)

    async def update_user(request: web.Request) -> web.Response:
        user = await _read(request, User)
        if await accounts.get_user(user.name) is None:
            return _detail(404, f"User: {user.name} does not exist")
        await admission.put_user(user)
        return _user(f"Updated User: {user.name}", user)

    async def delete_user(request: web.Request) -> web.Response:
        user = await _read(request, User)
        found = await accounts.get_user(user.name)
        if not await admission.delete_user(user.name):
            return _detail(404, f"User: {user.name} does not exist")
        return _user(f"Deleted User: {user.name}", found or user)

    async def list_users(_: web.Request) -> web.Response:
        users = sorted(await accounts.list_users(), key=lambda user: user.name)
        return _json({"users": users})

    async def list_keys(_: web.Request) -> web.Response:
        keys = sorted(await accounts.list_keys(), key=lambda key: (key.user, key.created_at, key.id))
        return _json({"keys": [{"id": k.id, "user": k.user, "createdAt": k.created_at} for k in keys]})

    async def create_key(request: web.Request) -> web.Response:
        wish = await _read(request, _KeyWish)
        if await accounts.get_user(wish.user) is None:
            return _detail(404, f"User: {wish.user} does not exist")
        key, stored = await admission.create_key(wish.user)
        document = {"key": key, "id": stored.id, "user": stored.user, "createdAt": stored.created_at}
        return _json(document | {"isApiKeyRequired": admission.is_key_required}, status=201)

    async def revoke_key(request: web.Request) -> web.Response:
        revoked = await admission.revoke_keys(request.match_info["id"])
        if not revoked:
            return _detail(404, f"there is no key {request.match_info['id'][:64]}")
        return _json({"id": revoked[0].id, "user": revoked[0].user})

    app.add_routes(
        [
            web.post("/CreateUser", _answering(create_user)),
            web.post("/ReadUser", _answering(read_user)),
            web.post("/UpdateUser", _answering(update_user)),
            web.post("/DeleteUser", _answering(delete_user)),
            web.get("/users", _answering(list_users)),
            web.get("/keys", _answering(list_keys)),
            web.post("/keys", _answering(create_key)),
            web.delete("/keys/{id}", _answering(revoke_key)),
        ]
    )


def build_user_api(admission: Admission, token: AdminToken) -> web.Application:
    """Return the application of the port; every call but health needs the token."""

    @web.middleware
    async def only_with_token(request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        is_admin = scheme.lower() == "bearer" and token.matches(given.encode(errors="surrogateescape"))
        if not is_admin and request.path not in {"/healthz", "/readyz"}:
            refused = _detail(401, "the admin token is missing or wrong")
            refused.headers["www-authenticate"] = "Bearer"
            return refused
        return await handler(request)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="healthy")

    async def readyz(_: web.Request) -> web.Response:
        problem = admission.problem
        return web.Response(status=503, text=f"not ready: {problem}") if problem else web.Response(text="ready")

    app = web.Application(middlewares=[only_with_token], client_max_size=MAX_BODY_BYTES)
    add_user_routes(app, admission)
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


def read_token(path: Path) -> str:
    """Return the admin token of a file. Raises UsageError: there is none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"admin token: {err}", "write a long random text there: identity.adminTokenPath") from err
    if len(token) < MIN_TOKEN_CHARS:
        raise UsageError(
            f"admin token: {path} holds fewer than {MIN_TOKEN_CHARS} characters", "write a long random text there"
        )
    return token


class _BadRequest(Exception):
    pass


def _answering(handler: Callable[[web.Request], Awaitable[web.Response]]) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except _BadRequest as err:
            return _detail(422, str(err))
        except AccountsUnavailable as err:
            return _detail(503, str(err))

    return answer


async def _read(request: web.Request, cls: type[Any]) -> Any:
    try:
        return msgspec.json.decode(await request.read(), type=cls)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        raise _BadRequest(str(err)) from err


def _user(message: str, user: User) -> web.Response:
    return _json({"message": message, "user": user})


def _detail(status: int, message: str) -> web.Response:
    return _json({"detail": message}, status=status)


def _json(document: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")
