"""`pybrix gateway users` and `keys` against a brain."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pybrix.api.config import GatewayConfiguration, IdentityConfiguration
from pybrix.base.errors import UsageError
from pybrix.cli.gateway import gateway as command
from tests.support.brains import BrainAddress, running_brain
from tests.support.podapi import PodApi


@asynccontextmanager
async def brain(config: GatewayConfiguration | None = None) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pb") as name:
        address = BrainAddress(Path(name) / "run", Path(name) / "gateway")
        async with running_brain(address, PodApi(), config or GatewayConfiguration()):
            yield address.run_dir


async def run(run_dir: Path, *arguments: str) -> Result:
    # The command has an event loop of its own.
    invoke = CliRunner().invoke
    return await asyncio.to_thread(invoke, command, [*arguments, "--run-dir", str(run_dir)])


async def test_users_are_created_listed_changed_and_deleted() -> None:
    async with brain() as run_dir:
        assert (await run(run_dir, "users", "create", "alice", "--rpm", "60")).output == "Created User: alice\n"
        assert (await run(run_dir, "users", "create", "alice")).output == "User: alice exists\n"
        assert (await run(run_dir, "users", "create", "bob")).exit_code == 0
        listed = await run(run_dir, "users", "list")
        assert [line.split() for line in listed.output.splitlines()] == [
            ["NAME", "RPM", "TPM"],
            ["alice", "60", "default"],
            ["bob", "default", "default"],
        ]
        changed = await run(run_dir, "users", "update", "alice", "--tpm", "5", "-o", "json")
        assert json.loads(changed.output)["user"] == {"name": "alice", "rpm": 0, "tpm": 5}
        assert (await run(run_dir, "users", "delete", "bob")).output == "Deleted User: bob\n"
        document = json.loads((await run(run_dir, "users", "list", "-o", "json")).output)
        assert document == {"users": [{"name": "alice", "rpm": 0, "tpm": 5}]}
        again = await run(run_dir, "users", "delete", "bob")
        assert isinstance(again.exception, UsageError)
        assert str(again.exception) == "User: bob does not exist"


async def test_where_keys_are_asked_for_a_new_one_comes_without_a_warning() -> None:
    async with brain(GatewayConfiguration(identity=IdentityConfiguration(is_api_key_required=True))) as run_dir:
        await run(run_dir, "users", "create", "alice")
        made = await run(run_dir, "keys", "create", "alice")
        assert "not shown again" in made.stderr
        assert "Warning" not in made.stderr


async def test_a_key_is_shown_once_and_revoked_by_its_id() -> None:
    async with brain() as run_dir:
        refused = await run(run_dir, "keys", "create", "alice")
        assert isinstance(refused.exception, UsageError)
        await run(run_dir, "users", "create", "alice")
        made = await run(run_dir, "keys", "create", "alice")
        # The log of the brain, which runs in this process, is there as well.
        key = made.stdout.splitlines()[-1]
        assert key.startswith("pbx_")
        assert "not shown again" in made.stderr
        assert "Warning: this gateway looks at no key" in made.stderr
        listed = (await run(run_dir, "keys", "list")).output
        assert key not in listed
        key_id = listed.splitlines()[1].split()[0]
        assert (await run(run_dir, "keys", "revoke", key_id)).output.splitlines()[
            -1
        ] == f"Revoked key {key_id} of alice"
        assert len((await run(run_dir, "keys", "list")).output.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("users", "list"), ("keys", "list")])
async def test_without_a_brain_it_says_so(arguments: tuple[str, ...], tmp_path: Path) -> None:
    result = await run(tmp_path, *arguments)
    assert isinstance(result.exception, UsageError)
    assert "no brain answers" in str(result.exception)
