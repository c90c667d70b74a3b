"""Start the processes of an installation in order, keep them alive, and stop them in the opposite order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.local.state import ProcessRecord

_POLL_S = 0.05
_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 5
# What `cli.main` prints before an error made for people.
_ERROR_PREFIX = "pybrix: "
_FIRST_RESTART_DELAY_S = 0.1
_MAX_RESTART_DELAY_S = 5.0
# A process that lived so long is not in a crash loop.
_STABLE_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Component:
    """A process of the installation.

    `is_ready` is polled while it starts; `stop_grace_s` is how long it may take to end after SIGTERM.
    """

    name: str
    argv: tuple[str, ...]
    log_file: Path
    is_ready: Callable[[], Awaitable[bool]]
    start_timeout_s: float = 30.0
    stop_grace_s: float = 10.0


@dataclass(slots=True)
class _Running:
    component: Component
    process: asyncio.subprocess.Process
    started_s: float
    log_start: int
    keeper: asyncio.Task[None] | None = field(default=None)


class Supervisor:
    """Owns the processes. `report` gets a sentence for people whenever one of them is started again."""

    def __init__(
        self,
        clock: Clock,
        report: Callable[[str], None],
        on_change: Callable[[dict[str, ProcessRecord]], None],
    ) -> None:
        self._clock = clock
        self._report = report
        self._on_change = on_change
        self._running: list[_Running] = []
        self._hurry = asyncio.Event()

    @property
    def is_running(self) -> bool:
        """Say whether anything was started and not stopped."""
        return bool(self._running)

    async def start(self, component: Component) -> None:
        """Start a component and wait until it is ready.

        Raises:
            UsageError: it ended, or was not ready in time; the message carries the last lines of its log.
        """
        log_start = component.log_file.stat().st_size if component.log_file.exists() else 0
        running = _Running(component, await self._spawn(component), self._clock.monotonic_s(), log_start)
        self._running.append(running)
        self._publish()
        deadline_s = running.started_s + component.start_timeout_s
        while not await component.is_ready():
            if running.process.returncode is not None:
                raise UsageError(
                    f"{component.name} did not start ({describe_exit(running.process.returncode)}): "
                    f"{last_words(component.log_file, log_start)}",
                    f"the whole log: {component.log_file}",
                )
            if self._clock.monotonic_s() > deadline_s:
                raise UsageError(
                    f"{component.name} was not ready within {component.start_timeout_s:.0f} s: "
                    f"{last_words(component.log_file, log_start)}",
                    f"the whole log: {component.log_file}",
                )
            await asyncio.sleep(_POLL_S)

    async def keep_running(self) -> None:
        """Start again whatever ends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for running in self._running:
                running.keeper = group.create_task(self._keep(running), name=f"keep-{running.component.name}")

    async def stop(self) -> None:
        """End all processes, the last started first; each gets SIGTERM, its grace period, then SIGKILL."""
        for running in reversed(self._running):
            await self._end(running)
        self._running.clear()

    def hurry(self) -> None:
        """Cut the grace periods of a stop that is under way."""
        self._hurry.set()

    async def _keep(self, running: _Running) -> None:
        delay_s = _FIRST_RESTART_DELAY_S
        while True:
            returncode = await running.process.wait()
            if self._clock.monotonic_s() - running.started_s > _STABLE_AFTER_S:
                delay_s = _FIRST_RESTART_DELAY_S
            self._report(f"{running.component.name} ended ({describe_exit(returncode)}); starting it again")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _MAX_RESTART_DELAY_S)
            running.process = await self._spawn(running.component)
            running.started_s = self._clock.monotonic_s()
            self._publish()

    async def _spawn(self, component: Component) -> asyncio.subprocess.Process:
        component.log_file.parent.mkdir(parents=True, exist_ok=True)
        with component.log_file.open("ab") as log:
            # A session of its own: Ctrl-C reaches only the supervisor, which stops everything in order.
            return await asyncio.create_subprocess_exec(
                *component.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def _end(self, running: _Running) -> None:
        process = running.process
        if process.returncode is not None:
            return
        process.terminate()
        hurried = asyncio.create_task(self._hurry.wait())
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait(
                {hurried, ended}, timeout=running.component.stop_grace_s, return_when=asyncio.FIRST_COMPLETED
            )
            if process.returncode is None:
                if not self._hurry.is_set():
                    self._report(
                        f"{running.component.name} did not end in {running.component.stop_grace_s:.0f} s; killing it"
                    )
                process.kill()
            await ended
        finally:
            hurried.cancel()

    def _publish(self) -> None:
        records = {}
        for running in self._running:
            try:
                records[running.component.name] = ProcessRecord.of(running.process.pid)
            except psutil.NoSuchProcess:
                continue
        self._on_change(records)


def describe_exit(returncode: int) -> str:
    """Say how a process ended: `exit code 1` or `SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    return signal.Signals(-returncode).name


def last_words(log: Path, start: int = 0) -> str:
    """Return why a process ended, as its log from byte `start` on tells: its error for people, else the last lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    for line in reversed(said):
        if line.startswith(_ERROR_PREFIX):
            return line.removeprefix(_ERROR_PREFIX)
    return " | ".join(said[-_LOG_TAIL_LINES:]) or "it wrote nothing"


def end_leftovers(records: Sequence[ProcessRecord], grace_s: float) -> int:
    """End processes that a supervisor which is gone left behind; return how many there were."""
    processes = [process for record in records if (process := record.find()) is not None]
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)
    return len(processes)
