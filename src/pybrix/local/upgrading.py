"""Carry out an upgrade of a running installation: hand the supervisor over, then replace one part after the other."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import psutil

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.local.control import Control, NoControl
from pybrix.local.layout import Layout
from pybrix.local.leftovers import nothing_runs
from pybrix.local.state import UpState, find_supervisor, read_state
from pybrix.local.supervisor import last_words
from pybrix.local.upgrade import SUPERVISOR, Action, Seen, Step, plan_upgrade

_HAND_OVER_S = 60.0
_SOCKET_WAIT_S = 5.0
_POLL_S = 0.1
_PROBE = aiohttp.ClientTimeout(total=10)


class _Busy(UsageError):
    """A supervisor that will take orders lives, but does not take any yet."""


class Outcome(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How a step went. `problem` is empty when it went well."""

    name: str
    action: Action
    seconds: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """Hears when a step begins and how it went."""

    begun: Callable[[Step], None]
    done: Callable[[Outcome], None]


async def plan(layout: Layout, only: Iterable[str] = ()) -> tuple[Step, ...]:
    """Return what an upgrade of every part, or of those named in `only`, would do now.

    Raises:
        UsageError: nothing runs, what runs is still starting, or there is no part of a name.
    """
    steps, chosen = await _plan_all(layout), set(only)
    if unknown := chosen - {step.name for step in steps}:
        raise UsageError(
            f"there is no {', '.join(sorted(unknown))} here", f"there are {', '.join(step.name for step in steps)}"
        )
    # Whatever else is replaced: it is the supervisor that starts it.
    return tuple(step for step in steps if not chosen or step.name in chosen or step.name == SUPERVISOR)


async def _plan_all(layout: Layout) -> tuple[Step, ...]:
    control, tries = Control(layout), round(_SOCKET_WAIT_S / _POLL_S)
    while True:
        try:
            return plan_upgrade(await control.components(), takes_orders=True)
        except NoControl:
            tries -= 1
            try:
                return plan_upgrade(_recorded(_abandoned(layout)), takes_orders=False)
            except _Busy:
                if tries <= 0:
                    raise
        await asyncio.sleep(_POLL_S)


async def upgrade(layout: Layout, clock: Clock, listener: Listener, steps: Iterable[Step]) -> None:
    """Bring parts to the release and environment of this process; stop where a step fails, or one does not stay up."""
    replaced: dict[str, _Replaced] = {}
    for step in steps:
        listener.begun(step)
        began_s, problem = clock.monotonic_s(), ""
        try:
            await _carry_out(layout, step, clock)
            await _check_served(layout)
        except UsageError as err:
            problem = str(err)
        listener.done(Outcome(step.name, step.action, round(clock.monotonic_s() - began_s, 1), problem))
        if problem:
            return
        now = await _identify(layout)
        for name, before in replaced.items():
            if now.get(name) != before.identity:
                lived_s = round(clock.monotonic_s() - before.at_s, 1)
                listener.done(Outcome(name, before.action, lived_s, _not_stayed(layout, name)))
                return
        replaced[step.name] = _Replaced(step.action, now.get(step.name, ""), clock.monotonic_s())


@dataclass(frozen=True, slots=True)
class _Replaced:
    """A part that was replaced: how, what it is since then, and when that was."""

    action: Action
    identity: str
    at_s: float


async def _identify(layout: Layout) -> dict[str, str]:
    """Return what tells each part apart from its predecessors and successors; empty while nobody can say."""
    control = Control(layout)
    try:
        parts = {each.name: str(each.pid) for each in await control.components()}
        return {SUPERVISOR: (await control.supervisor()).instance, **parts}
    except UsageError:
        return {}


def _not_stayed(layout: Layout, name: str) -> str:
    if name == SUPERVISOR:
        return f"it took orders and ended then; `{layout.command('upgrade')}` puts a new one in its place"
    log = layout.logs_dir / f"{name}.log"
    return f"it was ready, but ended later and was started again: {last_words(log)} (the whole log: {log})"


async def _carry_out(layout: Layout, step: Step, clock: Clock) -> None:
    control = Control(layout)
    match step.action:
        case Action.HAND_OVER:
            before, supervisor = await control.supervisor(), _running(layout).supervisor
            log_start = _log_size(layout)
            await control.hand_over(sys.executable)
            # It is the same process, before and after.
            await _wait_for_orders(
                layout, clock, lambda: supervisor.find() is not None, log_start, before=before.instance
            )
        case Action.TAKE_OVER:
            await _take_over(layout, clock)
        case _:
            await control.replace(step.name)


