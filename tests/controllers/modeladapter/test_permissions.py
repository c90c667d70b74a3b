"""What the controller does at the API server is what it says it does, no less and no more."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pybrix.api.core import EndpointSlice, Secret, Service
from pybrix.api.meta import ObjectMeta
from pybrix.controllers.modeladapter.controller import MODELADAPTER, ModelAdapterReconciler
from tests.support.adapters import World
from tests.support.permissions import RecordingClient, Use, check_permissions, running_registration

pytestmark = pytest.mark.looptime


async def test_rights_are_enough_and_the_least() -> None:
    world = World()
    client = RecordingClient(world.api)
    world.add_pod("a")
    world.add_pod("gated", ready=False, containers_ready=True, gate=True)
    world.api.put(Secret(metadata=ObjectMeta(name="hub", namespace="default")))
    world.api.put(Service(metadata=ObjectMeta(name="taken", namespace="default")))
    world.api.put(
        EndpointSlice(metadata=ObjectMeta(name="sql", namespace="default"), address_type="IPv4", endpoints=[])
    )
    world.add_adapter("sql", credentialsSecretRef={"name": "hub"})
    world.add_adapter("taken")
    registration = replace(
        MODELADAPTER, build=lambda setup: ModelAdapterReconciler(setup, world.engines.open).controllers()
    )
    async with running_registration(registration, client):
        await asyncio.sleep(20)
        assert "a" in world.ready()
        (service,) = [s for s in world.api.all(Service) if s.metadata.name == "sql"]
        world.api.change(service, {"spec": {"selector": {"app": "x"}}})
        world.set_ready("a", False)
        await asyncio.sleep(2)
        world.delete_adapter("sql")
        await asyncio.sleep(5)
        assert world.loaded() == []
    # Asked for by the server where owner references that block deletion are restricted to those who may finalize.
    check_permissions(
        client.used,
        MODELADAPTER.permissions,
        unused=[Use("update", "model.aibrix.ai", "modeladapters/finalizers")],
    )
