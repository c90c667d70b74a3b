"""A sidecar beside a simulated engine, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer

from pybrix.sidecar.app import Sidecar, open_sidecar
from pybrix.sidecar.artifacts.retries import RetryRules
from pybrix.sidecar.engine import EngineRules
from pybrix.sidecar.options import Endpoints, SidecarOptions

QUICK = RetryRules(attempts=3, first_delay_s=0.0, longest_delay_s=0.0)


async def no_sleep(_: float) -> None:
    """Wait for nothing."""


@dataclass
class Answered:
    """An answer, read."""

    status: int
    body: dict[str, Any]


@dataclass
class RunningSidecar:
    """A sidecar and a client of it."""

    sidecar: Sidecar
    client: aiohttp.ClientSession
    root: Path

    async def post(self, path: str, body: object, **headers: str) -> Answered:
        """Send a JSON body and return the decoded answer."""
        async with self.client.post(path, json=body, headers=headers) as response:
            return Answered(response.status, await response.json())

    async def load(self, name: str, url: str, **fields: Any) -> Answered:
        """Ask for an adapter by its artifact's URL."""
        return await self.post("/v1/lora_adapter/load", {"lora_name": name, "artifact_url": url, **fields})

    async def unload(self, name: str, **fields: Any) -> Answered:
        """Ask to unload an adapter."""
        return await self.post("/v1/lora_adapter/unload", {"lora_name": name, **fields})

    async def adapters(self) -> dict[str, str]:
        """Return what the engine lists: name and path of each adapter."""
        async with self.client.get("/v1/models") as response:
            assert response.status == 200
            models = (await response.json())["data"]
        return {model["id"]: model["root"] for model in models if model.get("parent")}

    def artifacts(self) -> set[str]:
        """Return the keys of the complete artifacts on the disk."""
        return {path.name for path in (self.root / "artifacts").iterdir()}


@asynccontextmanager
async def running_sidecar(
    root: Path, engine_url: str, *, hub: str = "", **settings: Any
) -> AsyncIterator[RunningSidecar]:
    """Serve a sidecar on a free loopback port; it asks again at once, and three times at most."""
    endpoints = settings.pop("endpoints", Endpoints(hub=hub or "http://127.0.0.1:1"))
    options = SidecarOptions(
        engine_url=engine_url,
        artifact_dir=root,
        model_dir=root.parent / "models",
        secrets_dir=root.parent / "secrets",
        endpoints=endpoints,
        **settings,
    )
    rules = EngineRules(first_delay_s=0.0)
    async with open_sidecar(options, sleep=no_sleep, retry_rules=QUICK, engine_rules=rules) as sidecar:
        server = TestServer(sidecar.app)
        await server.start_server(shutdown_timeout=0.01)
        try:
            async with aiohttp.ClientSession(base_url=str(server.make_url("/"))) as client:
                yield RunningSidecar(sidecar, client, root)
        finally:
            await server.close()
