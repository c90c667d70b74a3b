"""A process of controllers: health, metrics, namespaces, and two of them that take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from pybrix.api.config import ControllersConfiguration, LeaderElectionConfiguration
from pybrix.api.core import Event, Lease
from pybrix.api.identity import ObjectKey
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.api.scheme import decode
from pybrix.base.errors import UsageError
from pybrix.controllers.app import run_controllers
from pybrix.controllers.registration import Registration
from pybrix.controllers.unimplemented.controller import registration
from pybrix.kube.interface import Client
from tests.support.clocks import LoopClock
from tests.support.manifests import changed, example
from tests.support.memoryapi import MemoryApi
from tests.support.waiting import until_now

REGISTRY = registration((KVCache,))
LEASE = ObjectKey("default", "controllers")


def make(name: str, namespace: str = "default") -> KVCache:
    obj = decode(changed(example("KVCache"), {"metadata.name": name, "metadata.namespace": namespace}))
    assert isinstance(obj, KVCache)
    return obj


def reasons(api: MemoryApi) -> dict[str, list[str]]:
    """Return the reasons of the conditions, by object."""
    return {str(cache.key): [c.reason for c in cache.status.conditions] for cache in api.all(KVCache)}


def configuration(socket: Path, *, elects: bool = False, namespaces: Sequence[str] = ()) -> ControllersConfiguration:
    return ControllersConfiguration(
        health_socket=str(socket),
        namespaces=list(namespaces),
        leader_election=LeaderElectionConfiguration(is_enabled=elects, namespace="default", name="controllers"),
    )


@asynccontextmanager
async def running(
    client: Client, config: ControllersConfiguration, registry: Sequence[Registration] = REGISTRY
) -> AsyncIterator[asyncio.Event]:
    """Run a process until the block ends; the event stops it earlier."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_controllers(config, client=client, stop=stop, registry=registry, clock=LoopClock(), is_gc_tuned=False)
        )
        try:
            yield stop
        finally:
            stop.set()


async def ask(socket: Path, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
        session.get(f"http://localhost{path}") as response,
    ):
        return response.status, await response.text()


async def test_health_readiness_and_metrics(tmp_path: Path) -> None:
    api, socket = MemoryApi(), tmp_path / "s"
    api.missing.add("KVCache")
    socket.touch()  # A killed process leaves its socket there.
    async with running(api, configuration(socket)):
        await until_now(socket.is_socket)
        assert (await ask(socket, "/healthz"))[0] == 200
        await until_now(lambda: "list" in api.calls)
        status, document = await ask(socket, "/readyz")
        assert status == 200, "a kind that the server does not know makes nobody unready"
        assert '"unimplemented-kvcaches": "parked"' in document
        api.missing.clear()
        api.put(make("a"))
        await until_now(lambda: reasons(api) == {"default/a": ["NotImplemented"]})
        metrics = (await ask(socket, "/metrics"))[1]
        assert 'pybrix_reconcile_total{cause="KVCache",controller="unimplemented-kvcaches",result="success"}' in metrics
        assert 'pybrix_workqueue_length{controller="unimplemented-kvcaches"}' in metrics
    assert not socket.exists()


async def test_not_ready_while_the_caches_are_not_complete(tmp_path: Path) -> None:
    api, socket = MemoryApi(), tmp_path / "s"
    api.is_down = True
    async with running(api, configuration(socket)):
        await until_now(socket.is_socket)
        status, document = await ask(socket, "/readyz")
        assert (status, '"ready": false' in document) == (503, True)


async def test_only_the_given_namespaces_are_worked_on(tmp_path: Path) -> None:
    api = MemoryApi()
    for namespace in ("a", "b", "c"):
        api.put(make("cache", namespace))
    async with running(api, configuration(tmp_path / "s", namespaces=["a", "b"])):
        await until_now(lambda: len(api.all(Event)) == 2)
    assert reasons(api) == {"a/cache": ["NotImplemented"], "b/cache": ["NotImplemented"], "c/cache": []}


async def test_a_taken_port_is_a_sentence(tmp_path: Path) -> None:
    async with asyncio.timeout(5):
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = ControllersConfiguration(health_port=port)
        try:
            with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port}.*--health-port"):
                await run_controllers(config, client=MemoryApi(), stop=asyncio.Event(), is_gc_tuned=False)
        finally:
            server.close()


async def test_a_path_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    config = configuration(tmp_path / ("x" * 120))
    with pytest.raises(UsageError, match="too long for a Unix socket"):
        await run_controllers(config, client=MemoryApi(), stop=asyncio.Event(), is_gc_tuned=False)


@pytest.mark.looptime
class TestTurns:
    """Two processes, one lease."""

    async def test_the_second_takes_over_at_once_when_the_first_stops(self, tmp_path: Path) -> None:
        api = MemoryApi()
        async with running(api, configuration(tmp_path / "a", elects=True)) as stop_first:
            await asyncio.sleep(1)
            first = api.all(Lease)[0].spec.holder_identity
            async with running(api, configuration(tmp_path / "b", elects=True)):
                await asyncio.sleep(20)
                assert api.all(Lease)[0].spec.holder_identity == first
                stop_first.set()
                # A candidate looks every 2 s; a lease that nobody gave back would hold for 15.
                await asyncio.sleep(3)
                second = api.all(Lease)[0].spec.holder_identity
                assert second not in (first, None, "")
                api.put(make("late"))
                await asyncio.sleep(1)
                assert reasons(api) == {"default/late": ["NotImplemented"]}
                assert len(api.all(Event)) == 1

    async def test_one_that_cannot_reach_the_server_any_more_stops_working(self, tmp_path: Path) -> None:
        api = MemoryApi()
        async with running(api, configuration(tmp_path / "a", elects=True)):
            await asyncio.sleep(1)
            api.go_down()
            await asyncio.sleep(30)
            api.is_down = False
            api.put(make("later"))
            await asyncio.sleep(30)
            assert reasons(api) == {"default/later": ["NotImplemented"]}
