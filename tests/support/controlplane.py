"""A control plane as a process of its own: API server and workload controllers, with roles enforced and without nodes.

    python -m tests.support.controlplane DIRECTORY PORT

It answers when `DIRECTORY/kubeconfig` exists. Without nodes no pod ever runs, as on a cluster where all are gated.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import uvloop

from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.server import ApiServer
from pybrix.cluster.kubeconfig import write_kubeconfig
from pybrix.cluster.pki import Pki
from pybrix.cluster.store.store import Store
from pybrix.cluster.workloads.registry import run_workloads
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.runtime.manager import Manager

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0


class ControlPlane:
    """The process; killed and started again it has the same objects and the same address."""

    def __init__(self, directory: Path) -> None:
        self.kubeconfig = directory / "kubeconfig"
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when it answers."""
        self.kubeconfig.unlink(missing_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.controlplane", str(self._directory), str(self._port)],
                cwd=_ROOT,
                stdout=log,
                stderr=log,
            )
        deadline_s = time.monotonic() + _START_S
        while not self.kubeconfig.exists():
            said = (self._directory / "log").read_text()[-2000:]
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline_s, said
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def serve(directory: Path, port: int) -> None:
    clock, chance = SystemClock(), random.Random()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = Store.open(directory / "cluster.db", clock=clock)
    pki = Pki.load_or_create(directory / "pki", clock)
    server = ApiServer(store, port=port, pki=pki, clock=clock, chance=chance, enforces_roles=True)
    await server.start()
    # Its appearance says that the server answers, so it appears whole.
    written = directory / "kubeconfig.new"
    write_kubeconfig(written, url=server.url, pki=pki)
    async with HttpClient(load_kubeconfig(written)) as client:
        manager = Manager(client, component="controlplane", clock=clock, chance=chance)
        async with asyncio.TaskGroup() as group:
            group.create_task(run_workloads(manager, store, server.objects, clock=clock, chance=chance))
            written.rename(directory / "kubeconfig")
            await stop.wait()
            manager.stop()
    await server.stop()
    store.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
