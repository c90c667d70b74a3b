"""Start, find again, signal and bury the processes of containers.

Each run of a container is three files beside its log, `<restart>.{json,pid,exit}`, written by the agent and by a shell
that waits for the program. So an agent that comes later knows exactly what runs and how what ran has ended:

    sh (session of its own, waits, writes .exit)
    └── sh → the program (session of its own, writes .pid before it becomes the program)
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from pybrix.api.identity import Uid
from pybrix.base.clock import Clock
from pybrix.cluster.nodeagent.preparation import Launchable
from pybrix.cluster.nodeagent.processes import (
    MARKER,
    SUPERVISOR,
    Identity,
    marked_processes,
    process_group,
    read_stat,
    signal_all,
    starting_with_default_signals,
    sweep,
    would_end_by,
)
from pybrix.cluster.nodeagent.runfiles import (
    LOST_CODE,
    RunRecord,
    give_up,
    is_pid_file_torn,
    read_boot_id,
    read_exit,
    read_pid_file,
    recorded_exit,
    run_of,
    settle_pid_file,
    start_error_exit,
    with_message,
    write_record,
)
from pybrix.cluster.nodeagent.seen import Exit, Run

_log = structlog.get_logger(__name__)

_POLL_S = 0.1
"""Interval of looks at what cannot be waited for."""
_TORN_S = 0.01
"""Until a file is looked at again that is just being written."""
_KILL_WAIT_S = 5.0
"""Longest wait for the end of what was killed."""

# `$1` is the path of the run's files without suffix, `$2` setsid, `$3` the inner script. The subshell takes the
# redirections alone, so that what this shell says of a killed program ("Killed") is not in the program's log.
_SUPERVISE = """\
base=$1 setsid=$2 inner=$3; shift 3
(exec "$setsid" /bin/sh -c "$inner" pybrix-start "$base" "$@") </dev/null >>"$base.log" 2>&1
echo "$?" >"$base.exit.tmp" && mv "$base.exit.tmp" "$base.exit"
"""
# noclobber: creating .pid is the one moment that decides whether this run takes place; an agent that gives a run up
# creates the file first.
_START = """\
base=$1; shift
read -r stat <"/proc/$$/stat" || exit 125
set -C
{ echo "$PPID $stat" >"$base.pid"; } 2>/dev/null || exit 125
set +C
exec "$@"
"""


class ContainerProcess:
    """One run of one container: live, or ended with `run.exit` set."""

    def __init__(self, base: Path, run: Run, clock: Clock, on_exit: Callable[[], None]) -> None:
        self.base = base
        self.run = run
        self._clock = clock
        self._on_exit = on_exit
        self._child: subprocess.Popen[bytes] | None = None
        self._watched: int | None = None
        self._poll: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._is_terminating = False
        self._are_others_told = False

    @property
    def log_path(self) -> Path:
        return self.base.with_suffix(".log")

    def adopt_child(self, child: subprocess.Popen[bytes]) -> None:
        """Watch the shell that was just started."""
        self._child = child
        self._watch(child.pid)

    def program(self) -> Identity | None:
        """Return the program's process; None before it runs, and when the run was given up."""
        found = read_pid_file(self.base)
        return found[1] if found is not None else None

    def resume(self) -> None:
        """Watch a run that an earlier agent started, or find out how it ended."""
        found = read_pid_file(self.base)
        if found is None:
            self._finish()
            return
        shell, program = found
        shell_stat = read_stat(shell)
        # The shell is older than its child; a process that took its number later is younger.
        if shell_stat is not None and not shell_stat.is_zombie and shell_stat.start_ticks <= program.start_ticks:
            self._watch(shell)
        elif program.is_alive:
            self._watch(program.pid)
        else:
            self._finish()

    def send(self, number: signal.Signals) -> None:
        """Signal the process group of the program, or keep a program that has not begun from beginning.

        After SIGTERM the run lasts until the program and all it started have ended, so that a shell that dies at once
        does not take the time from what it runs; SIGKILL ends all of them.
        """
        if not self.run.is_live:
            return
        self._is_terminating = self._is_terminating or number == signal.SIGTERM
        program = self.program()
        if program is None:
            give_up(self.base)
            program = self.program()
        if program is not None and program.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, number)
        elif program is None and is_pid_file_torn(self.base):
            # The program begins at this moment, and will not hear of this signal.
            self._again = asyncio.get_running_loop().call_later(_TORN_S, self.send, number)
        if number == signal.SIGKILL:
            sweep(self.run.container_id)

    def mark_interrupted(self) -> None:
        """Note that the node ends this run, so that it is started again whatever the restart policy says."""
        self.base.with_suffix(".interrupted").touch()

    def close(self) -> None:
        """Stop watching; the processes go on."""
        for timer in (self._poll, self._again):
            if timer is not None:
                timer.cancel()
        self._poll = self._again = None
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            os.close(self._watched)
            self._watched = None
        if self._child is not None:
            # Not ours to wait for any more: init does. Without this, Popen warns that its process still runs.
            self._child.returncode = self._child.poll() or 0
            self._child = None

    def _watch(self, pid: int) -> None:
        try:
            self._watched = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended()
        except OSError:
            # No pidfd: an old kernel, or a sandbox that has none.
            self._poll = asyncio.get_running_loop().call_later(_POLL_S, self._look, pid)
        else:
            asyncio.get_running_loop().add_reader(self._watched, self._ended)

    def _look(self, pid: int) -> None:
        stat = read_stat(pid)
        if stat is None or stat.is_zombie:
            self._ended()
        else:
            self._poll = asyncio.get_running_loop().call_later(_POLL_S, self._look, pid)

    def _ended(self) -> None:
        if self._child is not None:
            self._child.wait()
        self.close()
        program = self.program()
        if not self.base.with_suffix(".exit").exists() and program is not None and program.is_alive:
            # Only the waiting shell was killed: the program goes on, its exit code will be unknown.
            self._watch(program.pid)
            return
        self._end_or_linger()

    def _end_or_linger(self) -> None:
        others = marked_processes(self.run.container_id) if self._is_terminating else []
        if not others:
            self._finish()
            self._on_exit()
            return
        if all(would_end_by(pid, signal.SIGTERM) for pid in others):
            # None of them is ending gracefully: they have missed the signal, as a shell's child does that is between
            # fork and exec when the group gets it.
            signal_all(others, signal.SIGTERM)
        elif not self._are_others_told:
            # Those that left the group have not had the signal yet; a second one would make some programs hurry.
            self._are_others_told = True
            program = self.program()
            signal_all([pid for pid in others if program is None or process_group(pid) != program.pid], signal.SIGTERM)
        self._poll = asyncio.get_running_loop().call_later(_POLL_S, self._end_or_linger)

    def _finish(self) -> None:
        ended = read_exit(self.base, self._clock.now())
        ended = with_message(ended, self.base, is_told_by_log=self.run.is_told_by_log)
        self.run = replace(self.run, exit=ended)
        sweep(self.run.container_id)


