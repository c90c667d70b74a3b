"""Runs Envoy: start, wait until it is live, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import aiohttp
import msgspec
import structlog

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.envoy.admin import EnvoyAdmin
from pybrix.envoy.balancer import gateways_file, render_balancer, render_gateways
from pybrix.envoy.bootstrap import render_bootstrap
from pybrix.envoy.files import write_atomically
from pybrix.envoy.hotrestart import PARENT_GRACE_S, base_id, find_epoch, forget_shared_memory
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.xds import render_empty_xds

log = structlog.get_logger()

LONGEST_SOCKET_PATH = 107
_START_TIMEOUT_S = 20.0
_POLL_S = 0.02
_SUCCESSOR_POLL_S = 0.5
# What Envoy says where a successor before it has left its mark in the shared memory.
_STILL_INITIALIZING = "previous envoy process is still initializing"

Prepare = Callable[[GatewayConfiguration, EnvoyPaths], None]
"""Writes what an Envoy needs to start."""


def envoy_arguments(config: GatewayConfiguration, paths: EnvoyPaths, restart_epoch: int, log_file: Path) -> list[str]:
    """Return Envoy's arguments; `restart_epoch` is 0, or one more than that of the Envoy to take over from."""
    drain_s = max(1, math.ceil(config.drain_timeout_s))
    return [
        *("--config-path", str(paths.bootstrap)),
        *("--base-id", str(base_id(paths.run_dir))),
        *("--restart-epoch", str(restart_epoch)),
        *("--concurrency", str(config.envoy_workers)),
        *("--drain-time-s", str(drain_s)),
        *("--drain-strategy", "immediate"),
        *("--parent-shutdown-time-s", str(drain_s + PARENT_GRACE_S)),
        *("--log-path", str(log_file)),
        *("--log-level", "warning"),
    ]


def forget_admin_socket(path: Path) -> None:
    """Remove the socket that an Envoy has left behind, unless its successor listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except OSError as err:
            log.warning("envoy's admin socket was not removed", error=str(err))


def check_port_free(address: str, port: int) -> None:
    """Say so when somebody listens there already; Envoy itself would share the port with another Envoy in silence.

    Raises:
        UsageError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as err:
            raise UsageError(f"cannot listen on {address}:{port}: {err.strerror}", "choose another --port") from err


def prepare(config: GatewayConfiguration, paths: EnvoyPaths) -> None:
    """Make the directories and files that a gateway's Envoy needs; what the brain has written already stays.

    Raises:
        UsageError: the run directory's path is too long for a Unix socket.
        OSError: the disk is full or not writable.
    """
    _make_directories(paths)
    for name, content in render_empty_xds(paths).items():
        if not (paths.xds_dir / name).exists():
            write_atomically(paths.xds_dir / name, content)
    write_atomically(paths.bootstrap, msgspec.json.encode(render_bootstrap(config, paths)))


def prepare_balancer(config: GatewayConfiguration, paths: EnvoyPaths) -> None:
    """Make the directories and files that a balancer's Envoy needs; gateways that are listed already stay.

    Raises:
        UsageError: the run directory's path is too long for a Unix socket.
        OSError: the disk is full or not writable.
    """
    _make_directories(paths)
    if not gateways_file(paths).exists():
        write_atomically(gateways_file(paths), render_gateways(()))
    write_atomically(paths.bootstrap, msgspec.json.encode(render_balancer(config, paths)))


def _make_directories(paths: EnvoyPaths) -> None:
    longest = max((paths.decision_socket, paths.access_log_socket, paths.admin_socket), key=lambda path: len(str(path)))
    if len(os.fsencode(longest)) > LONGEST_SOCKET_PATH:
        raise UsageError(
            f"{longest} is too long for a Unix socket ({LONGEST_SOCKET_PATH} bytes)", "choose a shorter run directory"
        )
    paths.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.xds_dir.mkdir(parents=True, exist_ok=True)


