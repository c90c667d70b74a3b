"""The files of a run: what the agent notes before it starts one, and what the shells write about it.

`<restart>.json` by the agent; `.pid` by the shell that becomes the program; `.exit` by the shell that waits for it;
`.message` by the program, which sees it at its `terminationMessagePath`; `.interrupted` by an agent that stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pybrix.cluster.nodeagent.processes import Identity, parse_stat
from pybrix.cluster.nodeagent.seen import Exit, Run

LOST_CODE = 137
NOT_STARTED_CODE = 128
_GIVEN_UP = "given-up\n"
_MESSAGE_BYTES = 4096
_LAST_WORDS_BYTES = 2048
_LAST_WORDS_LINES = 80


class RunRecord(msgspec.Struct, kw_only=True):
    """What the agent writes before it starts a run. A run whose program could not be executed has its end in here."""

    restart: int
    container_id: str
    started_at: datetime
    backoff_s: float
    image_id: str
    boot_id: str
    start_error: str = ""
    is_told_by_log: bool = False


def write_record(base: Path, record: RunRecord) -> None:
    """Write the record beside the run's other files; `base` is their path without suffix."""
    temporary = base.with_suffix(".json.tmp")
    temporary.write_bytes(msgspec.json.encode(record))
    os.replace(temporary, base.with_suffix(".json"))


def run_of(record: RunRecord) -> Run:
    """Return the run that a record tells of: live, unless its program could not be executed."""
    return Run(
        restart=record.restart,
        container_id=record.container_id,
        started_at=record.started_at,
        backoff_s=record.backoff_s,
        image_id=record.image_id,
        exit=start_error_exit(record) if record.start_error else None,
        is_told_by_log=record.is_told_by_log,
    )


def start_error_exit(record: RunRecord) -> Exit:
    """Return the end of a run whose program could not be executed."""
    return Exit(NOT_STARTED_CODE, record.started_at, "StartError", record.start_error)


def read_pid_file(base: Path) -> tuple[int, Identity] | None:
    """Return the waiting shell's number and the program; None before it runs, and when the run was given up."""
    try:
        text = base.with_suffix(".pid").read_text()
    except FileNotFoundError:
        return None
    if not text.endswith("\n") or text == _GIVEN_UP:
        return None
    shell, pid = text.split(maxsplit=2)[:2]
    return int(shell), Identity(int(pid), parse_stat(text).start_ticks)


def find_files(pods: Path, suffix: str) -> list[Path]:
    """Return the files `POD/CONTAINER/*suffix` below `pods`. Unlike to `glob`, what vanishes meanwhile is no error."""
    containers = (container for pod in _entries(pods) for container in _entries(pod))
    return [file for container in containers for file in _entries(container) if file.name.endswith(suffix)]


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def has_live_programs(pods: Path) -> bool:
    """Say whether a program that some agent started below `pods` still runs."""
    bases = (file.with_suffix("") for file in find_files(pods, ".pid"))
    return any(found[1].is_alive for base in bases if (found := read_pid_file(base)) is not None)


async def settle_pid_file(base: Path) -> None:
    """Wait for a file that is being written; give a run up whose program has not begun."""
    for _ in range(100):
        give_up(base)
        if not is_pid_file_torn(base):
            return
        await asyncio.sleep(0.01)


def is_pid_file_torn(base: Path) -> bool:
    """Say whether the shell has made its file and not written it yet, so that the program begins any moment."""
    try:
        return not base.with_suffix(".pid").read_text().endswith("\n")
    except FileNotFoundError:
        return False


def give_up(base: Path) -> None:
    """Keep a program from beginning; one that has begun goes on."""
    with contextlib.suppress(FileExistsError), base.with_suffix(".pid").open("x") as file:
        file.write(_GIVEN_UP)


def recorded_exit(base: Path) -> Exit | None:
    """Return how the program ended, None where the waiting shell has not written it."""
    path = base.with_suffix(".exit")
    try:
        code, finished_at = int(path.read_text()), datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (FileNotFoundError, ValueError):
        return None
    return Exit(code, finished_at, "Completed" if code == 0 else "Error", is_interrupted=_is_interrupted(base))


def _is_interrupted(base: Path) -> bool:
    """Say whether the node ended the run, or kept it from beginning."""
    pid_file = base.with_suffix(".pid")
    is_given_up = pid_file.exists() and pid_file.read_text() == _GIVEN_UP
    return is_given_up or base.with_suffix(".interrupted").exists()


def read_exit(base: Path, now: datetime) -> Exit:
    """Return how a run that is over ended; where nobody could record it, 137 and `now`, as the kubelet has it."""
    message = "its exit code was not recorded"
    return recorded_exit(base) or Exit(LOST_CODE, now, "ContainerStatusUnknown", message, _is_interrupted(base))


def with_message(ended: Exit, base: Path, *, is_told_by_log: bool) -> Exit:
    """Return the end of a run with what the program says of it, as the kubelet cuts it.

    That is what it wrote to its file (the last 4 KiB), and if nothing and it failed, the end of its log (2 KiB, 80
    lines) where `is_told_by_log`.
    """
    if ended.message:
        return ended
    message = _tail(base.with_suffix(".message"), _MESSAGE_BYTES)
    if not message and is_told_by_log and ended.code:
        lines = _tail(base.with_suffix(".log"), _LAST_WORDS_BYTES).splitlines()
        message = "\n".join(lines[-_LAST_WORDS_LINES:])
    return replace(ended, message=message)


def _tail(path: Path, limit_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - limit_bytes))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def read_boot_id() -> str:
    """Return what tells this boot of the machine from the ones before."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
