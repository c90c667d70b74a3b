"""`pybrix controllers`, as a process and as a list."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from click.testing import CliRunner

from pybrix.api.core import Lease
from pybrix.api.identity import ObjectKey
from pybrix.cli.controllers import controllers
from pybrix.controllers.registry import REGISTRY
from tests.support.embedded import embedded
from tests.support.waiting import until


def test_the_list_names_every_controller_and_kind() -> None:
    shown = CliRunner().invoke(controllers, ["list"]).output
    for registration in REGISTRY:
        assert registration.name in shown
        assert registration.watches in shown
        for kind in registration.kinds:
            assert kind.gvk.kind in shown


def test_the_list_as_json() -> None:
    entries = json.loads(CliRunner().invoke(controllers, ["list", "-o", "json"]).output)
    assert [entry["name"] for entry in entries] == [registration.name for registration in REGISTRY]
    assert {tuple(entry) for entry in entries} == {("name", "kinds", "watches")}


async def test_a_process_gives_its_lease_back_at_sigterm(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, server.client() as client:
        options = ["--kubeconfig", str(server.kubeconfig), "--leader-elect-namespace", "default"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pybrix", "controllers", "run", *options, "--health-socket", str(tmp_path / "s"),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:

            async def is_held() -> bool:
                leases = (await client.list(Lease)).items
                return bool(leases and leases[0].spec.holder_identity)

            await until(is_held)
            process.send_signal(signal.SIGTERM)
            _, log = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, log.decode()
        assert all(json.loads(line)["event"] for line in log.splitlines()), "every line of the log is JSON"
        lease = await client.get(Lease, ObjectKey("default", "pybrix-controllers"))
        assert not lease.spec.holder_identity


async def test_a_wrong_flag_is_one_line() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pybrix", "controllers", "run", "--controllers", "modeladaptor",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    (line,) = said.decode().splitlines()
    assert line.startswith("pybrix: flags: $.controllers: 'modeladaptor' is none (there are *, ")
