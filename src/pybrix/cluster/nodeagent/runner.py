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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from pybrix.api.identity import Uid
from pybrix.base.clock import Clock
from pybrix.base.errors import PybrixError
from pybrix.cluster.nodeagent.preparation import Launchable
from pybrix.cluster.nodeagent.seen import Exit, Run

_log = structlog.get_logger(__name__)

MARKER = "PYBRIX_CONTAINER_ID"
"""Variable by which a container's processes are found, also those that left its process group."""
_POLL_S = 0.1
"""Interval of looks at what cannot be waited for."""
LOST_CODE = 137
NOT_STARTED_CODE = 128

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
_GIVEN_UP = "given-up\n"


class RunRecord(msgspec.Struct, kw_only=True):
    """What the agent writes before it starts a run. A run whose program could not be executed has its end in here."""

    restart: int
    container_id: str
    started_at: datetime
    backoff_s: float
    image_id: str
    boot_id: str
    start_error: str = ""


class RunFilesBroken(PybrixError):
    """The files of a run cannot be read."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that cannot be mistaken for a later one of the same number; `start_ticks` is since boot."""

    pid: int
    start_ticks: int

    @property
    def is_alive(self) -> bool:
        stat = read_stat(self.pid)
        return stat is not None and stat.start_ticks == self.start_ticks and not stat.is_zombie


@dataclass(frozen=True, slots=True)
class Stat:
    start_ticks: int
    is_zombie: bool


