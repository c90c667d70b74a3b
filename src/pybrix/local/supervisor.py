"""Start the processes of an installation in order, keep them alive, replace them, and stop them in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.local.logs import telling_words
from pybrix.local.processes import UNKNOWN_EXIT, FoundProcess, Process, command_of
from pybrix.local.state import ProcessRecord

_POLL_S = 0.05
_LOG_TAIL_BYTES = 16384
_SECOND_RESTART_DELAY_S = 0.1
_MAX_RESTART_DELAY_S = 5.0
# A process that lived so long is not in a crash loop.
_STABLE_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Component:
    """A process of the installation.

    `is_ready` is polled while it starts; `stop_grace_s` is how long it may take to end after SIGTERM. One that has a
    `generation` can be replaced while it runs: the successor takes over, which the generation tells, and the old one
    ends by itself. Others get `replace_signal` before their successor starts.
    """

    name: str
    argv: tuple[str, ...]
    log_file: Path
    is_ready: Callable[[], Awaitable[bool]]
    start_timeout_s: float = 30.0
    stop_grace_s: float = 10.0
    generation: Callable[[], Awaitable[int | None]] | None = None
    replace_signal: signal.Signals = signal.SIGTERM
    settle_s: float = 2.0
    """How long a successor has to stay up after it was ready before it counts."""
    serves: Callable[[], Awaitable[bool]] | None = None
    """Whether those who use it are served, also where it is not ready: it is not ended then. None: it is when ready."""


class NotReplaced(UsageError):
    """A component's successor did not start; the message says what runs now."""


