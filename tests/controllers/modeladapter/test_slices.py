"""What EndpointSlices and Services say, and how they are repaired."""

from __future__ import annotations

import asyncio

import pytest

from pybrix.api.core import EndpointSlice, Service
from pybrix.api.meta import ObjectMeta
from tests.support.adapters import LONG_S, World, world_of

pytestmark = pytest.mark.looptime


async def test_endpoints_say_all_there_is_to_say() -> None:
    """AIBrix: addresses only, port 8000, no conditions, no targetRef."""
    world = World()
    world.add_pod("a", ips=("10.0.0.1", "fd00::1"), labels={"app": "llama", "model.aibrix.ai/port": "9001"})
    world.engines.at("10.0.0.1")
    world.add_adapter()
    async with world.running():
        await asyncio.sleep(LONG_S)
        four, six = world.slices()
        assert (four.metadata.name, six.metadata.name) == ("sql", "sql-2")
        assert (four.address_type, six.address_type) == ("IPv4", "IPv6")
        assert four.metadata.labels == {
            "kubernetes.io/service-name": "sql",
            "adapter.model.aibrix.ai/name": "sql",
            "endpointslice.kubernetes.io/managed-by": "modeladapter-controller.pybrix.ai",
        }
        assert [(p.name, p.port, p.protocol) for p in four.ports] == [("http", 9001, "TCP")]
        (endpoint,) = four.endpoints
        assert endpoint.addresses == ["10.0.0.1"]
        assert (endpoint.conditions.ready, endpoint.conditions.serving, endpoint.conditions.terminating) == (
            True,
            True,
            False,
        )
        assert endpoint.target_ref is not None
        assert (endpoint.target_ref.kind, endpoint.target_ref.name, endpoint.target_ref.uid) == (
            "Pod",
            "a",
            world.pod("a").uid,
        )
        assert endpoint.node_name == "node-1"
        (service,) = world.api.all(Service)
        assert service.spec.cluster_ip == "None"
        assert service.spec.publish_not_ready_addresses
        assert [(p.name, p.port) for p in service.spec.ports] == [("http", 9001)]
        assert service.metadata.labels == {"adapter.model.aibrix.ai/name": "sql", "model.aibrix.ai/name": "llama"}
        assert service.metadata.controller is not None
        assert service.metadata.controller.uid == world.adapter().uid


