"""Real processes: how they run, end, are found again and are buried."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pybrix.api.identity import Uid
from pybrix.base.clock import SystemClock
from pybrix.cluster.nodeagent.preparation import Launchable
from pybrix.cluster.nodeagent.processes import Identity, marked_processes, parse_stat
from pybrix.cluster.nodeagent.runner import ContainerProcess, Runner
from pybrix.cluster.nodeagent.seen import Exit
from tests.support.waiting import until_now

UID = Uid("11111111-aaaa")
ENV = {"PATH": os.defpath}


class Watched:
    """A run and the event of its end."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.process: ContainerProcess | None = None

    async def exit(self) -> Exit:
        assert self.process is not None
        if self.process.run.is_live:
            async with asyncio.timeout(60):
                await self.ended.wait()
        assert self.process.run.exit is not None
        return self.process.run.exit

    async def started(self) -> Identity:
        """Wait until the program has its process."""
        assert self.process is not None
        process = self.process
        await until_now(lambda: process.program() is not None)
        found = process.program()
        assert found is not None
        return found


def launch(tmp_path: Path, *argv: str, env: Mapping[str, str] = ENV, start_error: str = "") -> Launchable:
    work_dir = tmp_path / "work"
    work_dir.mkdir(exist_ok=True)
    return Launchable(argv, env, work_dir, "local://test", start_error=start_error)


def start(runner: Runner, launchable: Launchable, restart: int = 0) -> Watched:
    watched = Watched()
    watched.process = runner.start(UID, "main", restart, 0.0, launchable, watched.ended.set)
    return watched


async def adopt(runner: Runner) -> Watched:
    watched = Watched()
    watched.process, _ = await runner.adopt(UID, "main", watched.ended.set)
    return watched


@asynccontextmanager
async def ending(*watched: Watched) -> AsyncIterator[None]:
    """End what a failed test leaves running."""
    try:
        yield
    finally:
        for it in watched:
            if it.process is not None:
                it.process.send(signal.SIGKILL)
                it.process.close()


@pytest.mark.parametrize(
    ("script", "want"),
    [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
async def test_the_exit_code_is_known(tmp_path: Path, script: str, want: int) -> None:
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", script))
    async with ending(watched):
        got = await watched.exit()
        assert (got.code, got.is_interrupted) == (want, False)


async def test_the_last_words_say_why_a_program_failed_when_asked_for(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "pods", SystemClock())
    script = "for i in $(seq 100); do echo line $i; done; echo no such model >&2; exit 3"
    told = start(runner, replace(launch(tmp_path, "/bin/sh", "-c", script), is_told_by_log=True))
    async with ending(told):
        message = (await told.exit()).message
    assert message.splitlines()[-1] == "no such model"
    assert len(message.splitlines()) == 80
    silent = start(runner, launch(tmp_path, "/bin/sh", "-c", script), restart=1)
    async with ending(silent):
        assert (await silent.exit()).message == ""


async def test_output_of_both_streams_is_the_log(tmp_path: Path) -> None:
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", "echo out; echo err >&2; kill -9 $$"))
    async with ending(watched):
        await watched.exit()
        assert watched.process is not None
        assert watched.process.log_path.read_text() == "out\nerr\n"


async def test_the_environment_is_exactly_what_was_asked_for(tmp_path: Path) -> None:
    odd = {"my-key": "a b", "dot.ted": "$(x) 'q'", "EMPTY": ""}
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "/usr/bin/env", env=ENV | odd))
    async with ending(watched):
        await watched.exit()
        assert watched.process is not None
        lines = watched.process.log_path.read_text().splitlines()
        assert {f"{k}={v}" for k, v in (ENV | odd).items()} <= set(lines)


async def test_interrupts_reach_the_program(tmp_path: Path) -> None:
    """A shell that runs a program in the background would make it ignore SIGINT."""
    script = 'trap "echo got; exit 7" INT; echo ready; while :; do sleep 0.01; done'
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", script))
    async with ending(watched):
        assert watched.process is not None
        log = watched.process.log_path
        await until_now(lambda: log.exists() and "ready" in log.read_text())
        watched.process.send(signal.SIGINT)
        assert (await watched.exit()).code == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
