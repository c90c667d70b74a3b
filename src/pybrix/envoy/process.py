"""Runs Envoy: start, wait until it is live, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import zlib
from pathlib import Path
from typing import Self

import aiohttp
import msgspec
import structlog

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.envoy.admin import EnvoyAdmin
from pybrix.envoy.bootstrap import render_bootstrap
from pybrix.envoy.files import write_atomically
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.xds import render_empty_xds

log = structlog.get_logger()

LONGEST_SOCKET_PATH = 107
_START_TIMEOUT_S = 20.0
_POLL_S = 0.02
# Envoy multiplies the id by ten and keeps it in 31 bits.
_BASE_IDS = 200_000_000
# Old and new Envoy of a hot restart live side by side for the drain time and this much longer.
_PARENT_GRACE_S = 5


def base_id(run_dir: Path) -> int:
    """Return the id under which an Envoy shares memory with its successor: always the same for a run directory."""
    return zlib.crc32(str(run_dir.absolute()).encode()) % _BASE_IDS


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
        *("--parent-shutdown-time-s", str(drain_s + _PARENT_GRACE_S)),
        *("--log-path", str(log_file)),
        *("--log-level", "warning"),
    ]


def forget_shared_memory(run_dir: Path) -> None:
    """Remove what Envoy leaves behind in /dev/shm, unless another Envoy of this run directory is alive."""
    number = base_id(run_dir) * 10
    try:
        if f"@envoy_domain_socket_parent_{number}" in Path("/proc/net/unix").read_text(errors="replace"):
            return
        Path(f"/dev/shm/envoy_shared_memory_{number}").unlink(missing_ok=True)
    except OSError as err:
        log.warning("envoy's shared memory was not removed", error=str(err))


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
    """Make the directories and files that Envoy needs to start; what the brain has written already stays.

    Raises:
        UsageError: the run directory's path is too long for a Unix socket.
        OSError: the disk is full or not writable.
    """
    longest = max((paths.decision_socket, paths.access_log_socket, paths.admin_socket), key=lambda path: len(str(path)))
    if len(os.fsencode(longest)) > LONGEST_SOCKET_PATH:
        raise UsageError(
            f"{longest} is too long for a Unix socket ({LONGEST_SOCKET_PATH} bytes)", "choose a shorter run directory"
        )
    paths.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.xds_dir.mkdir(parents=True, exist_ok=True)
    for name, content in render_empty_xds(paths).items():
        if not (paths.xds_dir / name).exists():
            write_atomically(paths.xds_dir / name, content)
    write_atomically(paths.bootstrap, msgspec.json.encode(render_bootstrap(config, paths)))


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
    ) -> Self:
        """Start Envoy and return when it is live; its port opens once the brain has written a listener.

        Args:
            config: address, port, workers and times.
            paths: where files and sockets are.
            binary: what `find_envoy` returns.
            restart_epoch: 0, or n+1 to take over from a running Envoy of epoch n, which then drains and exits.
            log_file: Envoy's own log; `gateway_dir/envoy.log` when None.

        Raises:
            UsageError: the port is taken, or Envoy gives up or is not live in time; nothing is left running.
        """
        if restart_epoch == 0:
            check_port_free(config.address, config.port)
        prepare(config, paths)
        log_file = log_file or paths.gateway_dir / "envoy.log"
        with log_file.open("ab") as early_words:
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
            raise UsageError(f"Envoy exited with {process.returncode}: {_last_error(log_file)}", f"see {log_file}")
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

    async def stop(self, drain_s: float = 0.0) -> None:
        """Ask clients to leave, wait until no request is under way or `drain_s` is over, then end Envoy."""
        if self._process.returncode is not None:
            forget_admin_socket(self._paths.admin_socket)
            return
        if drain_s > 0:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(drain_s), EnvoyAdmin(self._paths.admin_socket) as admin:
                    await admin.drain_listeners()
                    await self._wait_idle(admin)
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            log.warning("envoy does not end; killing it", pid=self._process.pid)
            await self._kill()
        forget_admin_socket(self._paths.admin_socket)
        forget_shared_memory(self._paths.run_dir)

    async def _wait_idle(self, admin: EnvoyAdmin) -> None:
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


def _last_error(log_file: Path) -> str:
    """Return the last line of Envoy's log that tells why it gave up."""
    try:
        lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "it wrote no log"
    telling = [line for line in lines if "[critical]" in line or "[error]" in line] or lines
    return telling[-1].rpartition("] ")[2] if telling else "its log is empty"


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
