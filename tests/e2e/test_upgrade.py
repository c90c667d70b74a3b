"""`pybrix upgrade` under load: from the data directory of an earlier release, with a supervisor that takes no orders.

`tests/data/data-dir-0.1.0.tar.gz` was written by the release before several gateways: two simulated engines and a
ConfigMap, without keys, logs and what belongs to processes.
"""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import pytest_asyncio

from pybrix.local.layout import Layout
from pybrix.local.state import read_state, write_state
from tests.support.driven import driven
from tests.support.installation import PYBRIX, Installation, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

RECORDED = Path(__file__).resolve().parents[1] / "data" / "data-dir-0.1.0.tar.gz"
RECORDED_PODS = {"38d8e1c9-2690-47f1-9e79-20751db6dc90", "e2246fab-7593-4498-a85c-2746e1ba451c"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("up"))
    with tarfile.open(RECORDED) as recorded:
        recorded.extractall(it.data_dir, filter="data")
    started = await asyncio.to_thread(it.up, "--drain-timeout", "3")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        stopped = await asyncio.to_thread(it.down)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


async def upgrade(installation: Installation, *arguments: str) -> list[dict[str, Any]]:
    """Upgrade; return the steps."""
    finished = await run(
        *PYBRIX, "upgrade", "--data-dir", str(installation.data_dir), "-o", "json", *arguments, timeout_s=120
    )
    steps: list[dict[str, Any]] = msgspec.json.decode(finished.checked())["steps"]
    return steps


async def test_what_an_earlier_release_has_written_is_there(installation: Installation) -> None:
    kept = await installation.get_json("configmap", "kept")
    assert kept["data"] == {"a": "b"}
    assert (await processes(installation)).keys() == RECORDED_PODS
    status, _, headers = await installation.ask()
    assert status == 200
    assert headers["target-pod"].startswith("simulated-")


async def test_everything_is_replaced_but_the_pods(installation: Installation) -> None:
    before, pids = await processes(installation), installation.state["processes"]
    # As a release that takes no orders looks from outside; ours would make its socket again.
    layout = Layout(installation.data_dir)
    psutil.Process(installation.state["supervisor"]["pid"]).suspend()
    layout.control_socket.unlink()
    state = read_state(layout)
    assert state is not None
    state.release = ""
    write_state(layout, state)
    async with driven(installation, rate_per_s=50) as load:
        steps = await upgrade(installation)
    assert [(step["name"], step["action"]) for step in steps] == [
        ("supervisor", "take-over"),
        ("cluster", "restart"),
        ("brain", "restart"),
        ("envoy", "hot-restart"),
        ("controllers", "restart"),
    ]
    load.assert_nothing_failed(at_least=200)
    assert await processes(installation) == before, "the same pods, none restarted"
    after = installation.state["processes"]
    assert {name: after[name]["pid"] != pids[name]["pid"] for name in pids} == dict.fromkeys(pids, True)


async def test_a_supervisor_that_takes_orders_goes_on_as_the_same_process(installation: Installation) -> None:
    before = installation.state["supervisor"]
    steps = await upgrade(installation, "--only", "controllers")
    assert [(step["name"], step["action"]) for step in steps] == [
        ("supervisor", "hand-over"),
        ("controllers", "restart"),
    ]
    assert installation.state["supervisor"] == before


async def test_the_plan_changes_nothing(installation: Installation) -> None:
    before = installation.state
    finished = await run(*PYBRIX, "upgrade", "--data-dir", str(installation.data_dir), "--dry-run")
    assert "Envoy routes by itself for about a second" in finished.checked()
    assert installation.state == before


async def test_a_part_that_is_not_there_is_named(installation: Installation) -> None:
    finished = await run(*PYBRIX, "upgrade", "--data-dir", str(installation.data_dir), "--only", "brain-7")
    assert finished.returncode == 1
    assert "there is no brain-7 here (there are supervisor, cluster, brain" in finished.stderr


async def processes(installation: Installation) -> dict[str, list[tuple[str, int]]]:
    """Return the container ids and restart counts of every pod, by UID."""
    pods = await installation.get_json("pods")
    return {
        pod["metadata"]["uid"]: [
            (each["containerID"], each["restartCount"]) for each in pod["status"]["containerStatuses"]
        ]
        for pod in pods["items"]
    }
