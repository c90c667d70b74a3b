from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.local.processes import UNKNOWN_EXIT
from pybrix.local.state import ProcessRecord
from pybrix.local.supervisor import Component, NotReplaced, Supervisor, describe_exit, last_words

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

    def component(
        self, name: str, script: str = _SLEEPER, *, start_timeout_s: float = 30.0, stop_grace_s: float = 10.0
    ) -> Component:
        flag = self.directory / f"{name}.ready"

        async def is_ready() -> bool:
            return flag.exists()

        argv = (sys.executable, "-c", script, str(flag))
        log_file = self.directory / f"{name}.log"
        return Component(
            name,
            argv,
            log_file,
            is_ready,
            start_timeout_s=start_timeout_s,
            stop_grace_s=stop_grace_s,
            settle_s=0.2,
        )


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
    await asyncio.wait_for(world.changed.wait(), 60)
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


async def test_a_replaced_component_is_another_process_and_stays_watched(world: World) -> None:
    await world.supervisor.start(world.component("a"))
    first = world.records["a"]
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(world.supervisor.keep_running())
        await world.supervisor.replace(world.component("a"))
        second = world.records["a"]
        assert first.find() is None
        assert second.find() is not None
        assert world.said == [], "an end on purpose is no crash"
        world.changed.clear()
        psutil.Process(second.pid).kill()
        await asyncio.wait_for(world.changed.wait(), 60)
        assert world.said == ["a ended (SIGKILL); starting it again"]
        keeping.cancel()
    await world.supervisor.stop()


async def test_what_cannot_be_replaced_runs_again_as_before(world: World) -> None:
    await world.supervisor.start(world.component("a"))
    broken = world.component("a", "import sys; print('no such library'); sys.exit(1)")
    (world.directory / "a.ready").unlink()
    with pytest.raises(NotReplaced, match=r"no such library.*a runs again as before"):
        await world.supervisor.replace(broken)
    process = world.records["a"].find()
    assert process is not None
    assert _SLEEPER in process.cmdline()
    await world.supervisor.stop()


_SHORT_LIVED = (
    "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(0.1); sys.exit('no such model')"
)


async def test_what_is_ready_but_does_not_stay_up_is_no_successor(world: World) -> None:
    await world.supervisor.start(world.component("a"))
    component = dataclasses.replace(world.component("a", _SHORT_LIVED), settle_s=10.0)
    with pytest.raises(NotReplaced, match=r"did not stay up \(exit code 1\): no such model.*a runs again as before"):
        await world.supervisor.replace(component)
    process = world.records["a"].find()
    assert process is not None
    assert _SLEEPER in process.cmdline()
    await world.supervisor.stop()


