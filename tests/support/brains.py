"""A whole brain on its sockets, and how Envoy and people talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.gateway.app import run_brain
from pybrix.kube.interface import Client
from tests.support.waiting import until


class BrainAddress:
    """Where a brain is: its sockets are in `run_dir`, its files in `data_dir`."""

    def __init__(self, run_dir: Path, data_dir: Path) -> None:
        self.run_dir, self.data_dir = run_dir, data_dir
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        self.decisions_cut = 0
        self._records: asyncio.StreamWriter | None = None

    async def admin(self, path: str, **options: Any) -> tuple[int, Any]:
        """GET a path of the admin socket, or POST it with `data=`."""
        connector = aiohttp.UnixConnector(str(self.run_dir / "brain-admin.sock"))
        async with aiohttp.ClientSession(connector=connector) as session:
            method = "POST" if options else "GET"
            async with session.request(method, f"http://brain{path}", **options) as response:
                text = await response.read()
                is_json = response.content_type == "application/json"
                return response.status, msgspec.json.decode(text) if is_json else text.decode()

    async def is_ready(self) -> bool:
        try:
            return (await self.admin("/readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def held(self) -> int:
        """Return how many requests are in flight."""
        found: int = (await self.admin("/debug/view"))[1]["reservations"]["held"]
        return found

    async def is_idle(self) -> bool:
        return await self.held() == 0

    async def decide(self, model: str = "m") -> tuple[int, dict[str, str], bytes]:
        """Ask for a decision as Envoy does."""
        connector = aiohttp.UnixConnector(str(self.run_dir / "decision.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://brain/v1/chat/completions", json={"model": model}) as response,
        ):
            return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()

    async def log(self, *records: dict[str, Any]) -> None:
        """Send access-log records as Envoy does, which keeps its connection as long as it lives."""
        if self._records is None:
            _, self._records = await asyncio.open_unix_connection(str(self.run_dir / "accesslog.sock"))
        self._records.write(msgpack.packb(["pybrix", [[0, record] for record in records]]))
        await self._records.drain()

    def hang_up(self) -> None:
        """Close what a killed Envoy would."""
        if self._records is not None:
            self._records.close()
        self._records = None

    def endpoints(self) -> str:
        """Return what Envoy's endpoint files say."""
        return "".join(p.read_text() for p in sorted((self.data_dir / "xds").glob("endpoints*.json")))


@asynccontextmanager
async def running_brain(
    address: BrainAddress,
    client: Client,
    config: GatewayConfiguration,
    *,
    wait: bool = True,
    api_patience_s: float = 10.0,
) -> AsyncIterator[BrainAddress]:
    """Run a brain in this process; its error, if it has one, comes out of here.

    Args:
        wait: until it is ready.
    """
    address.stop.clear()
    task = asyncio.ensure_future(
        run_brain(
            config,
            client=client,
            data_dir=address.data_dir,
            run_dir=address.run_dir,
            stop=address.stop,
            hurry=address.hurry,
            api_patience_s=api_patience_s,
            is_gc_tuned=False,
        )
    )
    try:
        ready = asyncio.ensure_future(until(address.is_ready))
        if wait:
            await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        if task.done():
            await task
        yield address
    finally:
        address.stop.set()
        address.hang_up()
        async with asyncio.timeout(60):
            await asyncio.gather(task, return_exceptions=True)
    assert task.exception() is None
    address.decisions_cut = task.result()
