"""The embedded API server, in process, as a server that can be stopped, started again and wiped."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.server import ApiServer
from pybrix.cluster.kubeconfig import write_kubeconfig
from pybrix.cluster.pki import Pki
from pybrix.cluster.store.store import Store
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig


class EmbeddedServer:
    """A server on a port that stays the same from start to start."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pki = Pki.load_or_create(directory / "pki", SystemClock())
        self._port = 0
        self._store: Store | None = None
        self._server: ApiServer | None = None

    @property
    def kubeconfig(self) -> Path:
        return self._directory / "kubeconfig"

    async def start(self) -> None:
        (self._directory / "data").mkdir(exist_ok=True)
        self._store = Store.open(self._directory / "data" / "cluster.db", clock=SystemClock())
        self._server = ApiServer(self._store, port=self._port, pki=self._pki, clock=SystemClock())
        await self._server.start()
        self._port = int(self._server.url.rpartition(":")[2])
        write_kubeconfig(self.kubeconfig, url=self._server.url, pki=self._pki)

    async def stop(self) -> None:
        if self._server is not None and self._store is not None:
            await self._server.stop()
            self._store.close()
            self._server = self._store = None

    def wipe(self) -> None:
        """Lose all data, while stopped."""
        shutil.rmtree(self._directory / "data")

    def client(self, **options: float) -> HttpClient:
        return HttpClient(load_kubeconfig(self.kubeconfig), **options)  # type: ignore[arg-type]


@asynccontextmanager
async def embedded(directory: Path) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(directory)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
