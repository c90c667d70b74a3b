"""Routers of other projects from PyPI, each in a virtual environment of its own below a cache directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from support.gateways import Engines, Gateway, free_port, process

CACHE_DIR = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pybrix-bench"
INSTALL_TIMEOUT_S = 300.0


class NotInstalled(Exception):
    """The router is not to be had here. The text says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A router: its package and how it is started."""

    package: str
    version: str
    command: tuple[str, ...]
    log_level: str
    """What it calls warnings: a line of log for each request is not what is compared."""

    @property
    def home(self) -> Path:
        """Return where its virtual environment is: one for each version and each Python."""
        return CACHE_DIR / f"{self.package}-{self.version}-py{sys.version_info.major}.{sys.version_info.minor}"


VLLM_ROUTER = Peer("vllm-router", "0.1.17", ("vllm-router",), "warning")
SGLANG_ROUTER = Peer("sglang-router", "0.3.2", ("sglang-router", "launch"), "warn")
PEERS = (VLLM_ROUTER, SGLANG_ROUTER)


def install(peer: Peer) -> None:
    """Install a router from wheels, once.

    Raises:
        NotInstalled: there is no wheel for this machine, or no registry.
    """
    stamp = peer.home / ".installed"
    if stamp.exists():
        return
    shutil.rmtree(peer.home, ignore_errors=True)
    wanted = f"{peer.package}=={peer.version}"
    pip = (sys.executable, "-m", "pip", "--python", str(peer.home / "bin" / "python"), "--disable-pip-version-check")
    steps = (
        (sys.executable, "-m", "venv", "--without-pip", str(peer.home)),
        (*pip, "install", "--quiet", "--retries", "1", "--only-binary", ":all:", wanted),
    )
    for step in steps:
        try:
            subprocess.run(step, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
        except subprocess.CalledProcessError as err:
            said = (err.stderr or err.stdout).strip().splitlines() or [f"status {err.returncode}"]
            raise NotInstalled(f"{wanted}: {said[-1]}") from err
        except subprocess.TimeoutExpired as err:
            raise NotInstalled(f"{wanted}: not installed within {INSTALL_TIMEOUT_S:.0f} s") from err
    stamp.touch()


def _environment() -> Mapping[str, str]:
    # sglang-router asks for the model's tokenizer when it meets an engine; nothing here is to leave the machine.
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9", "RUST_LOG": "warn"}


async def start_peer(
    stack: AsyncExitStack, base: Path, engines: Engines, peer: Peer, policy: str, name: str
) -> Gateway:
    """Start a router with one of its policies, and its own defaults in everything else but logs."""
    base.mkdir()
    port = free_port()
    arguments: list[str | Path] = [
        peer.home / "bin" / peer.command[0],
        *peer.command[1:],
        *("--host", "127.0.0.1", "--port", str(port), "--policy", policy, "--log-level", peer.log_level),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
        *("--worker-startup-check-interval", "1"),
        *("--worker-urls", *[f"http://{address}:{engines.port}" for address in engines.addresses]),
    ]
    log = base / "router.log"
    child = await stack.enter_async_context(process(*arguments, log=log, env=_environment()))
    try:
        await asyncio.wait_for(child.wait(), 0.5)
    except TimeoutError:
        return Gateway(name, port, {"router": child.pid}, log)
    raise RuntimeError(f"{name} ended: {log.read_text(errors='replace')[-2000:]}")