class Overlapping:
    """A component whose newest process is the one that serves, as its generation tells."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.served = 0

    def component(self, script: str = _SLEEPER) -> Component:
        first = self.world.component("a", script)

        async def is_ready() -> bool:
            if not await first.is_ready():
                return False
            (self.world.directory / "a.ready").unlink()
            self.served += 1
            return True

        async def generation() -> int | None:
            return self.served

        async def has_served() -> bool:
            return self.served > 0 or await is_ready()

        async def newest() -> int | None:
            await is_ready()
            return await generation()

        return dataclasses.replace(first, is_ready=has_served, generation=newest)


async def test_a_successor_takes_over_before_the_old_one_is_ended(world: World) -> None:
    it = Overlapping(world)
    await world.supervisor.start(it.component())
    first = world.records["a"]
    seen_together: list[bool] = []
    publish = world._on_change

    def on_change(records: dict[str, ProcessRecord]) -> None:
        seen_together.append("a (draining)" in records and first.find() is not None)
        publish(records)

    world.supervisor._on_change = on_change
    await world.supervisor.replace(dataclasses.replace(it.component(), stop_grace_s=0.5))
    assert seen_together == [True, False]
    assert first.find() is None
    assert world.records["a"].find() is not None
    await world.supervisor.stop()


async def test_where_a_successor_does_not_come_the_old_one_serves_on(world: World) -> None:
    it = Overlapping(world)
    await world.supervisor.start(it.component())
    first = world.records["a"]
    with pytest.raises(NotReplaced, match=r"no such library.*the old a serves on"):
        await world.supervisor.replace(it.component("import sys; print('no such library'); sys.exit(1)"))
    assert world.records == {"a": first}
    assert first.find() is not None
    await world.supervisor.stop()


async def test_what_serves_is_not_ended_where_its_readiness_cannot_be_asked_any_more(world: World) -> None:
    it = Overlapping(world)

    async def no() -> bool:
        return False

    async def yes() -> bool:
        return True

    await world.supervisor.start(it.component())
    first = world.records["a"]
    broken = it.component("import sys; print('no such library'); sys.exit(1)")
    world.supervisor._find("a").component = dataclasses.replace(broken, is_ready=no, serves=yes)
    with pytest.raises(NotReplaced, match=r"no such library.*the old a serves on"):
        await world.supervisor.replace(dataclasses.replace(broken, is_ready=no))
    assert world.records == {"a": first}
    assert first.find() is not None
    await world.supervisor.stop()


async def test_where_a_successor_ends_while_the_old_one_drains_the_old_one_runs_again(world: World) -> None:
    it = Overlapping(world)
    await world.supervisor.start(dataclasses.replace(it.component(_STUBBORN), stop_grace_s=0.2))
    component = dataclasses.replace(it.component(_SHORT_LIVED), settle_s=0.0)
    with pytest.raises(NotReplaced, match=r"did not stay up \(exit code 1\): no such model"):
        await world.supervisor.replace(component)
    process = world.records["a"].find()
    assert process is not None
    assert _STUBBORN in process.cmdline()
    await world.supervisor.stop()


async def test_where_both_end_the_old_one_is_started_again(world: World) -> None:
    it, leave = Overlapping(world), world.directory / "leave"
    goes_when_told = (
        f"import pathlib, sys, time; leave = pathlib.Path({str(leave)!r}); leave.unlink(missing_ok=True);"
        "pathlib.Path(sys.argv[1]).touch()\nwhile not leave.exists(): time.sleep(0.01)\ntime.sleep(0.5)"
    )
    await world.supervisor.start(dataclasses.replace(it.component(goes_when_told), settle_s=4.0))
    first = world.records["a"]
    taken_over = f"import pathlib; pathlib.Path({str(leave)!r}).touch();{_SHORT_LIVED}"
    with pytest.raises(NotReplaced, match=r"did not stay up.*a runs again as before"):
        await world.supervisor.replace(dataclasses.replace(it.component(taken_over), settle_s=10.0))
    assert first.find() is None
    assert world.records["a"].find() is not None
    await world.supervisor.stop()


async def test_a_process_that_runs_already_is_watched_and_started_again(world: World) -> None:
    component = world.component("a")
    with await asyncio.to_thread(subprocess.Popen, component.argv) as process:
        record = ProcessRecord.of(process.pid)
        assert await world.supervisor.adopt(component, record)
        assert world.records == {"a": record}
        keeping = asyncio.create_task(world.supervisor.keep_running())
        await asyncio.sleep(0)
        world.changed.clear()
        process.kill()
        await asyncio.wait_for(world.changed.wait(), 60)
        assert world.records["a"] != record
        assert len(world.said) == 1
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await world.supervisor.stop()


async def test_what_is_not_adopted_yet_stays_on_record(world: World) -> None:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:  # noqa: ASYNC220
        record = ProcessRecord.of(process.pid)
        world.supervisor.expect({"b": record, "gone": ProcessRecord(2**22, 1.0)})
        await world.supervisor.adopt(world.component("a"), None)
        assert set(world.records) == {"a", "b"}
        await world.supervisor.adopt(world.component("b"), record)
        assert world.records["b"] == record
        await world.supervisor.remove("b")
        assert set(world.records) == {"a"}
        await world.supervisor.stop()


async def test_a_process_that_is_gone_is_started(world: World) -> None:
    assert not await world.supervisor.adopt(world.component("a"), ProcessRecord(2**22, 1.0))
    assert not await world.supervisor.adopt(world.component("b"), None)
    await world.supervisor.remove("a")
    assert list(world.records) == ["b"]
    await world.supervisor.stop()


async def test_a_component_that_is_not_there_is_named(world: World) -> None:
    with pytest.raises(UsageError, match="there is no ghost here"):
        await world.supervisor.replace(world.component("ghost"))


def test_exits_are_described() -> None:
    assert describe_exit(-9) == "SIGKILL"
    assert describe_exit(2) == "exit code 2"
    assert describe_exit(UNKNOWN_EXIT).startswith("how is unknown")


@pytest.mark.parametrize(
    ("text", "start", "want"),
    [
        pytest.param("", 0, "it wrote nothing", id="an empty log"),
        pytest.param("a\nb\n", 0, "a | b", id="the last lines"),
        pytest.param("old\nnew\n", 4, "new", id="only what this run wrote"),
    ],
)
def test_last_words(tmp_path: Path, text: str, start: int, want: str) -> None:
    (tmp_path / "a.log").write_text(text)
    assert last_words(tmp_path / "a.log", start) == want


def test_last_words_of_nobody(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none.log") == "it wrote nothing"
