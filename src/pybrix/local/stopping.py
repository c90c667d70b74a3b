"""Stop an installation, also one whose supervisor is gone or whose parts do not obey."""

from __future__ import annotations

import asyncio

import psutil

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.cluster.nodes import has_live_pods
from pybrix.local.components import CLUSTER_STOP_S, cluster
from pybrix.local.layout import Layout
from pybrix.local.leftovers import end_leftovers, find_parts, find_watching
from pybrix.local.state import DamagedState, UpState, find_supervisor, locked, read_state
from pybrix.local.supervisor import Supervisor


def stop_running(layout: Layout, clock: Clock, wait_s: float) -> str:
    """Ask the supervisor to stop everything, end what is left then, and return a sentence that says what was done.

    Raises:
        UsageError: the supervisor did not end in time.
    """
    try:
        state = read_state(layout)
    except DamagedState:
        state = None
    # Where the lock file was removed with everything else, what it has started still tells of it.
    supervisor = find_supervisor(layout) or find_watching(find_parts(layout))
    if supervisor is not None:
        supervisor.terminate()
        try:
            supervisor.wait(wait_s)
        except psutil.TimeoutExpired as err:
            raise UsageError(
                f"process {supervisor.pid} is still stopping after {wait_s:.0f} s", "wait, or run it again"
            ) from err
    if not (layout.lock_file.exists() or find_parts(layout) or has_live_pods(layout.cluster_dir)):
        return "stopped" if supervisor is not None else f"nothing runs on {layout.root}"
    layout.root.mkdir(parents=True, exist_ok=True)
    with locked(layout):
        count = end_earlier_processes(layout, state)
        has_pods = asyncio.run(end_orphaned_pods(layout, clock))
    if supervisor is not None:
        return "stopped"
    if count or has_pods:
        return "stopped what an earlier run left behind"
    return f"nothing runs on {layout.root}"


def end_earlier_processes(layout: Layout, earlier: UpState | None) -> int:
    """End processes that outlived their supervisor, on record or not; return how many there were.

    The caller holds the lock.

    Raises:
        UsageError: a supervisor watches over them without a lock.
    """
    count = end_leftovers(layout, earlier.processes.values() if earlier else (), CLUSTER_STOP_S)
    layout.state_file.unlink(missing_ok=True)
    return count


async def end_orphaned_pods(layout: Layout, clock: Clock) -> bool:
    """End pods that outlived their cluster process, and say whether there were any. The caller holds the lock.

    Only a node agent knows how to end them, so a cluster runs for a moment.
    """
    if not has_live_pods(layout.cluster_dir):
        return False
    supervisor = Supervisor(clock, report=lambda _: None, on_change=lambda _: None)
    try:
        await supervisor.start(cluster(layout, api_port=0))
    finally:
        await supervisor.stop()
    return True
