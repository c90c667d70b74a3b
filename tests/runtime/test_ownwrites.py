"""Waiting for the cache to show what was just written."""

from __future__ import annotations

import asyncio

import pytest

from pybrix.api.apps import Deployment
from pybrix.kube.errors import Conflict
from pybrix.kube.informer import Informer
from pybrix.runtime.ownwrites import OwnWrites
from tests.support.memoryapi import MemoryApi
from tests.support.workloads import make_deployment

pytestmark = pytest.mark.looptime


async def test_a_write_is_visible_when_the_cache_shows_it_or_something_newer() -> None:
    api = MemoryApi()
    web = api.put(make_deployment(1))
    informer = Informer(api, Deployment)
    writes = OwnWrites(api, informer)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(informer.run())
        await asyncio.sleep(1)
        changed = await writes.patch_status(web, {"replicas": 3}, "test")
        assert changed.status.replicas == 3
        assert not writes.is_visible(web.uid)
        await asyncio.sleep(1)
        assert writes.is_visible(web.uid)
        assert informer.by_uid(web.uid) == changed
        with pytest.raises(Conflict):
            await writes.patch_status(web, {"replicas": 4}, "the version that was observed is old")
        assert writes.is_visible(web.uid)
        following.cancel()


async def test_an_object_that_goes_is_not_waited_for() -> None:
    api = MemoryApi()
    web = api.put(make_deployment(1))
    informer = Informer(api, Deployment)
    writes = OwnWrites(api, informer)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(informer.run())
        await asyncio.sleep(1)
        changed = await writes.patch_status(web, {"replicas": 3}, "test")
        api.remove(changed)
        await asyncio.sleep(1)
        assert writes.is_visible(web.uid)
        following.cancel()


async def test_nothing_is_sent_for_no_difference() -> None:
    api = MemoryApi()
    web = api.put(make_deployment(1))
    assert await OwnWrites(api, Informer(api, Deployment)).patch_status(web, {}, "test") is web
    assert api.calls == []
