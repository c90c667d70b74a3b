"""Events about workloads without their sidecar, and the rights that it takes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pybrix.api.apps import Deployment
from pybrix.api.core import Event
from pybrix.api.scheme import decode
from pybrix.api.sidecar import INJECTION
from pybrix.controllers.sidecarinjection.controller import SIDECARINJECTION
from pybrix.controllers.sidecarinjection.plan import plan
from pybrix.local.definitions import apply_definitions
from tests.support.embedded import embedded
from tests.support.injections import deployment, storm_service
from tests.support.memoryapi import MemoryApi
from tests.support.permissions import RecordingClient, check_permissions, running_registration


@pytest.mark.looptime
async def test_one_event_for_each_and_all_rights_are_used() -> None:
    api = MemoryApi()
    client = RecordingClient(api)
    for obj in (deployment(), storm_service()):
        obj["metadata"]["namespace"] = "default"
        api.put(decode(obj))
    async with running_registration(SIDECARINJECTION, client):
        await asyncio.sleep(5)
        events = api.all(Event)
        assert sorted(e.involved_object.kind for e in events) == ["Deployment", "StormService"]
        # A status that changes is no reason to say it again.
        (stored,) = api.all(Deployment)
        api.change(stored, {"status": {"replicas": 3}})
        await asyncio.sleep(5)
        assert [e.count for e in api.all(Event)] == [1, 1]
    check_permissions(client.used, SIDECARINJECTION.permissions)


@pytest.mark.looptime
async def test_deployments_are_watched_where_there_are_no_stormservices() -> None:
    api = MemoryApi()
    api.missing.add("StormService")
    obj = deployment()
    obj["metadata"]["namespace"] = "default"
    api.put(decode(obj))
    async with running_registration(SIDECARINJECTION, api):
        await asyncio.sleep(5)
        assert [e.reason for e in api.all(Event)] == ["SidecarNotInjected"]


async def test_where_the_server_injects_nothing_is_said(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, server.client() as client:
        await apply_definitions(client)
        made = await client.create(
            Deployment.from_dict({**deployment(), "metadata": {**deployment()["metadata"], "namespace": "default"}})
        )
        assert made.metadata.annotations[INJECTION] == "true"
        assert [c["name"] for c in made.spec.template["spec"]["containers"]] == ["aibrix-runtime", "engine"]
        assert plan(made).actions == ()