async def _take_over(layout: Layout, clock: Clock) -> None:
    """End a supervisor that cannot hand over, and start one that finds what it has started."""
    _abandoned(layout)
    supervisor = find_supervisor(layout)
    if supervisor is not None:
        # Asked to end it would end everything else before; what it has started does not notice this.
        supervisor.send_signal(signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            await asyncio.to_thread(supervisor.wait, 10)
    log_start = _log_size(layout)
    with _log_file(layout).open("ab") as log:
        # Of asyncio's processes the loop takes leave by killing them, and this one is to live on.
        successor = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "pybrix", "up", "--resume", "--detached", "--data-dir", str(layout.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    await _wait_for_orders(layout, clock, lambda: successor.poll() is None, log_start)


def _log_file(layout: Layout) -> Path:
    """Return where a supervisor in the background writes; one in a terminal writes there."""
    return layout.logs_dir / "up.log"


def _log_size(layout: Layout) -> int:
    return _log_file(layout).stat().st_size if _log_file(layout).exists() else 0


async def _wait_for_orders(
    layout: Layout, clock: Clock, is_alive: Callable[[], bool], log_start: int, *, before: str = ""
) -> None:
    """Wait until a supervisor takes orders that is another one than `before`.

    Raises:
        UsageError: its process ended, or it takes none in time.
    """
    control, deadline_s = Control(layout), clock.monotonic_s() + _HAND_OVER_S
    while True:
        with contextlib.suppress(UsageError):
            if (await control.supervisor()).instance != before:
                return
        if not is_alive():
            said = last_words(_log_file(layout), log_start)
            raise UsageError(
                f"the new supervisor ended ({said}); everything else runs as before, but nobody watches over it",
                f"run `{layout.command('upgrade')}` of either release again",
            )
        if clock.monotonic_s() > deadline_s:
            raise UsageError(
                f"the new supervisor takes no orders after {_HAND_OVER_S:.0f} s (see {_log_file(layout)}); everything "
                "else runs as before",
                f"look with `{layout.command('status')}`, then run `{layout.command('upgrade')}` again",
            )
        await asyncio.sleep(_POLL_S)


async def _check_served(layout: Layout) -> None:
    """Ask the gateway something, as a client would.

    Raises:
        UsageError: it does not answer.
    """
    url = f"{_running(layout).gateway_url}/v1/models"
    try:
        async with aiohttp.ClientSession(timeout=_PROBE) as session, session.get(url) as response:
            # Where API keys are asked for, 401 is an answer as well.
            if response.status >= 500:
                raise UsageError(f"{url} answers {response.status}", f"see `{layout.command('status')}`")
    except (aiohttp.ClientError, TimeoutError) as err:
        raise UsageError(f"{url} does not answer: {err!r}", f"see `{layout.command('status')}`") from err


def _running(layout: Layout) -> UpState:
    state = read_state(layout)
    if state is None:
        raise nothing_runs(layout)
    return state


def _abandoned(layout: Layout) -> UpState:
    """Return the state of an installation that may be taken over: nobody watches, or a release that takes no orders.

    Raises:
        UsageError: nothing runs.
        _Busy: its supervisor is still starting, or in a hand-over.
    """
    state, holder = read_state(layout), find_supervisor(layout)
    if state is not None and holder is None:
        # In a hand-over the same process goes on, and holds no lock for a moment.
        holder = state.supervisor.find()
    if holder is None or (state is not None and state.is_ready and not state.release):
        return _running(layout)
    if state is not None and state.is_ready and find_supervisor(layout) is not None:
        raise _Busy(
            f"nobody listens on {layout.control_socket}, though the supervisor lives (process {holder.pid})",
            f"`kill -KILL {holder.pid}` ends nothing but that process; then `{layout.command('upgrade')}` puts a new "
            "one in its place",
        )
    raise _Busy(
        f"what runs on {layout.root} is still starting or stopping, or another upgrade is under way (process "
        f"{holder.pid})",
        f"wait until that is done (see `{layout.command('status')}`), and run `{layout.command('upgrade')}` again",
    )


def _recorded(state: UpState) -> list[Seen]:
    """Return what the state file of a release that takes no orders says runs."""
    return [Seen(name, record.pid, is_overlapping=name.startswith("envoy")) for name, record in state.processes.items()]