async def test_what_the_agent_ignores_its_programs_do_not(tmp_path: Path, number: signal.Signals) -> None:
    """An agent that a script started in the background, or by nohup, ignores these."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "grep", "SigIgn", "/proc/self/status"))
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    async with ending(watched):
        assert (await watched.exit()).code == 0
        assert watched.process is not None
        mask = int(watched.process.log_path.read_text().split()[1], 16)
        assert mask & 1 << (number - 1) == 0


async def test_a_signal_reaches_the_whole_group(tmp_path: Path) -> None:
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", "sleep 100 & sleep 100"))
    async with ending(watched):
        await watched.started()
        assert watched.process is not None
        container_id = watched.process.run.container_id
        await until_now(lambda: len(marked_processes(container_id)) == 3)
        watched.process.send(signal.SIGTERM)
        assert (await watched.exit()).code == 143
        assert marked_processes(container_id) == []


async def test_a_shell_that_dies_at_once_leaves_its_program_the_time_to_end(tmp_path: Path) -> None:
    program = 'trap "sleep 0.3; echo graceful; exit 0" TERM; echo ready; sleep 100 & wait'
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", f"({program}); true"))
    async with ending(watched):
        assert watched.process is not None
        log = watched.process.log_path
        await until_now(lambda: log.exists() and "ready" in log.read_text())
        watched.process.send(signal.SIGTERM)
        assert (await watched.exit()).code == 143
        assert log.read_text() == "ready\ngraceful\n"


async def test_what_missed_the_signal_of_its_group_is_told_again(tmp_path: Path) -> None:
    """As a child that a shell with a trap has forked, and that has not become its program yet, loses it."""
    late = 'trap "sleep 100 & exit 0" TERM; echo ready; while :; do sleep 0.01; done'
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", late))
    async with ending(watched):
        assert watched.process is not None
        log = watched.process.log_path
        await until_now(lambda: log.exists() and "ready" in log.read_text())
        watched.process.send(signal.SIGTERM)
        assert (await watched.exit()).code == 0
        assert marked_processes(watched.process.run.container_id) == []


async def test_what_left_its_group_ends_with_its_container(tmp_path: Path) -> None:
    watched = start(
        Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", "setsid sleep 100 & sleep 0.1; exit 0")
    )
    async with ending(watched):
        assert (await watched.exit()).code == 0
        assert watched.process is not None
        container_id = watched.process.run.container_id
        await until_now(lambda: marked_processes(container_id) == [])


async def test_a_signal_before_the_program_begins_keeps_it_from_beginning(tmp_path: Path) -> None:
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", "echo hello; sleep 100"))
    async with ending(watched):
        assert watched.process is not None
        watched.process.send(signal.SIGTERM)
        await watched.exit()
        # The program may have been quicker than the signal; then it had its process and was ended by it.
        assert watched.process.program() is not None or "hello" not in watched.process.log_path.read_text()


async def test_a_signal_while_the_program_begins_reaches_it(tmp_path: Path) -> None:
    """The shell has made its file, and writes it a moment later."""
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sleep", "100"))
    async with ending(watched):
        await watched.started()
        assert watched.process is not None
        file = watched.process.base.with_suffix(".pid")
        text = file.read_text()
        file.write_text("")
        watched.process.send(signal.SIGTERM)
        file.write_text(text)
        assert (await watched.exit()).code == 143


async def test_a_process_is_found_while_it_becomes_another_program(tmp_path: Path) -> None:
    """In that moment it shows no environment: here it is in it time and again."""
    again = tmp_path / "again"
    again.write_text('exec /bin/sh "$0"\n')
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "/bin/sh", str(again)))
    async with ending(watched):
        program = await watched.started()
        assert watched.process is not None
        container_id = watched.process.run.container_id
        assert [marked_processes(container_id) for _ in range(500)] == [[program.pid]] * 500


async def test_a_program_that_cannot_be_executed_has_ended(tmp_path: Path) -> None:
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "nothing", start_error="not found"))
    got = await watched.exit()
    assert (got.code, got.reason, got.message) == (128, "StartError", "not found")
    again = await adopt(Runner(tmp_path, SystemClock()))
    assert await again.exit() == got


class TestAdoption:
    async def test_finds_a_running_program_and_learns_its_exit_code(self, tmp_path: Path) -> None:
        launchable = launch(tmp_path, "sh", "-c", "read -r line <fifo; exit 9")
        os.mkfifo(tmp_path / "work" / "fifo")
        first = start(Runner(tmp_path, SystemClock()), launchable)
        program = await first.started()
        assert first.process is not None
        want = first.process.run
        first.process.close()
        second = await adopt(Runner(tmp_path, SystemClock()))
        async with ending(second):
            assert second.process is not None
            assert second.process.run == want
            assert second.process.program() == program
            (tmp_path / "work" / "fifo").write_text("go\n")
            assert (await second.exit()).code == 9

    async def test_learns_how_a_program_ended_meanwhile(self, tmp_path: Path) -> None:
        first = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", "exit 4"))
        await first.exit()
        assert (await (await adopt(Runner(tmp_path, SystemClock()))).exit()).code == 4

    async def test_goes_on_without_the_waiting_shell(self, tmp_path: Path) -> None:
        watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sleep", "100"))
        async with ending(watched):
            program = await watched.started()
            shell = psutil.Process(program.pid).parent()
            assert shell is not None
            shell.kill()
            assert watched.process is not None
            await until_now(lambda: not shell.is_running() or shell.status() == psutil.STATUS_ZOMBIE)
            adopted = await adopt(Runner(tmp_path, SystemClock()))
            async with ending(adopted):
                assert adopted.process is not None
                assert adopted.process.run.is_live
                adopted.process.send(signal.SIGTERM)
                got = await adopted.exit()
                assert (got.code, got.reason) == (137, "ContainerStatusUnknown")

    async def test_a_process_that_took_the_number_is_not_ours(self, tmp_path: Path) -> None:
        first = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sleep", "100"))
        program = await first.started()
        assert first.process is not None
        first.process.send(signal.SIGKILL)
        await first.exit()
        # The files now name a live process that is younger than the run.
        base = first.process.base
        base.with_suffix(".exit").unlink()
        text = base.with_suffix(".pid").read_text().replace(str(program.pid), str(os.getpid()))
        base.with_suffix(".pid").write_text(text)
        second = await adopt(Runner(tmp_path, SystemClock()))
        assert second.process is not None
        assert not second.process.run.is_live
        assert (await second.exit()).reason == "ContainerStatusUnknown"

    async def test_a_run_that_never_began_is_given_up_and_never_begins(self, tmp_path: Path) -> None:
        first = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sh", "-c", "echo hello; sleep 100"))
        assert first.process is not None
        # Before the shell has had a turn: another agent looks.
        second = await adopt(Runner(tmp_path, SystemClock()))
        assert second.process is not None
        async with ending(first, second):
            if second.process.run.is_live:
                pytest.skip("the shell was faster")
            assert (await second.exit()).is_interrupted
            await first.exit()
            assert "hello" not in first.process.log_path.read_text()

    async def test_after_a_reboot_everything_was_interrupted(self, tmp_path: Path) -> None:
        first = start(Runner(tmp_path, SystemClock(), boot_id="before"), launch(tmp_path, "sleep", "100"))
        async with ending(first):
            await first.started()
            second = await adopt(Runner(tmp_path, SystemClock(), boot_id="after"))
            assert (await second.exit()).is_interrupted

    async def test_what_the_node_interrupted_is_known_to_the_next_agent(self, tmp_path: Path) -> None:
        first = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sleep", "100"))
        await first.started()
        assert first.process is not None
        first.process.mark_interrupted()
        first.process.send(signal.SIGTERM)
        await first.exit()
        got = await (await adopt(Runner(tmp_path, SystemClock()))).exit()
        assert (got.code, got.is_interrupted) == (143, True)

    async def test_a_record_torn_by_a_power_cut_counts_for_nothing(self, tmp_path: Path) -> None:
        runner = Runner(tmp_path, SystemClock())
        for restart in range(2):
            await start(runner, launch(tmp_path, "sh", "-c", "exit 6"), restart).exit()
        (tmp_path / UID / "main" / "1.json").write_bytes(b"")
        process, previous = await runner.adopt(UID, "main", lambda: None)
        assert process is not None
        assert (process.run.restart, previous) == (0, None)

    async def test_nothing_ran(self, tmp_path: Path) -> None:
        assert await Runner(tmp_path, SystemClock()).adopt(UID, "main", lambda: None) == (None, None)


async def test_only_the_last_two_runs_are_kept(tmp_path: Path) -> None:
    runner = Runner(tmp_path, SystemClock())
    for restart in range(4):
        await start(runner, launch(tmp_path, "sh", "-c", f"exit {restart}"), restart).exit()
    assert sorted({p.stem for p in (tmp_path / UID / "main").iterdir()}) == ["2", "3"]
    process, previous = await runner.adopt(UID, "main", lambda: None)
    assert process is not None
    assert process.run.exit is not None
    assert previous is not None
    assert previous.exit is not None
    assert (process.run.exit.code, previous.exit.code) == (3, 2)


async def test_the_waiting_shell_is_small(tmp_path: Path) -> None:
    watched = start(Runner(tmp_path, SystemClock()), launch(tmp_path, "sleep", "100"))
    async with ending(watched):
        program = await watched.started()
        shell = psutil.Process(program.pid).parent()
        assert shell is not None
        assert shell.memory_full_info().uss < 1_000_000


def test_a_program_name_may_hold_brackets() -> None:
    fields = " ".join(["S", *[str(n) for n in range(4, 52)]])
    assert parse_stat(f"123 (a) b (c)) {fields}").start_ticks == 22


def test_a_thread_of_the_kernel_and_a_zombie_are_told() -> None:
    fields = [str(n) for n in range(4, 52)]
    fields[5] = str(0x00200000)
    assert parse_stat(f"2 (kthreadd) S {' '.join(fields)}").is_kernels
    fields[5] = str(0x00400000)
    stat = parse_stat(f"2 (a) Z {' '.join(fields)}")
    assert (stat.is_kernels, stat.is_zombie, stat.environment_end) == (False, True, 51)


def test_setsid_is_there() -> None:
    assert shutil.which("setsid") is not None
