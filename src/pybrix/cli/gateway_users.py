"""`pybrix gateway users` and `keys`: who may use a gateway, and how much. They ask the brain on its admin socket."""

from __future__ import annotations

from pathlib import Path

import click

from pybrix.cli.datadir import data_dir, data_dir_option

_running_dir = click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of a brain's Unix sockets; that of the running `pybrix up`.",
)
_output = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
_rpm = click.option("--rpm", type=click.IntRange(0), default=0, help="Requests a minute; 0 for the default.")
_tpm = click.option("--tpm", type=click.IntRange(0), default=0, help="Tokens a minute; 0 for 1000 times the requests.")


@click.group()
def users() -> None:
    """Create, change and list users and their limits."""


@users.command("list")
@data_dir_option
@_running_dir
@_output
def list_users(data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """List all users."""
    from pybrix.cli import gateway_users_commands as commands

    commands.list_users(commands.running_dir(run_dir, data_dir(data_dir_path)), output)


@users.command()
@click.argument("name")
@_rpm
@_tpm
@data_dir_option
@_running_dir
@_output
def create(name: str, rpm: int, tpm: int, data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """Create a user; one that exists stays as it is."""
    from pybrix.cli import gateway_users_commands as commands

    where = commands.running_dir(run_dir, data_dir(data_dir_path))
    commands.change_user(where, "/CreateUser", {"name": name, "rpm": rpm, "tpm": tpm}, output)


@users.command()
@click.argument("name")
@_rpm
@_tpm
@data_dir_option
@_running_dir
@_output
def update(name: str, rpm: int, tpm: int, data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """Give a user other limits: both are replaced."""
    from pybrix.cli import gateway_users_commands as commands

    where = commands.running_dir(run_dir, data_dir(data_dir_path))
    commands.change_user(where, "/UpdateUser", {"name": name, "rpm": rpm, "tpm": tpm}, output)


@users.command()
@click.argument("name")
@data_dir_option
@_running_dir
@_output
def delete(name: str, data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """Delete a user and its API keys."""
    from pybrix.cli import gateway_users_commands as commands

    where = commands.running_dir(run_dir, data_dir(data_dir_path))
    commands.change_user(where, "/DeleteUser", {"name": name}, output)


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command("list")
@data_dir_option
@_running_dir
@_output
def list_keys(data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """List all API keys by their ids; the keys themselves are kept nowhere."""
    from pybrix.cli import gateway_users_commands as commands

    commands.list_keys(commands.running_dir(run_dir, data_dir(data_dir_path)), output)


@keys.command("create")
@click.argument("user")
@data_dir_option
@_running_dir
@_output
def create_key(user: str, data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """Create an API key of a user and show it, once."""
    from pybrix.cli import gateway_users_commands as commands

    commands.create_key(commands.running_dir(run_dir, data_dir(data_dir_path)), user, output)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@data_dir_option
@_running_dir
@_output
def revoke_key(key_id: str, data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """Take an API key away, within a second on every gateway that runs."""
    from pybrix.cli import gateway_users_commands as commands

    commands.revoke_key(commands.running_dir(run_dir, data_dir(data_dir_path)), key_id, output)