class Runner:
    """The processes of all pods, under `directory/<uid>/<container>/<restart>.*`."""

    def __init__(self, directory: Path, clock: Clock, *, boot_id: str | None = None) -> None:
        self.directory = directory.absolute()
        self._clock = clock
        self._boot_id = boot_id if boot_id is not None else read_boot_id()
        # By absolute path: the container's own PATH may lead elsewhere.
        self._setsid = shutil.which("setsid") or "/usr/bin/setsid"

    def pod_dir(self, uid: Uid) -> Path:
        return self.directory / uid

    def uids(self) -> list[Uid]:
        """Return the pods that have a directory here."""
        if not self.directory.is_dir():
            return []
        return [Uid(p.name) for p in sorted(self.directory.iterdir()) if p.is_dir()]

    def start(
        self, uid: Uid, container: str, restart: int, backoff_s: float, launch: Launchable, on_exit: Callable[[], None]
    ) -> ContainerProcess:
        """Start a run. A program that cannot be executed gives a run that has already ended."""
        base = self.pod_dir(uid) / container / str(restart)
        base.parent.mkdir(parents=True, exist_ok=True)
        for stale in (".pid", ".exit", ".interrupted", ".message"):
            base.with_suffix(stale).unlink(missing_ok=True)
        if launch.message_link is not None:
            _offer_message(base.with_suffix(".message"), launch.message_link)
        now = self._clock.now()
        record = RunRecord(
            restart=restart,
            container_id=f"pybrix://{hashlib.sha256(f'{uid}/{container}/{restart}/{now}'.encode()).hexdigest()}",
            started_at=now,
            backoff_s=backoff_s,
            image_id=launch.image_id,
            boot_id=self._boot_id,
            start_error=launch.start_error,
            is_told_by_log=launch.is_told_by_log,
        )
        write_record(base, record)
        self._remove_old(base.parent, restart)
        process = ContainerProcess(base, run_of(record), self._clock, on_exit)
        if not launch.start_error:
            try:
                process.adopt_child(self._spawn(base, record, launch))
                return process
            except OSError as error:
                record.start_error = f"cannot start a process: {error}"
                write_record(base, record)
        base.with_suffix(".log").touch()
        process.run = replace(process.run, exit=start_error_exit(record))
        return process

    def _spawn(self, base: Path, record: RunRecord, launch: Launchable) -> subprocess.Popen[bytes]:
        env = dict(launch.env) | {MARKER: record.container_id}
        argv = launch.argv
        # A POSIX shell does not hand on variables that are no identifiers ("my-key"): env(1) sets them after it.
        odd = [name for name in env if not name.isidentifier() or not name.isascii()]
        if odd:
            argv = ("/usr/bin/env", *(f"{name}={env.pop(name)}" for name in odd), *argv)
        argv = launch.wrap(argv)
        work_dir = launch.work_dir if launch.work_dir.is_dir() else Path("/")
        with starting_with_default_signals():
            return subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISE, SUPERVISOR, str(base), self._setsid, _START, *argv],
                env=env,
                cwd=work_dir,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _remove_old(self, directory: Path, restart: int) -> None:
        for path in directory.glob(f"{restart - 2}.*") if restart >= 2 else ():
            path.unlink(missing_ok=True)

    async def adopt(
        self, uid: Uid, container: str, on_exit: Callable[[], None]
    ) -> tuple[ContainerProcess | None, Run | None]:
        """Return a container's newest run, watched if it lives, and the one before it; None: it never ran here."""
        directory = self.pod_dir(uid) / container
        restarts = sorted((int(p.stem) for p in directory.glob("*.json") if p.stem.isdigit()), reverse=True)
        runs: list[tuple[Path, Run, bool]] = []
        for restart in restarts:
            base = directory / str(restart)
            try:
                record = msgspec.json.decode(base.with_suffix(".json").read_bytes(), type=RunRecord)
            except msgspec.DecodeError as error:
                # Torn by a power cut, which no process survived: as if the run had never been.
                _log.warning("record of a run is unreadable", path=str(base), error=str(error))
                continue
            runs.append((base, run_of(record), record.boot_id == self._boot_id))
        if not runs:
            return None, None
        base, run, is_this_boot = runs[0]
        process = ContainerProcess(base, run, self._clock, on_exit)
        if not is_this_boot:
            # The numbers in the files are those of processes before the reboot.
            found = recorded_exit(base)
            lost = Exit(LOST_CODE, self._clock.now(), "ContainerStatusUnknown", "the machine was restarted", True)
            ended = with_message(found or lost, base, is_told_by_log=run.is_told_by_log)
            process.run = replace(run, exit=ended)
        elif run.exit is None:
            await settle_pid_file(base)
            process.resume()
        if len(runs) < 2:
            return process, None
        base, run, _ = runs[1]
        ended = run.exit or read_exit(base, run.started_at)
        return process, replace(run, exit=with_message(ended, base, is_told_by_log=run.is_told_by_log))

    async def end_all(self, grace_s: float) -> None:
        """End what runs of all pods without knowing them: SIGTERM, and SIGKILL after the grace. They resume later."""
        live: list[ContainerProcess] = []
        for uid in self.uids():
            for directory in sorted(self.pod_dir(uid).glob("[!.]*")):
                process, _ = await self.adopt(uid, directory.name, lambda: None)
                if process is not None and process.run.is_live:
                    live.append(process)
        for process in live:
            process.mark_interrupted()
            process.send(signal.SIGTERM)
        await _ended_within(live, grace_s)
        for process in live:
            process.send(signal.SIGKILL)
        await _ended_within(live, _KILL_WAIT_S)
        for process in live:
            process.close()


def _offer_message(file: Path, link: Path) -> None:
    """Have a run write a file of its own: what the link leads to is mounted when it starts."""
    file.touch(mode=0o600)
    temporary = link.with_name(f"{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(file)
    os.replace(temporary, link)


async def _ended_within(processes: Sequence[ContainerProcess], wait_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            while any(p.run.is_live for p in processes):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
