"""Processes of this machine: told apart from later ones of the same number, found by their container. From /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARKER = "PYBRIX_CONTAINER_ID"
"""Variable by which a container's processes are found, also those that left its process group."""
SUPERVISOR = "pybrix-run"
"""Name of the shell that waits for a container; it carries the marker and is no process of the container."""

_EXEC_LOOK_S = 0.0005
_EXEC_LOOKS = 100
"""How often a process that is becoming another program is looked at. That takes microseconds, unless it is preempted
just then."""


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
    """`start_ticks` counts from boot; a zombie has ended and waits for its parent; `is_kernels` is no program at all.

    `environment_end` is an address, 0 for who may not see it; and in the moment in which a process that calls
    execve(2) is no longer the old program and not yet the new one, when it shows neither arguments nor environment.
    """

    start_ticks: int
    is_zombie: bool
    is_kernels: bool
    environment_end: int


_KERNELS = 0x00200000
"""PF_KTHREAD, of the flags in `/proc/PID/stat`. Source: include/linux/sched.h."""


def parse_stat(text: str) -> Stat:
    """Parse `/proc/PID/stat`: the program's name may hold spaces and brackets. Source: proc(5)."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(int(fields[19]), fields[0] in ("Z", "X"), bool(int(fields[6]) & _KERNELS), int(fields[48]))


def read_stat(pid: int) -> Stat | None:
    """Return the state of a process; None when there is none."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def visitor_mark(container_id: str) -> str:
    """Return what marks a command that runs beside a container's program: a probe, a hook, somebody's shell.

    The container's end does not wait for it, but ends it.
    """
    return f"{container_id}+visitor"


def marked_processes(container_id: str, *, with_visitors: bool = False) -> list[int]:
    """Return the numbers of the live processes that carry a container's marker, the waiting shell left out."""
    ids = (container_id, visitor_mark(container_id)) if with_visitors else (container_id,)
    marks = [f"\0{MARKER}={each}\0".encode() for each in ids]
    supervisor = f"\0{SUPERVISOR}\0".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            environment = _read_environment(int(name))
            if not any(mark in b"\0" + environment for mark in marks):
                continue
            command = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if supervisor not in command:
            found.append(int(name))
    return found


def _read_environment(pid: int) -> bytes:
    """Return the environment that a process was started with, also of one that is becoming another program.

    Raises:
        OSError: it is gone, or another user's.
    """
    path = Path(f"/proc/{pid}/environ")
    for _ in range(_EXEC_LOOKS):
        if environment := path.read_bytes():
            return environment
        stat = read_stat(pid)
        if stat is None or stat.is_zombie or stat.is_kernels:
            return b""
        if stat.environment_end:
            break
        time.sleep(_EXEC_LOOK_S)
    # By now it is the new program, which may have none, or it has been waiting for its disk for long.
    return path.read_bytes()


def sweep(container_id: str) -> None:
    """Kill what a container left behind: a container ends with its first process."""
    signal_all(marked_processes(container_id, with_visitors=True), signal.SIGKILL)


@contextlib.contextmanager
def starting_with_default_signals() -> Iterator[None]:
    """Let processes that are started inside begin with no signal ignored, as they do in a container.

    What this process ignores its children would too (execve(2)), and a shell cannot trap what it was started ignoring:
    `sh -c "pybrix up &"` ignores SIGINT and SIGQUIT, `nohup` SIGHUP. What is handled is reset by exec, so a handler
    that does nothing stands in for the while. Only the main thread may set one; elsewhere this changes nothing.
    """
    ignored: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        ignored = [s for s in signal.Signals if signal.getsignal(s) is signal.SIG_IGN]
    try:
        for number in ignored:
            signal.signal(number, lambda _number, _frame: None)
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def process_group(pid: int) -> int:
    """Return the process group, 0 when there is no such process."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def would_end_by(pid: int, number: signal.Signals) -> bool:
    """Say whether a signal ends a process at once: it neither handles nor ignores nor blocks it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk:", "SigIgn:", "SigCgt:"))]
    return not any(mask & 1 << (number - 1) for mask in masks)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each process that is still there and ours."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
