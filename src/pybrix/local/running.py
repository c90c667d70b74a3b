"""`pybrix up`: everything on one machine, started in order, watched, and stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pybrix import __version__
from pybrix.api.config import GatewayConfiguration
from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.base.ports import claim_port
from pybrix.engine.modelfiles import ensure_model
from pybrix.envoy.binary import find_envoy
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.components import cluster, controllers
from pybrix.local.definitions import apply_definitions
from pybrix.local.gateways import read_configuration
from pybrix.local.installation import Installation
from pybrix.local.layout import Layout
from pybrix.local.leftovers import nothing_runs
from pybrix.local.reporter import Reporter
from pybrix.local.rollout import bring, wait_for_others, wait_until_served
from pybrix.local.state import DamagedState, ProcessRecord, UpState, locked, read_state, write_state
from pybrix.local.stopping import end_earlier_processes, end_orphaned_pods
from pybrix.local.supervisor import Supervisor
from pybrix.local.workloads import Workload, llamacpp, simulated


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What a person asked for. `model` is a name of the catalogue or a GGUF file; `simulate` a number of engines."""

    layout: Layout
    gateway: GatewayConfiguration
    model_cache: Path
    model: str | None = None
    simulate: int | None = None
    api_port: int = 0
    nodes: str | None = None
    """Virtual nodes, as `cluster.nodes` reads them; None: those of the last run."""
    authorization: str | None = None
    durability: str | None = None
    """As `ClusterOptions` has them; None: those of the last run."""
    envoy_path: Path | None = None
    gateways: int = 1
    is_detached: bool = False


async def run_up(options: UpOptions, clock: Clock, report: Reporter, on_ready: Callable[[UpState], None]) -> None:
    """Start everything, call `on_ready`, keep it running until SIGINT or SIGTERM, stop it in order.

    Raises:
        UsageError: something is missing or taken; whatever was started has been stopped again.
    """
    layout = options.layout
    layout.create()
    stop = asyncio.Event()
    with locked(layout):
        if count := end_earlier_processes(layout, _earlier_state(layout)):
            report.note(f"ended {count} processes that an earlier run left behind")
        address = options.gateway.address
        config = msgspec.structs.replace(options.gateway, port=claim_port(address, options.gateway.port, "--port"))
        find_envoy(options.envoy_path)
        state = UpState(
            supervisor=ProcessRecord.of(os.getpid()),
            release=__version__,
            gateway_url=f"http://{f'[{address}]' if ':' in address else address}:{config.port}",
            kubeconfig=str(layout.kubeconfig),
            run_dir=str(layout.run_dir),
            gateways=options.gateways,
            has_balancer=options.gateways > 1,
        )
        it = Installation(layout, state, clock, report, config, options.envoy_path, is_detached=options.is_detached)
        _stop_on_signals(stop, it.supervisor)
        try:
            if await _unless_stopped(stop, _start(options, it)):
                on_ready(state)
                state.is_ready = True
                write_state(layout, state)
                await it.keep(stop)
        finally:
            await _stop(it, clock)


async def run_resumed(layout: Layout, clock: Clock, report: Reporter, *, is_detached: bool) -> None:
    """Watch over an installation whose supervisor is gone, or was this process before: what runs goes on running.

    Raises:
        UsageError: nothing is recorded, or somebody else watches over it.
    """
    stop = asyncio.Event()
    with locked(layout):
        state = read_state(layout)
        if state is None:
            raise nothing_runs(layout)
        front = layout.balancer if state.has_balancer else layout.gateway(1)
        earlier, earlier_supervisor = dict(state.processes), state.supervisor
        state.supervisor, state.release = ProcessRecord.of(os.getpid()), __version__
        it = Installation(
            layout,
            state,
            clock,
            report,
            read_configuration(layout, front),
            _envoy_path(earlier),
            is_detached=is_detached,
        )
        _stop_on_signals(stop, it.supervisor)
        it.supervisor.expect(earlier)
        # No orders are taken until all is adopted.
        state.is_ready = False
        write_state(layout, state)
        # Where this fails, what runs goes on running and stays on record: the next one finds it.
        is_adopted = await _unless_stopped(stop, _adopt(it, earlier))
        try:
            if is_adopted:
                state.is_ready = True
                write_state(layout, state)
                how, count = _how_it_came(earlier_supervisor), len(it.supervisor.names)
                report.event(f"{how} and watches over {count} processes that run on {layout.root}")
                await it.keep(stop)
        finally:
            await _stop(it, clock)


