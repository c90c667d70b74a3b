"""What the commands of `pybrix gateway users` and `keys` do; imported only when one of them runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import click
import msgspec

from pybrix.base.errors import UsageError
from pybrix.cli.brain import running_dir
from pybrix.cli.tables import render_table
from pybrix.gateway.admin import SOCKET_NAME
from pybrix.gateway.errors import BrainUnavailable

__all__ = ["change_user", "create_key", "list_keys", "list_users", "revoke_key", "running_dir"]

_TIMEOUT = aiohttp.ClientTimeout(total=10)


def list_users(run_dir: Path, output: str) -> None:
    """Print all users."""
    document = _ask(run_dir, "GET", "/users")
    if output == "json":
        _print_json(document)
        return
    rows = [(user["name"], _number(user["rpm"]), _number(user["tpm"])) for user in document["users"]]
    click.echo("\n".join(render_table(("NAME", "RPM", "TPM"), rows)))


def change_user(run_dir: Path, path: str, user: dict[str, Any], output: str) -> None:
    """Create, update or delete a user, and print what was done."""
    document = _ask(run_dir, "POST", path, user)
    if output == "json":
        _print_json(document)
    else:
        click.echo(document["message"])


def list_keys(run_dir: Path, output: str) -> None:
    """Print what is known of API keys."""
    document = _ask(run_dir, "GET", "/keys")
    if output == "json":
        _print_json(document)
        return
    rows = [(key["id"], key["user"], key["createdAt"]) for key in document["keys"]]
    click.echo("\n".join(render_table(("ID", "USER", "CREATED"), rows)))


def create_key(run_dir: Path, user: str, output: str) -> None:
    """Print a new API key; it is the only line on standard output."""
    document = _ask(run_dir, "POST", "/keys", {"user": user})
    if output == "json":
        _print_json(document)
        return
    click.echo(document["key"])
    click.echo(f"This is key {document['id']} of {user}. It is not shown again.", err=True)
    if not document["isApiKeyRequired"]:
        click.echo(
            "Warning: this gateway looks at no key, so limits of users do not count. It asks for keys when its "
            "configuration has identity.isApiKeyRequired: true (`pybrix up --config FILE`)",
            err=True,
        )


def revoke_key(run_dir: Path, key_id: str, output: str) -> None:
    """Take a key away."""
    document = _ask(run_dir, "DELETE", f"/keys/{quote(key_id, safe='')}")
    if output == "json":
        _print_json(document)
    else:
        click.echo(f"Revoked key {document['id']} of {document['user']}")


def _ask(run_dir: Path, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    return asyncio.run(_fetch(run_dir / SOCKET_NAME, method, path, body))


async def _fetch(socket_path: Path, method: str, path: str, body: dict[str, Any] | None) -> Any:
    data = msgspec.json.encode(body) if body is not None else None
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket_path)), timeout=_TIMEOUT) as session,
            session.request(method, f"http://brain{path}", data=data) as response,
        ):
            status, answer = response.status, await response.read()
    except (TimeoutError, aiohttp.ClientError, OSError) as err:
        raise BrainUnavailable(socket_path, str(err) or "nothing came in time") from err
    try:
        document = msgspec.json.decode(answer)
    except msgspec.DecodeError as err:
        raise BrainUnavailable(socket_path, f"it answers {status}, and no JSON") from err
    if status >= 400:
        raise UsageError(str(document.get("detail", f"the brain answers {status}")))
    return document


def _number(value: int) -> str:
    return str(value) if value else "default"


def _print_json(document: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
