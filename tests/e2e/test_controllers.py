"""The controllers of an installation, as kubectl sees what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from pybrix.controllers.registry import IMPLEMENTED, kinds_without_controller
from tests.support.installation import PYBRIX, Installation, eventually, run
from tests.support.manifests import EXAMPLES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

WAITING = kinds_without_controller(IMPLEMENTED)
"""Kinds that nobody works on yet; the test needs two of them."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("up"))
    started = it.up()
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        it.down()


async def apply_and_wait(installation: Installation, kind: str) -> dict[str, str]:
    """Apply the example of a kind, wait until somebody says that it is not ready, and return the condition."""
    file = str(EXAMPLES / f"{kind.lower()}.yaml")
    await installation.kubectl("apply", "-f", file)
    await installation.kubectl("wait", "-f", file, "--for=condition=Ready=False", "--timeout=30s")
    conditions = (await installation.get_json("-f", file))["status"]["conditions"]
    found: dict[str, str] = next(c for c in conditions if c["type"] == "Ready")
    return found


async def test_a_kind_without_controller_says_so(installation: Installation) -> None:
    kind = WAITING[0].gvk.kind
    condition = await apply_and_wait(installation, kind)
    assert condition["reason"] == "NotImplemented"
    assert kind in condition["message"]
    counts: list[int] = []

    async def is_told() -> bool:
        selector = f"reason=NotImplemented,involvedObject.kind={kind}"
        events = await installation.get_json("events", "--field-selector", selector)
        counts[:] = [event["count"] for event in events["items"]]
        return bool(counts)

    # It is written after the condition.
    await eventually(is_told, "an event tells the same")
    assert counts == [1]


async def test_controllers_that_are_killed_come_back(installation: Installation) -> None:
    killed = installation.pid("controllers")
    installation.process("controllers").kill()
    # The API is another process: what is applied meanwhile is found by the next one.
    condition = await apply_and_wait(installation, WAITING[-1].gvk.kind)
    assert condition["reason"] == "NotImplemented"
    assert installation.pid("controllers") != killed

    async def are_all_running() -> bool:
        shown = await run(*PYBRIX, "status", "--data-dir", str(installation.data_dir), "-o", "json")
        status = msgspec.json.decode(shown.checked())
        states = {controller["state"] for controller in status["controllers"]}
        return states == {"running"} and status["problems"] == []

    await eventually(are_all_running, "all controllers run again")


async def test_down_stops_them_in_order(installation: Installation) -> None:
    process = installation.process("controllers")
    assert (await asyncio.to_thread(installation.down)).returncode == 0
    assert not process.is_running()
    log = (installation.data_dir / "logs" / "controllers.log").read_text()
    assert '"event": "controllers stopped"' in log.splitlines()[-1]