def _how_it_came(earlier: ProcessRecord) -> str:
    """Begin a sentence about a supervisor that was not the first one."""
    if earlier == ProcessRecord.of(os.getpid()):
        return f"pybrix {__version__} goes on in the same process"
    return f"pybrix {__version__} (process {os.getpid()}) took over from process {earlier.pid}"


async def _adopt(it: Installation, earlier: Mapping[str, ProcessRecord]) -> None:
    await it.supervisor.adopt(cluster(it.layout, 0), earlier.get("cluster"))
    await it.gateways.adopt(it.state.gateways, earlier)
    await it.supervisor.adopt(controllers(it.layout), earlier.get("controllers"))


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, unless `stop` comes first; return whether it was done. What it raises is raised."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    stopping.cancel()
    if working.cancelled():
        return False
    working.result()
    return True


async def _stop(it: Installation, clock: Clock) -> None:
    was_running = it.supervisor.is_running
    if was_running:
        it.report.write("stopping (Ctrl-C again to hurry)")
        it.state.is_ready = False
        try:
            write_state(it.layout, it.state)
        except UsageError as err:
            it.report.event(str(err))
        await it.supervisor.stop()
    # What was not adopted yet when it was to stop, too.
    await asyncio.to_thread(end_earlier_processes, it.layout, it.state)
    if was_running:
        await end_orphaned_pods(it.layout, clock)
        it.report.write("stopped")


def _stop_on_signals(stop: asyncio.Event, supervisor: Supervisor) -> None:
    def on_signal() -> None:
        if stop.is_set():
            supervisor.hurry()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A terminal that closes is a wish to stop, unless the start said otherwise (nohup).
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, on_signal)


def _earlier_state(layout: Layout) -> UpState | None:
    try:
        return read_state(layout)
    except DamagedState:
        return None


def _envoy_path(processes: Mapping[str, ProcessRecord]) -> Path | None:
    """Return the Envoy that the running gateway was told to use, if it was."""
    record = processes.get("envoy")
    process = record.find() if record else None
    arguments = process.cmdline() if process else []
    return Path(arguments[arguments.index("--envoy-path") + 1]) if "--envoy-path" in arguments[:-1] else None


async def _start(options: UpOptions, it: Installation) -> None:
    layout, report, supervisor = it.layout, it.report, it.supervisor
    workloads = await _workloads(options, report)
    chosen = {"--nodes": options.nodes, "--authorization": options.authorization, "--durability": options.durability}
    await supervisor.start(cluster(layout, options.api_port, chosen))
    async with AsyncExitStack() as stack:
        access = load_kubeconfig(layout.kubeconfig)
        client = HttpClient(access)
        stack.push_async_callback(client.aclose)
        report.done("cluster", access.server)
        kinds = await apply_definitions(client)
        await it.gateways.start(options.gateways)
        several = f", {it.gateways.count} gateways" if it.gateways.has_balancer else ""
        report.done("gateway", f"{it.state.gateway_url}, strategy {it.config.routing_strategy}{several}")
        for workload in workloads:
            await bring(client, workload)
        # While the engines start.
        await supervisor.start(controllers(layout))
        report.done("controllers", f"{kinds} kinds")
        for workload in workloads:
            await wait_until_served(client, workload, it.gateways.model_lists, report.note)
            replicas = workload.deployment.spec.replicas
            report.done(workload.model, f"{replicas}/{replicas} ready")
        brought = [w.model for w in workloads]
        others = await wait_for_others(client, {w.deployment.key for w in workloads}, report.done, report.note)
        it.state.models = brought + [model for model in others if model not in brought]


async def _workloads(options: UpOptions, report: Reporter) -> list[Workload]:
    found = []
    if options.simulate:
        found.append(simulated(options.simulate))
    if options.model:
        if options.model.endswith(".gguf") or "/" in options.model:
            file = Path(options.model).expanduser().resolve()
            if not _is_gguf(file):
                raise UsageError(f"--model: {file} is not a GGUF file", "name a GGUF file, or smollm2")
            name = file.stem.lower()
        else:
            name = options.model
            file = await asyncio.to_thread(ensure_model, name, options.model_cache, report.note)
        report.done("model file", f"{name} ({file.stat().st_size / 1e6:.0f} MB)")
        found.append(llamacpp(name, str(file)))
    return found


def _is_gguf(file: Path) -> bool:
    try:
        with file.open("rb") as model:
            return model.read(4) == b"GGUF"
    except OSError:
        return False
