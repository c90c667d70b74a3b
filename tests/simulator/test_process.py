"""`pybrix simulator` as a process: signals, start, death."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import aiohttp
import pytest

from pybrix.engine.sse import DONE
from tests.support.simulated import SimulatorProcess, simulator_process


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True, **fields}


async def test_sigterm_drops_a_stream_at_once() -> None:
    async with simulator_process("--decode-step-ms", "3600000") as simulator, aiohttp.ClientSession() as client:
        response = await client.post(simulator.url + "/v1/chat/completions", json=body())
        simulator.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            with pytest.raises(aiohttp.ClientError):
                await response.read()
            assert await simulator.process.wait() == 0


async def test_sigterm_lets_a_stream_end_when_told_to_drain() -> None:
    arguments = ("--decode-step-ms", "20", "--drain-on-sigterm", "30")
    async with simulator_process(*arguments) as simulator, aiohttp.ClientSession() as client:
        request = body(max_tokens=20, ignore_eos=True)
        async with client.post(simulator.url + "/v1/chat/completions", json=request) as response:
            await response.content.readany()
            simulator.process.send_signal(signal.SIGTERM)
            assert DONE in await response.read()
        async with asyncio.timeout(60):
            assert await simulator.process.wait() == 0


async def test_a_drain_ends_with_its_deadline() -> None:
    arguments = ("--decode-step-ms", "3600000", "--drain-on-sigterm", "0.2")
    async with simulator_process(*arguments) as simulator, aiohttp.ClientSession() as client:
        response = await client.post(simulator.url + "/v1/chat/completions", json=body())
        async with asyncio.timeout(60):
            assert await simulator.stop() == 0
            with pytest.raises(aiohttp.ClientError):
                await response.read()


async def test_it_dies_before_the_headers_when_told_so() -> None:
    async with simulator_process("--failure", "die-before-headers") as simulator, aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post(simulator.url + "/v1/chat/completions", json=body())
        assert await simulator.process.wait() == 1


async def test_the_port_is_closed_while_the_model_loads_and_a_signal_ends_that() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pybrix", "simulator", "m", "--host", "127.0.0.1", "--port", "0"),
        *("--startup-s", "3600", "--max_model_len", "1024", "--dtype", "auto"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    # It says what it ignores before it starts to load.
    assert b"ignored: --dtype auto" in await process.stderr.readline()
    simulator = SimulatorProcess(process, "")
    assert await simulator.stop() in (0, -signal.SIGTERM)
    assert (await process.communicate())[1] == b""


async def test_a_taken_port_is_one_line() -> None:
    async with simulator_process() as simulator:
        port = simulator.url.rpartition(":")[2]
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pybrix", "simulator", "m", "--host", "127.0.0.1", "--port", port),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await second.communicate()
        assert second.returncode == 1
        assert said.decode().count("\n") == 1
        assert f"cannot listen on 127.0.0.1:{port}" in said.decode()


async def test_headers_that_the_gateway_lets_through_are_taken() -> None:
    async with simulator_process() as simulator, aiohttp.ClientSession() as client:
        headers = {"x-long": "y" * 50_000}
        url = f"{simulator.url}/v1/models?long={'z' * 9_000}"
        async with client.get(url, headers=headers) as response:
            assert response.status == 200