async def test_a_dead_pod_leaves_the_slice_at_once_with_no_pod_to_follow() -> None:
    """AIBrix: with no Ready pod the pass ends early, and the slice keeps the dead address (#600, #2657)."""
    world = world_of("a", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        world.remove_pod("a")
        await asyncio.sleep(0.5)
        assert [len(piece.endpoints) for piece in world.slices()] == [0]
        status = world.adapter().status
        assert (status.phase, status.ready_replicas, status.instances) == ("Pending", 0, [])
        assert world.condition("Ready") == ("False", "AdapterMigrating")
        assert world.condition("Scheduled") == ("False", "Rescheduling")
        await asyncio.sleep(LONG_S)
        assert world.adapter().status.candidates == 0
        world.add_pod("b")
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["b"]
        assert world.condition("Scheduled") == ("True", "Rescheduled")
        assert world.condition("Bound") == ("True", "StableInstanceFound")
        assert world.phase() == "Running"


async def test_an_unready_pod_leaves_the_slice_and_comes_back() -> None:
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.set_ready("a", False)
        await asyncio.sleep(0.5)
        assert world.ready() == ["b"]
        await asyncio.sleep(LONG_S)
        assert world.loaded() == ["a", "b"]
        world.set_ready("a", True)
        await asyncio.sleep(0.5)
        assert world.ready() == ["a", "b"]
        assert world.engine("a").num_loads == 1


async def test_the_only_pod_keeps_its_adapter_through_a_long_time_unready() -> None:
    world = world_of("a", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.set_ready("a", False)
        await asyncio.sleep(600)
        assert world.ready() == []
        assert world.loaded() == ["a"]
        assert world.phase() == "ResourceCreated"
        assert world.condition("Ready") == ("False", "PodNotReady")
        world.set_ready("a", True)
        await asyncio.sleep(0.5)
        assert world.ready() == ["a"]


async def test_a_long_unready_pod_is_replaced_and_unloaded_in_the_end() -> None:
    world = world_of("a", "b", "c", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        (first,) = world.ready()
        world.set_ready(first, False)
        await asyncio.sleep(60)
        (second,) = world.ready()
        assert second != first
        assert world.loaded() == [second]


async def test_a_terminating_pod_stays_while_nothing_else_serves() -> None:
    world = world_of("a", replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.terminate_pod("a")
        await asyncio.sleep(0.5)
        assert world.endpoints() == {"a": "terminating"}
        world.add_pod("b")
        await asyncio.sleep(2)
        assert world.endpoints() == {"b": "ready"}
        assert world.watcher.wrong == []


async def test_a_terminating_pod_leaves_at_once_when_others_serve() -> None:
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.terminate_pod("a")
        await asyncio.sleep(0.2)
        assert world.endpoints() == {"b": "ready"}


async def test_slices_and_services_that_drift_are_repaired() -> None:
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        (piece,) = world.slices()
        world.api.change(piece, {"endpoints": [], "metadata": {"labels": {"adapter.model.aibrix.ai/name": None}}})
        await asyncio.sleep(0.5)
        assert world.ready() == ["a", "b"]
        world.api.remove(world.slices()[0])
        await asyncio.sleep(0.5)
        assert world.ready() == ["a", "b"]
        (service,) = world.api.all(Service)
        world.api.change(service, {"spec": {"selector": {"app": "x"}, "ports": [{"port": 1}]}})
        await asyncio.sleep(0.5)
        (service,) = world.api.all(Service)
        assert service.spec.selector == {}
        assert [p.port for p in service.spec.ports] == [8000]
        world.api.remove(service)
        await asyncio.sleep(0.5)
        assert len(world.api.all(Service)) == 1
        world.api.change(world.adapter(), {"status": {"phase": "Nonsense"}})
        await asyncio.sleep(0.5)
        assert world.phase() == "Running"


async def test_a_service_of_somebody_else_is_left_alone_and_told() -> None:
    world = World()
    world.add_pod("a")
    world.api.put(Service(metadata=ObjectMeta(name="sql", namespace="default")))
    world.add_adapter()
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.phase() == "Bound"
        assert world.condition("ResourceCreated") == ("False", "ServiceCreateError")
        assert world.condition("Ready") == ("False", "ServiceCreateError")
        (service,) = world.api.all(Service)
        assert service.metadata.labels == {}
        world.api.remove(service)
        await asyncio.sleep(1000)
        assert world.phase() == "Running"
        assert world.condition("ResourceCreated") == ("True", "ModelAdapterAvailable")


async def test_a_slice_name_of_somebody_else_is_passed_over() -> None:
    world = World()
    world.add_pod("a")
    foreign = EndpointSlice(metadata=ObjectMeta(name="sql", namespace="default"), address_type="IPv4", endpoints=[])
    world.api.put(foreign)
    world.add_adapter()
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert [piece.metadata.name for piece in world.slices()] == ["sql-2"]
        assert world.ready() == ["a"]


async def test_a_hundred_and_one_pods_need_two_slices_and_one_change_touches_one() -> None:
    world = World()
    for number in range(101):
        world.add_pod(f"p{number:03d}")
    world.add_adapter()
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert [len(piece.endpoints) for piece in world.slices()] == [100, 1]
        versions = {p.metadata.name: p.metadata.resource_version for p in world.slices()}
        world.set_ready("p050", False)
        await asyncio.sleep(1)
        now = {p.metadata.name: p.metadata.resource_version for p in world.slices()}
        assert now["sql-2"] == versions["sql-2"]
        assert now["sql"] != versions["sql"]
