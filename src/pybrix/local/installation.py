"""`pybrix up`: everything on one machine, started in order, watched, and stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.base.ports import claim_port
from pybrix.engine.modelfiles import ensure_model
from pybrix.envoy.binary import find_envoy
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.components import brain, cluster, envoy
from pybrix.local.layout import Layout
from pybrix.local.rollout import bring, wait_for_others, wait_until_served
from pybrix.local.state import (
    DamagedState,
    ProcessRecord,
    UpState,
    locked,
    read_state,
    write_atomically,
    write_state,
)
from pybrix.local.stopping import end_earlier_processes, end_orphaned_pods
from pybrix.local.supervisor import Supervisor
from pybrix.local.workloads import Workload, llamacpp, simulated


class Reporter:
    """Tells a person how the start goes; the command line prints, tests collect."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """`write` shows a line; it must not raise, since parts that run depend on what comes after."""
        self.write = write

    def done(self, what: str, detail: str) -> None:
        self.write(f"  ✓ {what:<14} {detail}")

    def note(self, sentence: str) -> None:
        self.write(f"  · {sentence}")


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What a person asked for. `model` is a name of the catalogue or a GGUF file; `simulate` a number of engines."""

    layout: Layout
    gateway: GatewayConfiguration
    model_cache: Path
    model: str | None = None
    simulate: int | None = None
    api_port: int = 0
    envoy_path: Path | None = None


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
            gateway_url=f"http://{f'[{address}]' if ':' in address else address}:{config.port}",
            kubeconfig=str(layout.kubeconfig),
            run_dir=str(layout.run_dir),
        )

        def record(processes: dict[str, ProcessRecord]) -> None:
            state.processes = processes
            write_state(layout, state)

        supervisor = Supervisor(clock, report.note, record)
        _stop_on_signals(stop, supervisor)
        try:
            starting = asyncio.create_task(_start(options, config, supervisor, state, report))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            if not starting.cancelled():
                starting.result()
                on_ready(state)
                state.is_ready = True
                write_state(layout, state)
                keeping = asyncio.create_task(supervisor.keep_running())
                await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
                if not keeping.cancelled():
                    keeping.result()
            stopping.cancel()
        finally:
            if supervisor.is_running:
                report.write("stopping (Ctrl-C again to hurry)")
                await supervisor.stop()
                await end_orphaned_pods(layout, clock)
                report.write("stopped")
            layout.state_file.unlink(missing_ok=True)


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


async def _start(
    options: UpOptions, config: GatewayConfiguration, supervisor: Supervisor, state: UpState, report: Reporter
) -> None:
    layout = options.layout
    workloads = await _workloads(options, report)
    write_atomically(layout.gateway_configuration, msgspec.json.format(msgspec.json.encode(config)))

    await supervisor.start(cluster(layout, options.api_port))
    async with AsyncExitStack() as stack:
        access = load_kubeconfig(layout.kubeconfig)
        client = HttpClient(access)
        stack.push_async_callback(client.aclose)
        report.done("cluster", access.server)
        await supervisor.start(brain(layout))
        report.done("brain", f"strategy {config.routing_strategy}")
        await supervisor.start(envoy(layout, config, options.envoy_path))
        report.done("envoy", state.gateway_url)
        for workload in workloads:
            await bring(client, workload)
        for workload in workloads:
            await wait_until_served(client, workload, state.gateway_url, report.note)
            replicas = workload.deployment.spec.replicas
            report.done(workload.model, f"{replicas}/{replicas} ready")
        brought = [w.model for w in workloads]
        others = await wait_for_others(client, {w.deployment.key for w in workloads}, report.done, report.note)
        state.models = brought + [model for model in others if model not in brought]


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
