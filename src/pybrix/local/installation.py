"""`pybrix up`: everything on one machine, started in order, watched, and stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import psutil

from pybrix.api.config import GatewayConfiguration
from pybrix.api.core import Node
from pybrix.api.meta import find_condition
from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.base.ports import claim_port
from pybrix.engine.modelfiles import ensure_model
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.paths import EnvoyPaths
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import KubeError
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.layout import Layout
from pybrix.local.rollout import bring, wait_until_served
from pybrix.local.state import ProcessRecord, UpState, locked, read_state, write_atomically, write_state
from pybrix.local.supervisor import Component, Supervisor, end_leftovers
from pybrix.local.workloads import Workload, llamacpp, simulated

_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2)
_LEFTOVER_GRACE_S = 30.0
# Pods end within their grace period (30 s by default) and the node agent needs a moment around it.
_CLUSTER_STOP_S = 45.0


class Reporter:
    """Tells a person how the start goes; the command line prints, tests collect."""

    def __init__(self, write: Callable[[str], None]) -> None:
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
        _end_earlier_processes(layout, report)
        address = options.gateway.address
        config = msgspec.structs.replace(options.gateway, port=claim_port(address, options.gateway.port, "--port"))
        find_envoy(options.envoy_path)
        state = UpState(
            supervisor=ProcessRecord.of(os.getpid()),
            pid=os.getpid(),
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
            stopping.cancel()
        finally:
            report.write("stopping (Ctrl-C again to hurry)")
            await supervisor.stop()
            layout.state_file.unlink(missing_ok=True)
            report.write("stopped")


def _end_earlier_processes(layout: Layout, report: Reporter) -> None:
    """End what a supervisor left behind that did not get to stop its processes itself; the lock says it is gone."""
    earlier = read_state(layout)
    if earlier is None:
        return
    if count := end_leftovers(list(earlier.processes.values()), _LEFTOVER_GRACE_S):
        report.note(f"ended {count} processes that an earlier run left behind")
    layout.state_file.unlink(missing_ok=True)


def _stop_on_signals(stop: asyncio.Event, supervisor: Supervisor) -> None:
    def on_signal() -> None:
        if stop.is_set():
            supervisor.hurry()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)


async def _start(
    options: UpOptions, config: GatewayConfiguration, supervisor: Supervisor, state: UpState, report: Reporter
) -> None:
    layout = options.layout
    workloads = await _workloads(options, report)
    write_atomically(layout.gateway_configuration, msgspec.json.format(msgspec.json.encode(config)))

    await supervisor.start(_cluster(layout, options.api_port))
    async with AsyncExitStack() as stack:
        access = load_kubeconfig(layout.kubeconfig)
        client = HttpClient(access)
        stack.push_async_callback(client.aclose)
        report.done("cluster", access.server)
        await supervisor.start(_brain(layout))
        report.done("brain", f"strategy {config.routing_strategy}")
        await supervisor.start(_envoy(layout, config, options.envoy_path))
        report.done("envoy", state.gateway_url)
        for workload in workloads:
            await bring(client, workload)
        state.models = [w.model for w in workloads]
        for workload in workloads:
            await wait_until_served(client, workload, state.gateway_url, report.note)
            replicas = workload.deployment.spec.replicas
            report.done(workload.model, f"{replicas}/{replicas} ready")


async def _workloads(options: UpOptions, report: Reporter) -> list[Workload]:
    found = []
    if options.simulate:
        found.append(simulated(options.simulate))
    if options.model:
        if options.model.endswith(".gguf"):
            file = Path(options.model).expanduser().resolve()
            if not file.is_file():
                raise UsageError(f"--model: {file} is not a file", "name a GGUF file, or smollm2")
            name = file.stem.lower()
        else:
            name = options.model
            file = await asyncio.to_thread(ensure_model, name, options.model_cache, report.note)
        report.done("model file", f"{name} ({file.stat().st_size / 1e6:.0f} MB)")
        found.append(llamacpp(name, str(file)))
    return found


def _python(*arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "pybrix", *map(str, arguments))


def _cluster(layout: Layout, api_port: int) -> Component:
    async def is_ready() -> bool:
        if not layout.kubeconfig.exists():
            return False
        client = HttpClient(load_kubeconfig(layout.kubeconfig))
        try:
            nodes = await client.list(Node)
        except KubeError:
            return False
        finally:
            await client.aclose()
        return any((c := find_condition(n.status.conditions, "Ready")) and c.is_true for n in nodes.items)

    return Component(
        "cluster",
        _python("cluster", "run", "--data-dir", layout.root, "--api-port", str(api_port)),
        layout.logs_dir / "cluster.log",
        is_ready,
        stop_grace_s=_CLUSTER_STOP_S,
    )


def _brain(layout: Layout) -> Component:
    return Component(
        "brain",
        _python(
            "gateway", "brain",
            "--config", layout.gateway_configuration,
            "--kubeconfig", layout.kubeconfig,
            "--gateway-dir", layout.gateway_dir,
            "--run-dir", layout.run_dir,
        ),
        layout.logs_dir / "brain.log",
        _answers(layout.run_dir / "brain-admin.sock", "/readyz"),
    )  # fmt: skip


def _envoy(layout: Layout, config: GatewayConfiguration, envoy_path: Path | None) -> Component:
    paths = EnvoyPaths(layout.run_dir, layout.gateway_dir)
    is_live = _answers(paths.admin_socket, "/ready")

    async def is_ready() -> bool:
        # The listener opens when the first configuration has been read, which may be after the process is live.
        if not await is_live():
            return False
        try:
            _, writer = await asyncio.open_connection(config.address, config.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    return Component(
        "envoy",
        _python(
            "gateway", "envoy",
            "--config", layout.gateway_configuration,
            "--gateway-dir", layout.gateway_dir,
            "--run-dir", layout.run_dir,
            *(("--envoy-path", envoy_path) if envoy_path else ()),
        ),
        layout.logs_dir / "envoy.log",
        is_ready,
        stop_grace_s=config.drain_timeout_s + 5,
    )  # fmt: skip


def _answers(socket: Path, path: str) -> Callable[[], Awaitable[bool]]:
    """Return a probe that asks a Unix socket over HTTP and wants a 200."""

    async def is_ready() -> bool:
        if not socket.exists():
            return False
        connector = aiohttp.UnixConnector(str(socket))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_PROBE_TIMEOUT) as session,
                session.get(f"http://localhost{path}") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    return is_ready


def stop_running(layout: Layout, wait_s: float) -> str:
    """Stop an installation: ask its supervisor, or end what a supervisor that is gone left behind.

    Returns a sentence that says what was done.

    Raises:
        UsageError: the supervisor did not end in time.
    """
    state = read_state(layout)
    if state is None:
        return f"nothing runs on {layout.root}"
    supervisor = state.supervisor.find()
    if supervisor is None:
        count = end_leftovers(list(state.processes.values()), _LEFTOVER_GRACE_S)
        layout.state_file.unlink(missing_ok=True)
        return f"ended {count} processes that an earlier run left behind"
    supervisor.terminate()
    try:
        supervisor.wait(wait_s)
    except psutil.TimeoutExpired as err:
        raise UsageError(f"process {supervisor.pid} is still stopping after {wait_s:.0f} s", "run it again") from err
    return "stopped"
