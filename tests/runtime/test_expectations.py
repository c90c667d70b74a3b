"""Expectations: unsettled until the cache shows what was done."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pybrix.api.core import Pod
from pybrix.api.identity import Uid
from pybrix.kube.informer import Informer
from pybrix.runtime.expectations import EXPIRY_S, OVERDUE_S, Expectations
from tests.support.bare_pods import make_pod
from tests.support.clocks import LoopClock
from tests.support.memoryapi import MemoryApi

pytestmark = pytest.mark.looptime
OWNER = Uid("owner")


@asynccontextmanager
async def expecting(api: MemoryApi) -> AsyncIterator[Expectations[Pod]]:
    pods = Informer(api, Pod, chance=random.Random(1))
    expectations = Expectations(pods, LoopClock())
    task = asyncio.create_task(pods.run())
    await pods.wait_synced()
    await asyncio.sleep(1)
    yield expectations
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_creation_is_settled_when_the_cache_shows_it() -> None:
    api = MemoryApi()
    async with expecting(api) as expectations:
        pod = api.put(make_pod())
        expectations.created(OWNER, pod.uid)
        assert not expectations.is_settled(OWNER)
        assert expectations.is_settled(Uid("another")), "owners do not wait for each other"
        await asyncio.sleep(1)
        assert expectations.is_settled(OWNER)


async def test_a_deletion_is_settled_when_the_cache_shows_it() -> None:
    api = MemoryApi()
    pod = api.put(make_pod())
    async with expecting(api) as expectations:
        expectations.deleted(OWNER, pod.uid)
        assert not expectations.is_settled(OWNER)
        api.remove(pod)
        await asyncio.sleep(1)
        assert expectations.is_settled(OWNER)


async def test_terminating_is_as_good_as_deleted() -> None:
    api = MemoryApi()
    pod = api.put(make_pod())
    async with expecting(api) as expectations:
        expectations.deleted(OWNER, pod.uid)
        api.change(pod, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
        await asyncio.sleep(1)
        assert expectations.is_settled(OWNER)


async def test_an_event_before_the_answer_to_the_creation_is_not_missed() -> None:
    api = MemoryApi()
    async with expecting(api) as expectations:
        pod = api.put(make_pod())
        api.remove(pod)
        await asyncio.sleep(1)
        expectations.created(OWNER, pod.uid)
        assert expectations.is_settled(OWNER)


async def test_a_pod_of_the_same_name_is_not_the_one_expected() -> None:
    api = MemoryApi()
    async with expecting(api) as expectations:
        api.put(make_pod("a"))
        expectations.created(OWNER, Uid("uid-of-another-a"))
        await asyncio.sleep(1)
        assert not expectations.is_settled(OWNER)


async def test_what_never_shows_up_is_forgotten() -> None:
    api = MemoryApi()
    async with expecting(api) as expectations:
        expectations.created(OWNER, Uid("never"))
        await asyncio.sleep(EXPIRY_S - 1)
        assert not expectations.is_settled(OWNER)
        await asyncio.sleep(2)
        assert expectations.is_settled(OWNER)


async def test_overdue_creations_are_asked_for_and_expected_on_while_they_are_there() -> None:
    api = MemoryApi()
    async with expecting(api) as expectations:
        kept, gone = Uid("kept"), Uid("gone")
        expectations.created(OWNER, kept)
        expectations.created(OWNER, gone)
        assert not expectations.is_overdue(OWNER)
        for _ in range(10):
            await asyncio.sleep(OVERDUE_S)
            assert expectations.is_overdue(OWNER)
            expectations.renew(OWNER, {kept})
            assert not expectations.is_overdue(OWNER)
            assert not expectations.is_settled(OWNER)
            assert expectations.count_unseen(OWNER) == 1
        expectations.renew(OWNER, ())
        assert expectations.is_settled(OWNER)