class EnvoyProcess:
    """A running Envoy. `start` makes one; its owner awaits `wait` or `stop`."""

    def __init__(self, process: asyncio.subprocess.Process, paths: EnvoyPaths, restart_epoch: int) -> None:
        self._process = process
        self._paths = paths
        self.restart_epoch = restart_epoch

    @classmethod
    async def start(
        cls,
        config: GatewayConfiguration,
        paths: EnvoyPaths,
        *,
        binary: Path,
        restart_epoch: int = 0,
        log_file: Path | None = None,
        prepare_files: Prepare = prepare,
    ) -> Self:
        """Start Envoy and return when it is live; its port opens once the brain has written a listener.

        Args:
            config: address, port, workers and times.
            paths: where files and sockets are.
            binary: what `find_envoy` returns.
            restart_epoch: 0, or n+1 to take over from a running Envoy of epoch n, which then drains and exits.
            log_file: Envoy's own log; `gateway_dir/envoy.log` when None.
            prepare_files: writes bootstrap and directories; those of a gateway.

        Raises:
            UsageError: the port is taken, or Envoy gives up or is not live in time; nothing is left running.
        """
        if restart_epoch == 0:
            check_port_free(config.address, config.port)
        prepare_files(config, paths)
        log_file = log_file or paths.gateway_dir / "envoy.log"
        with log_file.open("ab") as early_words:
            log_start = early_words.tell()
            process = await asyncio.create_subprocess_exec(
                binary,
                *envoy_arguments(config, paths, restart_epoch, log_file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                # What Envoy says before it has opened its log.
                stderr=early_words,
                # A Ctrl-C in the terminal is for the owner, who stops things in order.
                start_new_session=True,
            )
        envoy = cls(process, paths, restart_epoch)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await envoy._wait_live()
        except BaseException as err:
            await envoy._kill()
            if isinstance(err, TimeoutError):
                raise UsageError(f"Envoy is not live after {_START_TIMEOUT_S:.0f} s", f"see {log_file}") from err
            raise
        if process.returncode is not None:
            raise _did_not_start(process.returncode, log_file, log_start)
        log.info("envoy is live", pid=process.pid, restart_epoch=restart_epoch)
        return envoy

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until Envoy has exited; return its exit status."""
        return await self._process.wait()

    async def is_superseded(self) -> bool:
        """Whether a successor has taken over: this Envoy drains, or has ended, because of that."""
        serving = await find_epoch(self._paths)
        return serving is not None and serving != self.restart_epoch

    async def stop(self, drain_s: float = 0.0, *, listener_s: float = 0.0, hurry: asyncio.Event | None = None) -> int:
        """Drain, then end Envoy. With `drain_s` 0, end it at once.

        Health checks say no and clients are asked to leave from the first moment on; after `listener_s` no connection
        is accepted any more; what is under way then has `drain_s` to end. One that has a successor drains already, and
        is ended by it.

        Args:
            hurry: when set, the waiting is over; a successor is not hurried.

        Returns:
            How many requests were cut, as far as that is known: of those that a successor ends it is not.
        """
        cut = 0
        if self._process.returncode is None and drain_s > 0:
            if await self.is_superseded():
                await self._wait_for_successor(drain_s + PARENT_GRACE_S)
            else:
                cut = await self._drain(drain_s, listener_s, hurry or asyncio.Event())
        if self._process.returncode is None:
            await self._terminate()
        forget_admin_socket(self._paths.admin_socket)
        forget_shared_memory(self._paths.run_dir)
        return cut

    async def _terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            log.warning("envoy does not end; killing it", pid=self._process.pid)
            await self._kill()

    async def _wait_for_successor(self, patience_s: float) -> None:
        """Return when the successor has ended this Envoy, or is gone itself, or has let the time pass."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._process.returncode is None and await self.is_superseded():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._process.wait(), _SUCCESSOR_POLL_S)

    async def _drain(self, drain_s: float, listener_s: float, hurry: asyncio.Event) -> int:
        draining = asyncio.ensure_future(self._drain_in_order(listener_s))
        hurried = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({draining, hurried}, timeout=listener_s + drain_s, return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, hurried):
            task.cancel()
        for outcome in await asyncio.gather(draining, hurried, return_exceptions=True):
            if isinstance(outcome, Exception):
                log.warning("envoy was not drained", error=repr(outcome))
        if self._process.returncode is None:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with EnvoyAdmin(self._paths.admin_socket) as admin:
                    return await admin.active_requests()
        return 0

    async def _drain_in_order(self, listener_s: float) -> None:
        async with EnvoyAdmin(self._paths.admin_socket) as admin:
            await admin.fail_health_checks()
            await asyncio.sleep(listener_s)
            await admin.close_listeners()
            while self._process.returncode is None:
                if not await admin.active_requests():
                    return
                await asyncio.sleep(_POLL_S)

    async def _wait_live(self) -> None:
        """Return when this Envoy (not the one it takes over from) is live, or has exited."""
        async with EnvoyAdmin(self._paths.admin_socket) as admin:
            while self._process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    if await admin.is_live() and await admin.restart_epoch() == self.restart_epoch:
                        return
                await asyncio.sleep(_POLL_S)

    async def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def _did_not_start(returncode: int, log_file: Path, log_start: int) -> UsageError:
    with log_file.open("rb") as file:
        file.seek(log_start)
        said = file.read().decode(errors="replace").splitlines()
    if any(_STILL_INITIALIZING in line for line in said):
        return UsageError(
            "the Envoy that serves takes no successor: an earlier one is starting, or ended while it started",
            "wait where one is starting; else it serves on, and only a restart, which refuses connections for a second "
            "or two, lets it have a successor again: end the process that has started it",
        )
    return UsageError(f"Envoy exited with {returncode}: {_last_error(said)}", f"see {log_file}")


def _last_error(lines: Sequence[str]) -> str:
    """Return the last line of what Envoy wrote that tells why it gave up."""
    telling = [line for line in lines if "[critical]" in line or "[error]" in line] or lines
    return telling[-1].rpartition("] ")[2] if telling else "it wrote nothing"


async def validate(binary: Path, bootstrap: Path) -> str:
    """Let Envoy check a bootstrap without starting; return what it says, empty when the configuration is valid."""
    process = await asyncio.create_subprocess_exec(
        binary,
        *("--mode", "validate", "--config-path", str(bootstrap), "--log-level", "error"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return "" if process.returncode == 0 else output.decode(errors="replace").strip()
