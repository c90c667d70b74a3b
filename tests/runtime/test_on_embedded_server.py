"""Informers, leader election and a manager against the real embedded API server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pybrix.api.core import ConfigMap, Event, Lease
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import ObjectMeta
from pybrix.base.clock import SystemClock
from pybrix.kube.client import HttpClient
from pybrix.kube.informer import Informer
from pybrix.runtime.actions import Create, Emit, Plan
from pybrix.runtime.controller import Controller, For, Owns
from pybrix.runtime.leader import LeaderConfig, LeaderElector
from pybrix.runtime.manager import Manager
from tests.support.embedded import EmbeddedServer, embedded
from tests.support.waiting import until_now

LABELS = {"test": "yes"}


def make(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default", labels=LABELS), data=data)


@asynccontextmanager
async def following(server: EmbeddedServer) -> AsyncIterator[tuple[HttpClient, Informer[ConfigMap], list[str]]]:
    async with server.client() as client:
        maps = Informer(client, ConfigMap, label_selector="test=yes", chance=random.Random(1))
        seen: list[str] = []
        maps.add_handler(lambda event, old, new: seen.append(f"{event} {(new or old).metadata.name}"))  # type: ignore[union-attr]
        task = asyncio.create_task(maps.run())
        try:
            yield client, maps, seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_informer_goes_on_after_the_server_restarted(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, following(server) as (client, maps, seen):
        await maps.wait_synced()
        await client.create(make("a"))
        doomed = await client.create(make("b"))
        await until_now(lambda: len(maps.list()) == 2)
        await server.stop()
        assert len(maps.list()) == 2
        await server.start()
        # What happens before the informer is back is found by comparison.
        await client.delete(ConfigMap, doomed.key)
        await client.create(make("b", life="second"))
        await client.create(make("c"))
        await until_now(lambda: len(maps.list()) == 3)
        again = maps.get(doomed.key)
        assert again is not None
        assert again.data == {"life": "second"}
        assert maps.by_uid(doomed.uid) is None
        assert seen[:2] == ["ADDED a", "ADDED b"]
        assert sorted(seen[2:]) == ["ADDED b", "ADDED c", "DELETED b"]
        assert seen.index("DELETED b") < len(seen) - 1 - seen[::-1].index("ADDED b")


async def test_an_informer_follows_a_server_that_lost_its_data(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, following(server) as (client, maps, _):
        for number in range(5):
            await client.create(make(f"old-{number}"))
        await until_now(lambda: len(maps.list()) == 5)
        await server.stop()
        server.wipe()
        await server.start()
        await client.create(make("new"))
        await until_now(lambda: [m.metadata.name for m in maps.list()] == ["new"])
        await client.create(make("newer"))
        await until_now(lambda: len(maps.list()) == 2)


async def test_of_two_candidates_one_leads_and_the_other_takes_over(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, server.client() as client:
        working: list[str] = []

        def candidate(name: str) -> asyncio.Task[None]:
            config = LeaderConfig(
                ObjectKey("default", "lead"), name, lease_duration_s=2, renew_deadline_s=1, retry_period_s=0.05
            )
            elector = LeaderElector(client, config, clock=SystemClock(), chance=random.Random(name))

            async def work() -> None:
                working.append(name)
                try:
                    await asyncio.Event().wait()
                finally:
                    working.remove(name)

            return asyncio.create_task(elector.run(work))

        tasks = {name: candidate(name) for name in ("first", "second")}
        await until_now(lambda: len(working) == 1)
        (leader,) = working
        (other,) = {"first", "second"} - {leader}
        tasks[leader].cancel()
        await until_now(lambda: working == [other])
        lease = await client.get(Lease, ObjectKey("default", "lead"))
        assert (lease.spec.holder_identity, lease.spec.lease_transitions) == (other, 1)
        # A leader that cannot renew gives up; it leads again when the server is back.
        await server.stop()
        await until_now(lambda: working == [])
        await server.start()
        await until_now(lambda: working == [other])
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def test_a_controller_makes_children_across_a_restart(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, server.client() as client:
        manager = Manager(client, component="copier", clock=SystemClock(), chance=random.Random(1))
        maps = manager.informer(ConfigMap, label_selector="test=yes")
        told = manager.informer(Event)

        async def reconcile(key: ObjectKey) -> Plan | None:
            """Give every map a copy of its own."""
            original = maps.get(key)
            if original is None or original.metadata.controller or maps.get(_copy(key)):
                return None
            copy = make(_copy(key).name, **original.data).to_dict()
            return Plan((Create(copy, "no copy yet", owner=original), Emit(original, "Copied", "made a copy")))

        manager.add(Controller("copier", reconcile, sources=[For(maps), Owns(maps, ConfigMap)]))
        running = asyncio.create_task(manager.run())
        original = await client.create(make("a", key="1"))
        await until_now(_has_copy(maps, original))
        found = maps.get(_copy(original.key))
        assert found is not None
        assert found.metadata.controller == original.owner_reference()
        await client.delete(ConfigMap, _copy(original.key))
        await until_now(lambda: (copy := maps.get(_copy(original.key))) is not None and copy.uid != found.uid)
        # An Event is written after what it tells of, and lost when the server stops in between.
        await until_now(lambda: any(e.reason == "Copied" and e.count == 2 for e in told.list()))
        await server.stop()
        await server.start()
        second = await client.create(make("b"))
        await until_now(_has_copy(maps, second))
        await until_now(lambda: len([e for e in told.list() if e.reason == "Copied"]) == 2)
        manager.stop()
        await asyncio.wait_for(running, 60)
        events = [e for e in (await client.list(Event, "default")).items if e.reason == "Copied"]
        assert {(e.involved_object.name, e.count) for e in events} == {("a", 2), ("b", 1)}


def _copy(key: ObjectKey) -> ObjectKey:
    return ObjectKey(key.namespace, f"{key.name}-copy")


def _has_copy(maps: Informer[ConfigMap], original: ConfigMap) -> Callable[[], bool]:
    return lambda: maps.get(_copy(original.key)) is not None
