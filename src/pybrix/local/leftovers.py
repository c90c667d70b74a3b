"""Processes of an installation whose supervisor is gone: found by what they were started with, and ended.

The state file names them, unless it is gone, or was written before they were started.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from pybrix.base.errors import UsageError
from pybrix.local.layout import Layout
from pybrix.local.state import ProcessRecord

_KILL_WAIT_S = 5.0


def is_part(arguments: Sequence[str], layout: Layout) -> bool:
    """Say whether a supervisor of this data directory has started a command, or it is an Envoy of one that it has."""
    match list(arguments[1:5]):
        case ["-m", "pybrix", "cluster", "run"]:
            return _option(arguments, "--data-dir") == str(layout.root)
        case ["-m", "pybrix", "controllers", "run"]:
            return _option(arguments, "--health-socket") == str(layout.controllers_socket)
        case ["-m", "pybrix", "gateway", "brain" | "envoy" | "balancer"]:
            return _option(arguments, "--run-dir") in {str(place.run_dir) for place in layout.places()}
        case _:
            return is_envoy(arguments, layout)


def is_envoy(arguments: Sequence[str], layout: Layout) -> bool:
    """Say whether a command line is that of an Envoy with the configuration of this data directory."""
    bootstraps = {str(place.envoy_paths.bootstrap) for place in layout.places()}
    return _option(arguments, "--config-path") in bootstraps and "--base-id" in arguments


def is_supervisor(arguments: Sequence[str]) -> bool:
    """Say whether a command line is that of some `pybrix up`."""
    return "up" in arguments and any(Path(each).name == "pybrix" for each in arguments)


def find_parts(layout: Layout) -> list[psutil.Process]:
    """Return the processes of an installation that belong to this user and see the same files; pods are not among them.

    Supervisors start each in a session of its own, which what a person has started by hand is not.
    """
    return [
        process for process, arguments in _own_processes() if is_part(arguments, layout) and _leads_session(process)
    ]


def nothing_runs(layout: Layout, otherwise: str = "") -> UsageError:
    """Return what to say where there is no state file; `otherwise` is what else helps where nothing runs."""
    if parts := find_parts(layout):
        return UsageError(
            f"{layout.state_file} is gone, though processes run on {layout.root} ({len(parts)})",
            f"stop them with `{layout.command('down')}`, then start with `{layout.command('up')}`: objects stay",
        )
    return UsageError(f"nothing runs on {layout.root}", f"start it with `{layout.command('up')}`{otherwise}")


def find_watching(parts: Iterable[psutil.Process]) -> psutil.Process | None:
    """Return the supervisor, not this process, that has started one of these and lives, with or without a lock."""
    for part in parts:
        try:
            parent = part.parent()
            if parent is not None and parent.pid != os.getpid() and is_supervisor(parent.cmdline()):
                return parent
        except psutil.Error:
            continue
    return None


def end_leftovers(layout: Layout, records: Iterable[ProcessRecord], grace_s: float) -> int:
    """End what a supervisor that is gone has left behind, on record or not; return how many processes there were.

    The caller holds the lock.

    Raises:
        UsageError: they are watched after all, by a supervisor whose lock file was removed, or in a hand-over.
    """
    parts = find_parts(layout)
    if (watching := find_watching(parts)) is not None:
        raise UsageError(
            f"pybrix is running on {layout.root} (process {watching.pid}), though it holds no lock",
            f"wait where an upgrade is under way; else stop it with `{layout.command('down')}`",
        )
    recorded = (record.find() for record in records)
    # First those that end an Envoy in order; one is ended directly where nobody is left to do that.
    envoys = {part for part in parts if is_envoy(_arguments(part), layout)}
    first = ({*parts} | {process for process in recorded if process is not None}) - envoys
    _end(first, grace_s)
    _end({envoy for envoy in envoys if envoy.is_running()}, grace_s)
    return len(first | envoys)


def _end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    alive = list(processes)
    for send in (psutil.Process.terminate, psutil.Process.kill):
        for process in alive:
            try:
                send(process)
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(alive, timeout=grace_s if send is psutil.Process.terminate else _KILL_WAIT_S)


def _own_processes() -> Iterator[tuple[psutil.Process, list[str]]]:
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid() and process.pid != os.getpid() and _sees_same_files(process.pid):
                yield process, process.cmdline()
        except (psutil.Error, OSError):
            continue


def _sees_same_files(pid: int) -> bool:
    """Say whether a path means the same to a process as to this one; in a container on this machine it does not."""
    if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
        return False
    return os.path.samefile(f"/proc/{pid}/root", "/proc/self/root")


def _leads_session(process: psutil.Process) -> bool:
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _option(arguments: Sequence[str], name: str) -> str | None:
    """Return the value of an option, None where it is not given."""
    return arguments[arguments.index(name) + 1] if name in arguments[:-1] else None
