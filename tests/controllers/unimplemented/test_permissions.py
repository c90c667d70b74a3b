"""The controller of kinds without one needs exactly the rights that it declares."""

from __future__ import annotations

import asyncio

import pytest

from pybrix.api.core import Event
from pybrix.api.scheme import CUSTOM_KINDS, decode
from pybrix.controllers.unimplemented.controller import registration
from tests.support.manifests import example
from tests.support.memoryapi import MemoryApi
from tests.support.permissions import RecordingClient, check_permissions, running_registration

pytestmark = pytest.mark.looptime


async def test_it_uses_all_of_its_rights_and_no_others() -> None:
    (unimplemented,) = registration(CUSTOM_KINDS)
    api = MemoryApi()
    client = RecordingClient(api)
    for cls in CUSTOM_KINDS:
        api.put(decode(example(cls.gvk.kind)))
    async with running_registration(unimplemented, client):
        await asyncio.sleep(5)
    check_permissions(client.used, unimplemented.permissions)
    assert len(api.all(Event)) == len(CUSTOM_KINDS)


async def test_a_kind_that_the_server_does_not_know_holds_up_no_other() -> None:
    (unimplemented,) = registration(CUSTOM_KINDS)
    api = MemoryApi()
    api.missing.add("ModelAdapter")
    cache = decode(example("KVCache"))
    api.put(cache)
    async with running_registration(unimplemented, api) as manager:
        await asyncio.sleep(5)
        states = manager.describe()["controllers"]
        assert states["unimplemented-modeladapters"] == "parked"
        assert states["unimplemented-kvcaches"] == "running"
        assert [event.reason for event in api.all(Event)] == ["NotImplemented"]

        api.missing.clear()
        api.put(decode(example("ModelAdapter")))
        await asyncio.sleep(30)
        assert manager.describe()["controllers"]["unimplemented-modeladapters"] == "running"
        assert len(api.all(Event)) == 2
