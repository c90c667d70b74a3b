"""Stop an installation, also one whose supervisor is gone."""

from __future__ import annotations

import asyncio

import psutil

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.local.components import CLUSTER_STOP_S, cluster
from pybrix.local.layout import Layout
from pybrix.local.state import UpState, locked, read_state
from pybrix.local.supervisor import Supervisor, end_leftovers

_CLUSTER = "cluster"


def stop_running(layout: Layout, clock: Clock, wait_s: float) -> str:
    """Ask the supervisor to stop everything, or do its work where it is gone; return a sentence that says which.

    Raises:
        UsageError: the supervisor did not end in time.
    """
    state = read_state(layout)
    if state is None:
        return f"nothing runs on {layout.root}"
    supervisor = state.supervisor.find()
    if supervisor is None:
        with locked(layout):
            asyncio.run(_end_pods(layout, clock, state))
            count = end_earlier_processes(layout, state)
        return f"stopped what an earlier run left behind ({count} processes, and their pods)"
    supervisor.terminate()
    try:
        supervisor.wait(wait_s)
    except psutil.TimeoutExpired as err:
        raise UsageError(f"process {supervisor.pid} is still stopping after {wait_s:.0f} s", "run it again") from err
    return "stopped"


def end_earlier_processes(layout: Layout, earlier: UpState) -> int:
    """End the processes that a supervisor left behind; return how many there were. The caller holds the lock."""
    count = end_leftovers(list(earlier.processes.values()), CLUSTER_STOP_S)
    layout.state_file.unlink(missing_ok=True)
    return count


async def _end_pods(layout: Layout, clock: Clock, earlier: UpState) -> None:
    """Run a cluster for a moment where none runs: pods outlive it, and only a node agent knows how to end them."""
    record = earlier.processes.get(_CLUSTER)
    if record is None or record.find() is not None:
        return
    supervisor = Supervisor(clock, report=lambda _: None, on_change=lambda _: None)
    try:
        await supervisor.start(cluster(layout, api_port=0))
    finally:
        await supervisor.stop()
