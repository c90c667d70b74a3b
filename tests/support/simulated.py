"""Simulated engines for tests: in this process, or as a process of their own."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from pybrix.base.clock import SystemClock
from pybrix.simulator.app import SimulatorServer
from pybrix.simulator.engine import SimulatedEngine
from pybrix.simulator.options import SimulatorOptions


@dataclass
class Simulated:
    """An engine in this process and a client of it."""

    engine: SimulatedEngine
    server: SimulatorServer
    client: aiohttp.ClientSession
    url: str
    answered: Counter[str]
    """Answers that were begun, by path."""

    async def chat(self, text: str, **fields: Any) -> dict[str, Any]:
        """Ask and return the decoded answer."""
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
        async with self.client.post("/v1/chat/completions", json=body) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == 200, answer
            return answer


@asynccontextmanager
async def simulated(options: SimulatorOptions) -> AsyncIterator[Simulated]:
    """Serve an engine on a free loopback port."""
    clock = SystemClock()
    engine = SimulatedEngine(options, clock)
    server = SimulatorServer(options, engine, clock)
    app = server.build()
    answered: Counter[str] = Counter()

    async def count(request: web.Request, _: web.StreamResponse) -> None:
        answered[request.path] += 1

    app.on_response_prepare.append(count)
    test_server = TestServer(app)
    async with asyncio.TaskGroup() as tasks:
        steps = tasks.create_task(engine.run())
        await test_server.start_server(shutdown_timeout=0.01)
        url = str(test_server.make_url("/"))
        try:
            async with aiohttp.ClientSession(base_url=url) as client:
                yield Simulated(engine, server, client, url.rstrip("/"), answered)
        finally:
            await test_server.close()
            steps.cancel()


@dataclass
class SimulatorProcess:
    """`pybrix simulator` as a process."""

    process: asyncio.subprocess.Process
    url: str

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the process and return its exit code."""
        self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def simulator_process(*arguments: str) -> AsyncIterator[SimulatorProcess]:
    """Start `pybrix simulator --model m` on a free loopback port and wait until it says that it listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pybrix", "simulator", "--model", "m", "--host", "127.0.0.1", "--port", "0"),
        *arguments,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while "http://" not in (line := (await process.stderr.readline()).decode()):
                assert line, "the simulator ended before it listened"
        yield SimulatorProcess(process, line.split()[-1])
    finally:
        if process.returncode is None:
            process.kill()
        # Closes the pipe too, which would otherwise warn when it is collected.
        await process.communicate()