def parse_stat(text: str) -> Stat:
    """Parse `/proc/PID/stat`: the program's name may hold spaces and brackets. Source: proc(5)."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(int(fields[19]), fields[0] in ("Z", "X"))


def read_stat(pid: int) -> Stat | None:
    """Return the state of a process; None when there is none."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


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
        found = _read_pid_file(self.base)
        return found[1] if found is not None else None

    def resume(self) -> None:
        """Watch a run that an earlier agent started, or find out how it ended."""
        found = _read_pid_file(self.base)
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
            _give_up(self.base)
            program = self.program()
        if program is not None and program.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, number)
        if number == signal.SIGKILL:
            sweep(self.run.container_id)

    def mark_interrupted(self) -> None:
        """Note that the node ends this run, so that it is started again whatever the restart policy says."""
        self.base.with_suffix(".interrupted").touch()

    def close(self) -> None:
        """Stop watching; the processes go on."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
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
        if not self._are_others_told:
            # Those that left the group have not had the signal yet; a second one would make some programs hurry.
            self._are_others_told = True
            program = self.program()
            _signal_all([pid for pid in others if program is None or _group(pid) != program.pid], signal.SIGTERM)
        self._poll = asyncio.get_running_loop().call_later(_POLL_S, self._end_or_linger)

    def _finish(self) -> None:
        self.run = replace(self.run, exit=_read_exit(self.base, self._clock.now()))
        sweep(self.run.container_id)


class Runner:
    """The processes of all pods, under `directory/<uid>/<container>/<restart>.*`."""

    def __init__(self, directory: Path, clock: Clock, *, boot_id: str | None = None) -> None:
        self.directory = directory.absolute()
        self._clock = clock
        self._boot_id = boot_id if boot_id is not None else _read_boot_id()
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
        for stale in (".pid", ".exit", ".interrupted"):
            base.with_suffix(stale).unlink(missing_ok=True)
        now = self._clock.now()
        record = RunRecord(
            restart=restart,
            container_id=f"pybrix://{hashlib.sha256(f'{uid}/{container}/{restart}/{now}'.encode()).hexdigest()}",
            started_at=now,
            backoff_s=backoff_s,
            image_id=launch.image_id,
            boot_id=self._boot_id,
            start_error=launch.start_error,
        )
        _write_record(base, record)
        self._remove_old(base.parent, restart)
        process = ContainerProcess(base, _run(record), self._clock, on_exit)
        if not launch.start_error:
            try:
                process.adopt_child(self._spawn(base, record, launch))
                return process
            except OSError as error:
                record.start_error = f"cannot start a process: {error}"
                _write_record(base, record)
        base.with_suffix(".log").touch()
        process.run = replace(process.run, exit=_start_error_exit(record))
        return process

    def _spawn(self, base: Path, record: RunRecord, launch: Launchable) -> subprocess.Popen[bytes]:
        env = dict(launch.env) | {MARKER: record.container_id}
        argv = launch.wrap(launch.argv)
        # A POSIX shell does not hand on variables that are no identifiers ("my-key"): env(1) sets them after it.
        odd = [name for name in env if not name.isidentifier() or not name.isascii()]
        if odd:
            argv = ("/usr/bin/env", *(f"{name}={env.pop(name)}" for name in odd), *argv)
        work_dir = launch.work_dir if launch.work_dir.is_dir() else Path("/")
        return subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISE, "pybrix-run", str(base), self._setsid, _START, *argv],
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
        for restart in restarts[:2]:
            base = directory / str(restart)
            try:
                record = msgspec.json.decode(base.with_suffix(".json").read_bytes(), type=RunRecord)
            except (OSError, msgspec.DecodeError) as error:
                raise RunFilesBroken(f"{base}.json: {error}") from error
            runs.append((base, _run(record), record.boot_id == self._boot_id))
        if not runs:
            return None, None
        base, run, is_this_boot = runs[0]
        process = ContainerProcess(base, run, self._clock, on_exit)
        if not is_this_boot:
            # The numbers in the files are those of processes before the reboot.
            found = _recorded_exit(base)
            lost = Exit(LOST_CODE, self._clock.now(), "ContainerStatusUnknown", "the machine was restarted", True)
            process.run = replace(run, exit=found or lost)
        elif run.exit is None:
            await _settle_pid_file(base)
            process.resume()
        older = runs[1][:2] if len(runs) > 1 else None
        previous = replace(older[1], exit=older[1].exit or _read_exit(older[0], older[1].started_at)) if older else None
        return process, previous


def _write_record(base: Path, record: RunRecord) -> None:
    temporary = base.with_suffix(".json.tmp")
    temporary.write_bytes(msgspec.json.encode(record))
    os.replace(temporary, base.with_suffix(".json"))


def _run(record: RunRecord) -> Run:
    return Run(
        restart=record.restart,
        container_id=record.container_id,
        started_at=record.started_at,
        backoff_s=record.backoff_s,
        image_id=record.image_id,
        exit=_start_error_exit(record) if record.start_error else None,
    )


def _start_error_exit(record: RunRecord) -> Exit:
    return Exit(NOT_STARTED_CODE, record.started_at, "StartError", record.start_error)


def _read_pid_file(base: Path) -> tuple[int, Identity] | None:
    try:
        text = base.with_suffix(".pid").read_text()
    except FileNotFoundError:
        return None
    if not text.endswith("\n") or text == _GIVEN_UP:
        return None
    shell, pid = text.split(maxsplit=2)[:2]
    return int(shell), Identity(int(pid), parse_stat(text).start_ticks)


async def _settle_pid_file(base: Path) -> None:
    """Wait for a file that is being written; give a run up whose program has not begun."""
    for _ in range(100):
        _give_up(base)
        if base.with_suffix(".pid").read_text().endswith("\n"):
            return
        await asyncio.sleep(0.01)


def _give_up(base: Path) -> None:
    with contextlib.suppress(FileExistsError), base.with_suffix(".pid").open("x") as file:
        file.write(_GIVEN_UP)


def _recorded_exit(base: Path) -> Exit | None:
    path = base.with_suffix(".exit")
    try:
        code, finished_at = int(path.read_text()), datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (FileNotFoundError, ValueError):
        return None
    return Exit(code, finished_at, "Completed" if code == 0 else "Error", is_interrupted=_is_interrupted(base))


def _is_interrupted(base: Path) -> bool:
    """Say whether the node ended the run, or kept it from beginning."""
    try:
        if base.with_suffix(".pid").read_text() == _GIVEN_UP:
            return True
    except FileNotFoundError:
        pass  # the marker alone decides
    return base.with_suffix(".interrupted").exists()


def _read_exit(base: Path, now: datetime) -> Exit:
    message = "its exit code was not recorded"
    return _recorded_exit(base) or Exit(LOST_CODE, now, "ContainerStatusUnknown", message, _is_interrupted(base))


def _read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def marked_processes(container_id: str) -> list[int]:
    """Return the numbers of the live processes that carry a container's marker, the waiting shell left out."""
    mark = f"\0{MARKER}={container_id}\0".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
            if mark not in b"\0" + environment:
                continue
            command = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if b"\0pybrix-run\0" not in command:
            found.append(int(name))
    return found


def sweep(container_id: str) -> None:
    """Kill what a container left behind: a container ends with its first process."""
    _signal_all(marked_processes(container_id), signal.SIGKILL)


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
