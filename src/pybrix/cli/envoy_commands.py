"""Run Envoy in the foreground. Imports no brain: connections are refused until a killed Envoy is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.cli.service import Stop, run_service
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.hotrestart import PARENT_GRACE_S, next_epoch
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess, Prepare, prepare, prepare_balancer


def serve_envoy(config: GatewayConfiguration, gateway_dir: Path, run_dir: Path, envoy_path: Path | None) -> None:
    """Run a gateway's Envoy until a signal, then drain it."""
    run_service(lambda stop: _envoy(config, EnvoyPaths(run_dir, gateway_dir), envoy_path, prepare, stop))


def serve_balancer(config: GatewayConfiguration, balancer_dir: Path, run_dir: Path, envoy_path: Path | None) -> None:
    """Run the balancer until a signal, then drain it."""
    run_service(lambda stop: _envoy(config, EnvoyPaths(run_dir, balancer_dir), envoy_path, prepare_balancer, stop))


async def _envoy(
    config: GatewayConfiguration, paths: EnvoyPaths, envoy_path: Path | None, prepare_files: Prepare, stop: Stop
) -> None:
    binary = find_envoy(envoy_path)
    epoch = await next_epoch(paths, config.drain_timeout_s + 2 * PARENT_GRACE_S)
    process = await EnvoyProcess.start(config, paths, binary=binary, restart_epoch=epoch, prepare_files=prepare_files)
    cut = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            ended = tasks.create_task(process.wait())
            stopped = tasks.create_task(stop.wait())
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                cut = await process.stop(config.drain_timeout_s, listener_s=config.listener_drain_s, hurry=stop.hurry)
            stopped.cancel()
    finally:
        await process.stop()
    if cut:
        why = "there was a second signal" if stop.hurry.is_set() else f"{config.drain_timeout_s:g} s were over"
        raise UsageError(f"requests that were cut: {cut}", f"{why}; a longer drainTimeoutS waits longer for them")
    if not stop.is_set() and not await process.is_superseded():
        raise UsageError(f"Envoy ended by itself with status {process.returncode}", f"see {paths.gateway_dir}")
