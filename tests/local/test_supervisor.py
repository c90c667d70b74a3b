from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.local.state import ProcessRecord
from pybrix.local.supervisor import Component, Supervisor, describe_exit, end_leftovers, last_words

# Touches the file named by its argument, then waits for a signal.
_SLEEPER = "import pathlib, signal, sys; pathlib.Path(sys.argv[1]).touch(); signal.pause()"
_STUBBORN = (
    "import pathlib, signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).touch();\nwhile True: signal.pause()"
)


class World:
    """A supervisor and what it said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[str] = []
        self.records: dict[str, ProcessRecord] = {}
        self.changed = asyncio.Event()
        self.supervisor = Supervisor(SystemClock(), self.said.append, self._on_change)

    def _on_change(self, records: dict[str, ProcessRecord]) -> None:
        self.records = records
        self.changed.set()

    def component(self, name: str, script: str = _SLEEPER, **options: float) -> Component:
        flag = self.directory / f"{name}.ready"

        async def is_ready() -> bool:
            return flag.exists()

        argv = (sys.executable, "-c", script, str(flag))
        return Component(name, argv, self.directory / f"{name}.log", is_ready, **options)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_starts_in_order_and_stops_all(world: World) -> None:
    await world.supervisor.start(world.component("a"))
    await world.supervisor.start(world.component("b"))
    processes = [record.find() for record in world.records.values()]
    assert [p.is_running() for p in processes if p] == [True, True]
    await world.supervisor.stop()
    assert [record.find() for record in world.records.values()] == [None, None]


async def test_a_component_that_ends_at_once_is_an_error_with_its_last_words(world: World) -> None:
    with pytest.raises(UsageError, match=r"bad did not start \(exit code 3\): no such thing"):
        await world.supervisor.start(world.component("bad", "import sys; print('no such thing'); sys.exit(3)"))
    await world.supervisor.stop()


async def test_a_component_that_is_never_ready_is_an_error(world: World) -> None:
    with pytest.raises(UsageError, match="slow was not ready within"):
        await world.supervisor.start(world.component("slow", "import signal; signal.pause()", start_timeout_s=0.3))
    await world.supervisor.stop()
    assert [record.find() for record in world.records.values()] == [None]


async def test_a_killed_component_is_started_again(world: World) -> None:
    await world.supervisor.start(world.component("a"))
    first = world.records["a"]
    keeping = asyncio.create_task(world.supervisor.keep_running())
    world.changed.clear()
    psutil.Process(first.pid).kill()
    await asyncio.wait_for(world.changed.wait(), 10)
    assert world.records["a"] != first
    assert world.said == ["a ended (SIGKILL); starting it again"]
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await world.supervisor.stop()


async def test_a_component_that_ignores_sigterm_is_killed_after_its_grace(world: World) -> None:
    await world.supervisor.start(world.component("deaf", _STUBBORN, stop_grace_s=0.2))
    await world.supervisor.stop()
    assert world.records["deaf"].find() is None
    assert world.said == ["deaf did not end in 0 s; killing it"]


def test_leftovers_are_ended_and_others_are_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        record = ProcessRecord.of(process.pid)
        someone_else = ProcessRecord(process.pid, record.started_s - 1000)
        assert end_leftovers([someone_else], 1.0) == 0
        assert record.find() is not None
        assert end_leftovers([record], 5.0) == 1
        assert record.find() is None


def test_exits_are_described() -> None:
    assert describe_exit(-9) == "SIGKILL"
    assert describe_exit(2) == "exit code 2"


@pytest.mark.parametrize(
    ("text", "start", "want"),
    [
        pytest.param("", 0, "it wrote nothing", id="an empty log"),
        pytest.param("a\nb\n", 0, "a | b", id="the last lines"),
        pytest.param("old\nnew\n", 4, "new", id="only what this run wrote"),
        pytest.param("noise\npybrix: no room\nmore\n", 0, "no room", id="an error for people comes first"),
    ],
)
def test_last_words(tmp_path: Path, text: str, start: int, want: str) -> None:
    (tmp_path / "a.log").write_text(text)
    assert last_words(tmp_path / "a.log", start) == want


def test_last_words_of_nobody(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none.log") == "it wrote nothing"
