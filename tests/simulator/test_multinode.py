"""An engine over several machines: it waits for the nodes of its Ray cluster, and fails when one is lost."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from pybrix.simulator.multinode import NodesLost, RayNodes


def printing(*lines: str, ends: bool = False) -> tuple[str, ...]:
    """Return a command that names these nodes, a line each 50 ms, and then ends or says the last for ever."""
    body = f"""
import sys, time, itertools
lines = {list(lines)!r}
for line in lines if {ends!r} else itertools.chain(lines, itertools.repeat(lines[-1])):
    print(line, flush=True)
    time.sleep(0.05)
"""
    return (sys.executable, "-c", body)


@asynccontextmanager
async def watching(*command: str, wanted: int = 2) -> AsyncIterator[RayNodes]:
    nodes = RayNodes("127.64.0.5:6379", wanted, command)
    try:
        yield nodes
    finally:
        await nodes.stop()


async def test_it_waits_until_all_nodes_are_there() -> None:
    async with watching(*printing("", "a", "a", "a b")) as nodes:
        async with asyncio.timeout(60):
            await nodes.wait_complete()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        pytest.param(printing("a b", "a b", "a"), "1 of 2 nodes left", id="a node is lost"),
        pytest.param(printing("a b", "a b", "a c"), "1 of 2 nodes left", id="it is back before anybody looked"),
        pytest.param(printing("a b", "a c b", "a c"), "1 of 2 nodes left", id="it is back before its loss is noticed"),
        pytest.param(printing("a b", "c d"), "2 of 2 nodes left", id="the cluster is another one"),
        pytest.param(printing("a b", "a b", ends=True), "does not answer", id="nobody says"),
    ],
)
async def test_a_lost_node_and_a_silent_cluster_are_failures(command: tuple[str, ...], says: str) -> None:
    async with watching(*command) as nodes:
        async with asyncio.timeout(60):
            await nodes.wait_complete()
            with pytest.raises(NodesLost, match=says):
                await nodes.watch()


async def test_nodes_that_it_is_not_spread_over_may_go() -> None:
    async with watching(*printing("a b c", "a b", "d")) as nodes:
        async with asyncio.timeout(30):
            await nodes.wait_complete()
            with pytest.raises(NodesLost, match="2 of 2 nodes left"):
                await nodes.watch()


async def test_a_cluster_that_is_not_there_yet_is_waited_for() -> None:
    async with watching(sys.executable, "-c", "raise SystemExit(1)") as nodes:
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await nodes.wait_complete()
                pytest.fail("there is no such cluster")


async def test_an_engine_without_its_nodes_does_not_listen_and_ends_when_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pybrix", "simulator", "--model", "m", "--host", "127.0.0.1", "--port", str(port)),
        *("--ray-address", "127.0.0.1:1", "--ray-nodes", "2"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert engine.stderr is not None
    async with asyncio.timeout(60):
        assert b"waiting for 2 nodes" in await engine.stderr.readline()
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"http://127.0.0.1:{port}/health")
        engine.terminate()
        await engine.communicate()
    assert engine.returncode == 0
