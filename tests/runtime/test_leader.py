"""Leader election: one works at a time, and another takes over whatever becomes of the first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pybrix.api.core import Lease
from pybrix.api.identity import ObjectKey
from pybrix.kube.interface import Client
from pybrix.runtime.leader import LeaderConfig, LeaderElector
from tests.support.clocks import LoopClock
from tests.support.memoryapi import MemoryApi

pytestmark = pytest.mark.looptime

LEASE = ObjectKey("default", "controllers")


class Candidate:
    """A process that notes when it works."""

    def __init__(self, api: Client, name: str) -> None:
        self.is_working = False
        self.terms = 0
        self.finish = asyncio.Event()
        config = LeaderConfig(LEASE, name)
        self._elector = LeaderElector(api, config, clock=LoopClock(), chance=random.Random(name))
        self.task = asyncio.create_task(self._elector.run(self._work))

    async def _work(self) -> None:
        self.is_working = True
        self.terms += 1
        try:
            await self.finish.wait()
        finally:
            self.is_working = False

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def leader_and_candidate(api: MemoryApi) -> AsyncIterator[tuple[Candidate, Candidate]]:
    """Start two candidates; give the one that leads first."""
    first = Candidate(api, "first")
    await asyncio.sleep(1)
    second = Candidate(api, "second")
    await asyncio.sleep(1)
    try:
        yield first, second
    finally:
        await first.end()
        await second.end()


async def test_only_one_works_however_long() -> None:
    async with leader_and_candidate(MemoryApi()) as (first, second):
        await asyncio.sleep(1000)
        assert (first.is_working, second.is_working) == (True, False)
        assert (first.terms, second.terms) == (1, 0)


async def test_the_lease_says_who_leads_since_when() -> None:
    api = MemoryApi()
    async with leader_and_candidate(api):
        await asyncio.sleep(100)
        (lease,) = api.all(Lease)
        assert lease.key == LEASE
        assert (lease.spec.holder_identity, lease.spec.lease_duration_seconds) == ("first", 15)
        assert lease.spec.acquire_time is not None
        assert lease.spec.renew_time is not None
        assert lease.spec.acquire_time < lease.spec.renew_time
        assert lease.spec.lease_transitions == 0


async def test_a_leader_that_ends_gives_the_lease_back_at_once() -> None:
    api = MemoryApi()
    async with leader_and_candidate(api) as (first, second):
        await first.end()
        assert api.all(Lease)[0].spec.holder_identity is None
        await asyncio.sleep(3)
        assert second.is_working
        assert api.all(Lease)[0].spec.lease_transitions == 1


async def test_work_that_comes_to_its_end_ends_the_election() -> None:
    api = MemoryApi()
    async with leader_and_candidate(api) as (first, second):
        first.finish.set()
        await first.task
        await asyncio.sleep(3)
        assert second.is_working


async def test_a_leader_that_dies_is_succeeded_when_its_lease_is_over() -> None:
    api = MemoryApi()
    # A record that nobody renews: its holder was killed. Its own times are of no account.
    api.put(
        Lease.from_dict(
            {
                "metadata": {"name": LEASE.name, "namespace": LEASE.namespace},
                "spec": {
                    "holderIdentity": "dead",
                    "leaseDurationSeconds": 15,
                    "renewTime": "1999-01-01T00:00:00.000000Z",
                },
            }
        )
    )
    heir = Candidate(api, "heir")
    await asyncio.sleep(14)
    assert not heir.is_working, "its clock may be wrong: only the time without a renewal counts"
    await asyncio.sleep(5)
    assert heir.is_working
    await heir.end()


async def test_a_leader_that_cannot_renew_stops_before_its_lease_is_over() -> None:
    api = MemoryApi()
    async with leader_and_candidate(api) as (first, second):
        api.is_down = True
        await asyncio.sleep(7.9)
        assert first.is_working
        await asyncio.sleep(2.2)
        assert not first.is_working
        api.is_down = False
        await asyncio.sleep(30)
        assert first.terms + second.terms == 2
        assert first.is_working is not second.is_working


async def test_a_short_absence_of_the_api_is_survived() -> None:
    api = MemoryApi()
    async with leader_and_candidate(api) as (first, second):
        for _ in range(20):
            api.is_down = True
            await asyncio.sleep(5)
            api.is_down = False
            await asyncio.sleep(5)
        assert (first.terms, second.terms) == (1, 0)


async def test_a_lease_taken_by_another_ends_the_work() -> None:
    api = MemoryApi()
    async with leader_and_candidate(api) as (first, second):
        api.change(api.all(Lease)[0], {"spec": {"holderIdentity": "usurper"}})
        await asyncio.sleep(3)
        assert not first.is_working
        assert not second.is_working


async def test_a_leader_whose_lease_is_deleted_makes_it_anew() -> None:
    api = MemoryApi()
    async with leader_and_candidate(api) as (first, second):
        api.remove(api.all(Lease)[0])
        await asyncio.sleep(30)
        assert first.is_working is not second.is_working
        assert len(api.all(Lease)) == 1


async def test_settings_that_cannot_work_are_refused() -> None:
    config = LeaderConfig(LEASE, "a", lease_duration_s=5)
    with pytest.raises(ValueError, match="renew deadline < lease duration"):
        LeaderElector(MemoryApi(), config, clock=LoopClock(), chance=random.Random(1))
