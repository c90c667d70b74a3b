"""Whom an upgrade takes an installation over from, and how it ends where a part does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from pybrix.api.config import GatewayConfiguration
from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.local import upgrading
from pybrix.local.control import ControlServer, SupervisorSeen
from pybrix.local.layout import Layout
from pybrix.local.reporter import Reporter
from pybrix.local.running import run_resumed
from pybrix.local.state import ProcessRecord, UpState, locked, read_state, write_state
from pybrix.local.upgrade import Action, Seen, Step

GONE = ProcessRecord(2**22, 1.0)


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(upgrading, "_SOCKET_WAIT_S", 0.2)
    layout = Layout(tmp_path)
    layout.create()
    return layout


def record(layout: Layout, supervisor: ProcessRecord, *, release: str = "0.1.0", is_ready: bool = True) -> None:
    write_state(layout, UpState(supervisor, "http://127.0.0.1:1", "k", "r", is_ready=is_ready, release=release))


@pytest.mark.parametrize(("release", "is_ready"), [("0.1.0", False), ("", False)])
async def test_a_supervisor_that_is_not_ready_is_left_alone(layout: Layout, release: str, is_ready: bool) -> None:
    with locked(layout):
        record(layout, ProcessRecord.of(os.getpid()), release=release, is_ready=is_ready)
        with pytest.raises(UsageError, match="still starting"):
            await upgrading.plan(layout)


async def test_one_that_has_recorded_nothing_yet_is_left_alone(layout: Layout) -> None:
    with locked(layout), pytest.raises(UsageError, match="still starting"):
        await upgrading.plan(layout)


async def test_one_between_two_releases_is_left_alone(layout: Layout) -> None:
    record(layout, ProcessRecord.of(os.getpid()))
    with pytest.raises(UsageError, match="still starting"):
        await upgrading.plan(layout)


async def test_a_release_without_orders_is_taken_over_from(layout: Layout) -> None:
    with locked(layout):
        record(layout, ProcessRecord.of(os.getpid()), release="")
        assert (await upgrading.plan(layout))[0].action is Action.TAKE_OVER


async def test_one_whose_socket_is_gone_is_named_with_what_helps(layout: Layout) -> None:
    with locked(layout):
        record(layout, ProcessRecord.of(os.getpid()))
        with pytest.raises(UsageError, match=f"kill -KILL {os.getpid()}.*upgrade --data-dir"):
            await upgrading.plan(layout)


async def test_what_nobody_watches_is_taken_over(layout: Layout) -> None:
    record(layout, GONE)
    assert (await upgrading.plan(layout))[0].action is Action.TAKE_OVER


async def test_a_part_that_is_not_there_is_named_before_anything_is_done(layout: Layout) -> None:
    record(layout, GONE)
    with pytest.raises(UsageError, match=r"no brain-7 here \(there are supervisor\)"):
        await upgrading.plan(layout, ["brain-7"])


class Doomed:
    """Orders to a supervisor in a process of its own, which dies of the order to hand over."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.parts: list[Seen] = []

    def seen(self) -> SupervisorSeen:
        return SupervisorSeen("1f", "0.1", "/usr/bin/python3")

    def components(self) -> list[Seen]:
        return self.parts

    async def replace(self, name: str) -> None:
        """Its successor crashes from time to time."""
        self.parts = [Seen(each.name, each.pid + 1) for each in self.parts]

    async def scale(self, count: int) -> None:
        raise NotImplementedError

    async def hand_over(self, python: str) -> None:
        self.process.kill()
        self.process.wait()


@pytest_asyncio.fixture
async def doomed(layout: Layout) -> AsyncIterator[Doomed]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:  # noqa: ASYNC220
        orders = Doomed(process)
        server = ControlServer(orders, layout.control_socket)
        await server.start()
        record(layout, ProcessRecord.of(process.pid))
        yield orders
        await server.stop()
        process.kill()


async def carry_out(layout: Layout, steps: Iterable[Step]) -> list[upgrading.Outcome]:
    outcomes: list[upgrading.Outcome] = []
    await upgrading.upgrade(layout, SystemClock(), upgrading.Listener(lambda _: None, outcomes.append), steps)
    return outcomes


@pytest.mark.timeout(20)
async def test_a_supervisor_that_dies_in_the_hand_over_is_not_waited_for(layout: Layout, doomed: Doomed) -> None:
    (outcome,) = await carry_out(layout, await upgrading.plan(layout))
    assert "the new supervisor ended" in outcome.problem
    assert f"run `pybrix upgrade --data-dir {layout.root}` of either release again" in outcome.problem


async def test_what_ends_after_its_step_stops_the_upgrade(
    layout: Layout, doomed: Doomed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_served(_: Layout) -> None:
        return

    monkeypatch.setattr(upgrading, "_check_served", is_served)
    doomed.parts = [Seen("brain", 10), Seen("envoy", 20), Seen("controllers", 30)]
    (layout.logs_dir / "brain.log").write_text("pybrix: no such strategy\n")
    outcomes = await carry_out(layout, [step for step in await upgrading.plan(layout) if step.name != "supervisor"])
    assert [each.name for each in outcomes] == ["brain", "envoy", "brain"]
    assert "ended later and was started again: no such strategy" in outcomes[-1].problem


async def test_a_resume_that_fails_leaves_what_runs_and_its_record(layout: Layout) -> None:
    layout.balancer.create()
    layout.balancer.configuration.write_bytes(msgspec.json.encode(GatewayConfiguration()))
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:  # noqa: ASYNC220
        running = {"cluster": ProcessRecord.of(process.pid), "brain": ProcessRecord.of(process.pid)}
        state = UpState(GONE, "http://127.0.0.1:1", "k", "r", is_ready=True, has_balancer=True, processes=running)
        write_state(layout, state)
        try:
            with pytest.raises(UsageError, match=r"cannot read .*gateway/configuration\.json"):
                await run_resumed(layout, SystemClock(), Reporter(lambda _: None, SystemClock()), is_detached=True)
            left = read_state(layout)
            is_alive = process.poll() is None
        finally:
            process.kill()
    assert left is not None
    assert (left.processes, is_alive) == (running, True)