@dataclass(slots=True)
class _Running:
    component: Component
    process: Process
    started_s: float
    log_start: int
    # Held while the process is replaced or ended on purpose: nobody starts it again then.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    keeper: asyncio.Task[None] | None = field(default=None)
    # Predecessors that still drain.
    retiring: list[Process] = field(default_factory=list)


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
        # Ran before and are not adopted yet: published as well, lest they be lost if this supervisor dies.
        self._unclaimed: dict[str, ProcessRecord] = {}
        self._hurry = asyncio.Event()
        self._keepers: asyncio.TaskGroup | None = None

    @property
    def is_running(self) -> bool:
        """Say whether anything was started and not stopped."""
        return bool(self._running)

    @property
    def names(self) -> list[str]:
        """Names of the components, in the order in which they were started."""
        return [running.component.name for running in self._running]

    async def start(self, component: Component) -> None:
        """Start a component and wait until it is ready.

        Raises:
            UsageError: it ended, or was not ready in time; the message carries the last lines of its log.
        """
        log_start = _size(component.log_file)
        running = _Running(component, await self._spawn(component), self._clock.monotonic_s(), log_start)
        self._running.append(running)
        self._publish()
        await self._until_ready(component, running.process, log_start, component.is_ready)
        self._keep_soon(running)

    def expect(self, records: Mapping[str, ProcessRecord]) -> None:
        """Name what runs already and is to be adopted: it stays on record until then."""
        self._unclaimed = dict(records)

    async def adopt(self, component: Component, record: ProcessRecord | None) -> bool:
        """Watch over a process that runs already; start the component when it does not. Return whether it ran.

        Raises:
            UsageError: it had to be started, and did not start.
        """
        self._unclaimed.pop(component.name, None)
        try:
            if record is None:
                raise ProcessLookupError
            process = FoundProcess(record)
        except ProcessLookupError:
            await self.start(component)
            return False
        self._running.append(_Running(component, process, self._clock.monotonic_s(), _size(component.log_file)))
        self._publish()
        return True

    async def replace(self, component: Component) -> None:
        """Put a successor in the place of a running component of the same name, and wait until it is ready.

        Raises:
            NotReplaced: it is not; what ran before runs again, or still, unless the message says otherwise.
            UsageError: there is no component of this name.
        """
        running = self._find(component.name)
        async with running.lock:
            before = dataclasses.replace(running.component, argv=command_of(running.process) or running.component.argv)
            try:
                if component.generation is None:
                    await self._replace_in_turn(running, component)
                else:
                    await self._replace_at_once(running, component, await component.generation())
            except UsageError as err:
                await self._restore(running, before, err)
            running.component = component

    async def remove(self, name: str) -> None:
        """End a component, and forget it.

        Raises:
            UsageError: there is no component of this name.
        """
        running = self._find(name)
        async with running.lock:
            await self._end(running)
            if running.keeper is not None:
                running.keeper.cancel()
            self._running.remove(running)
            self._publish()

    async def keep_running(self) -> None:
        """Start again whatever ends, until cancelled; also what is started from now on."""
        async with asyncio.TaskGroup() as group:
            self._keepers = group
            try:
                for running in self._running:
                    self._keep_soon(running)
                # The group lives as long as there may be more to keep.
                await asyncio.Event().wait()
            finally:
                self._keepers = None

    async def stop(self) -> None:
        """End all processes, the last started first; each gets SIGTERM, its grace period, then SIGKILL."""
        for running in reversed(self._running):
            await self._end(running)
        self._running.clear()

    def hurry(self) -> None:
        """Cut the grace periods of a stop that is under way."""
        self._hurry.set()

    def _find(self, name: str) -> _Running:
        for running in self._running:
            if running.component.name == name:
                return running
        raise UsageError(f"there is no {name} here", f"there are {', '.join(self.names)}")

    async def _replace_in_turn(self, running: _Running, component: Component) -> None:
        await self._end_process(running.process, component, component.replace_signal)
        log_start = _size(component.log_file)
        running.process, running.started_s = await self._spawn(component), self._clock.monotonic_s()
        self._publish()
        await self._until_ready(component, running.process, log_start, component.is_ready)
        await self._until_settled(component, running.process, log_start)

    async def _replace_at_once(self, running: _Running, component: Component, before: int | None) -> None:
        async def has_taken_over() -> bool:
            assert component.generation is not None
            return await component.generation() not in (None, before) and await component.is_ready()

        old, log_start = running.process, _size(component.log_file)
        running.process, running.started_s = await self._spawn(component), self._clock.monotonic_s()
        running.retiring.append(old)
        self._publish()
        # The one that served last may still be draining, and is waited for.
        await self._until_ready(
            component, running.process, log_start, has_taken_over, component.start_timeout_s + component.stop_grace_s
        )
        await self._until_settled(component, running.process, log_start)
        await self._until_drained(component, old, running.process, log_start)
        running.retiring.remove(old)
        self._publish()

    async def _restore(self, running: _Running, before: Component, err: UsageError) -> None:
        """Go back to what ran before, and say how that went."""
        await self._end_process(running.process, before)
        old = running.retiring.pop() if running.retiring else None
        if old is not None and await _serves_on(before, old):
            running.process = old
            self._publish()
            raise NotReplaced(f"{err}; the old {before.name} serves on") from err
        if old is not None:
            await self._end_process(old, before)
        try:
            await self._replace_in_turn(running, before)
        except UsageError as again:
            # The keeper goes on trying.
            raise NotReplaced(f"{err}; going back to the old one failed, too: {again}") from err
        raise NotReplaced(f"{err}; {before.name} runs again as before: {' '.join(before.argv[:1])}") from err

    async def _until_ready(
        self,
        component: Component,
        process: Process,
        log_start: int,
        is_ready: Callable[[], Awaitable[bool]],
        timeout_s: float | None = None,
    ) -> None:
        timeout_s = timeout_s or component.start_timeout_s
        deadline_s = self._clock.monotonic_s() + timeout_s
        while not await is_ready():
            if process.returncode is not None:
                raise UsageError(
                    f"{component.name} did not start ({describe_exit(process.returncode)}): "
                    f"{last_words(component.log_file, log_start)}",
                    f"the whole log: {component.log_file}",
                )
            if self._clock.monotonic_s() > deadline_s:
                raise UsageError(
                    f"{component.name} was not ready within {timeout_s:.0f} s: "
                    f"{last_words(component.log_file, log_start)}",
                    f"the whole log: {component.log_file}",
                )
            await asyncio.sleep(_POLL_S)

    async def _until_settled(self, component: Component, process: Process, log_start: int) -> None:
        """Watch a successor for a moment longer: what is ready may end once there is something to do."""
        try:
            async with asyncio.timeout(component.settle_s):
                await process.wait()
        except TimeoutError:
            await self._until_ready(component, process, log_start, component.is_ready)
        else:
            raise _not_stayed(component, process, log_start)

    async def _until_drained(self, component: Component, old: Process, new: Process, log_start: int) -> None:
        """Wait until a predecessor has finished what it had, as long as its successor lives."""
        waits = {asyncio.create_task(old.wait()), asyncio.create_task(new.wait())}
        try:
            await asyncio.wait(waits, timeout=component.stop_grace_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if new.returncode is not None:
            raise _not_stayed(component, new, log_start)
        await self._end_process(old, component)

    def _keep_soon(self, running: _Running) -> None:
        if self._keepers is not None:
            name = f"keep-{running.component.name}"
            running.keeper = self._keepers.create_task(self._keep(running), name=name)

    async def _keep(self, running: _Running) -> None:
        delay_s = 0.0
        while True:
            process = running.process
            returncode = await process.wait()
            async with running.lock:
                if running.process is not process:
                    continue
                if self._clock.monotonic_s() - running.started_s > _STABLE_AFTER_S:
                    delay_s = 0.0
                self._report(f"{running.component.name} ended ({describe_exit(returncode)}); starting it again")
                await asyncio.sleep(delay_s)
                delay_s = min(max(delay_s * 2, _SECOND_RESTART_DELAY_S), _MAX_RESTART_DELAY_S)
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
        # One that drains waits for its successor to end it, unless that one is gone.
        for process in (running.process, *running.retiring):
            await self._end_process(process, running.component)
        running.retiring.clear()

    async def _end_process(
        self, process: Process, component: Component, number: signal.Signals = signal.SIGTERM
    ) -> None:
        if process.returncode is not None:
            return
        _send(process, number)
        hurried = asyncio.create_task(self._hurry.wait())
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({hurried, ended}, timeout=component.stop_grace_s, return_when=asyncio.FIRST_COMPLETED)
            if process.returncode is None:
                if not self._hurry.is_set():
                    self._report(f"{component.name} did not end in {component.stop_grace_s:.0f} s; killing it")
                _send(process, signal.SIGKILL)
            await ended
        finally:
            hurried.cancel()

    def _publish(self) -> None:
        records = {name: record for name, record in self._unclaimed.items() if record.find() is not None}
        for running in self._running:
            names = [running.component.name, *(f"{running.component.name} (draining)" for _ in running.retiring)]
            for name, process in zip(names, (running.process, *running.retiring), strict=True):
                try:
                    records[name] = ProcessRecord.of(process.pid)
                except psutil.NoSuchProcess:
                    continue
        self._on_change(records)


async def _serves_on(component: Component, process: Process) -> bool:
    """Say whether a predecessor serves, also a moment later: one that was taken over from ends soon."""
    serves = component.serves or component.is_ready
    if process.returncode is not None or not await serves():
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(component.settle_s):
            await process.wait()
    return process.returncode is None and await serves()


def _not_stayed(component: Component, process: Process, log_start: int) -> UsageError:
    return UsageError(
        f"{component.name} was ready, but did not stay up ({describe_exit(process.returncode or 0)}): "
        f"{last_words(component.log_file, log_start)}",
        f"the whole log: {component.log_file}",
    )


def _send(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def describe_exit(returncode: int) -> str:
    """Say how a process ended: `exit code 1` or `SIGKILL`."""
    if returncode == UNKNOWN_EXIT:
        return "how is unknown: a supervisor before this one had started it"
    if returncode >= 0:
        return f"exit code {returncode}"
    return signal.Signals(-returncode).name


def last_words(log: Path, start: int = 0) -> str:
    """Return why a process ended, or does not get on, as its log from byte `start` on tells."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            return telling_words(file.read().decode(errors="replace").splitlines())
    except FileNotFoundError:
        return telling_words(())
