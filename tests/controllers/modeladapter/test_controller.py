"""The ModelAdapter controller over an API and engines in memory, in virtual time.

Tests marked "AIBrix:" say what its controller does instead (reference/aibrix-control-plane 2.1).
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from pybrix.api.core import EndpointSlice, Event, Secret, Service
from pybrix.api.meta import ObjectMeta, find_condition
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.controllers.modeladapter.state import FINALIZER
from pybrix.engine.page import Average, EnginePage
from pybrix.kube.errors import Conflict, Forbidden, KubeError, Unreachable
from tests.support.adapters import World, make_adapter, make_pod

pytestmark = pytest.mark.looptime

LONG_S = 30.0


def world_of(*pods: str, **spec: Any) -> World:
    world = World()
    for pod in pods:
        world.add_pod(pod)
    world.add_adapter(**spec)
    return world


async def test_an_adapter_is_loaded_in_all_pods_and_listed() -> None:
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.loaded() == ["a", "b"]
        assert world.ready() == ["a", "b"]
        status = world.adapter().status
        assert (status.phase, status.observed_generation) == ("Running", 1)
        assert (status.candidates, status.desired_replicas, status.ready_replicas) == (2, 2, 2)
        assert status.instances == ["a", "b"]
        assert world.condition("Ready") == ("True", "ModelAdapterAvailable")
        assert FINALIZER in world.adapter().metadata.finalizers


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


async def test_six_writes_make_an_adapter_ready_and_none_keep_it_so() -> None:
    world = world_of("a", "b", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.api.writes == [
            ("patch", "ModelAdapter"),
            ("patch", "ModelAdapter/status"),
            ("create", "Service"),
            ("create", "EndpointSlice"),
            ("patch", "ModelAdapter/status"),
            ("create", "Event"),
        ]
        world.api.forget_writes()
        await asyncio.sleep(3 * 3600)
        assert world.api.writes == []


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


async def test_match_expressions_count() -> None:
    """AIBrix: only matchLabels are used."""
    world = World()
    world.add_pod("a", labels={"app": "llama", "tier": "gold"})
    world.add_pod("b", labels={"app": "llama", "tier": "lead"})
    selector = {
        "matchLabels": {"app": "llama"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}],
    }
    world.add_adapter(podSelector=selector)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.loaded() == ["a"]


async def test_a_pod_that_loses_its_label_is_unloaded() -> None:
    """AIBrix: such a pod makes no event, and nothing ever unloads a deselected pod."""
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.api.change(world.pod("a"), {"metadata": {"labels": {"app": "other"}}})
        await asyncio.sleep(0.5)
        assert world.ready() == ["b"]
        assert world.loaded() == ["a", "b"]
        await asyncio.sleep(LONG_S)
        assert world.loaded() == ["b"]
        assert world.adapter().status.instances == ["b"]


async def test_a_changed_selector_moves_the_adapter_make_before_break() -> None:
    world = World()
    world.add_pod("a", labels={"app": "llama"})
    world.add_pod("b", labels={"app": "next"})
    world.add_adapter(replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.edit(podSelector={"matchLabels": {"app": "next"}})
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["b"]
        assert world.loaded() == ["b"]
        assert world.watcher.wrong == []


async def test_a_changed_artifact_rolls_one_pod_at_a_time() -> None:
    """AIBrix: a changed artifactURL does nothing for what is loaded."""
    world = world_of("a", "b", "c")
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.edit(artifactURL="huggingface://org/sql-v2")
        fewest = 3
        for _ in range(600):
            await asyncio.sleep(0.1)
            fewest = min(fewest, len(world.ready()))
        assert fewest == 2
        assert {world.engine(p).adapters["sql"] for p in "abc"} == {"org/sql-v2"}
        assert world.ready() == ["a", "b", "c"]
        assert world.watcher.wrong == []
        assert ("Normal", "Reloading") in world.events()


async def test_a_changed_artifact_of_a_single_copy_moves_to_a_free_pod_first() -> None:
    world = world_of("a", "b", replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        (first,) = world.ready()
        world.edit(artifactURL="huggingface://org/sql-v2")
        await asyncio.sleep(LONG_S)
        (second,) = world.ready()
        assert second != first
        assert world.engine(second).adapters["sql"] == "org/sql-v2"
        assert world.loaded() == [second]
        assert world.watcher.wrong == []


async def test_a_changed_artifact_of_the_only_pod_is_reloaded_in_place() -> None:
    world = world_of("a")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.edit(artifactURL="huggingface://org/sql-v2")
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        assert world.engine("a").adapters["sql"] == "org/sql-v2"


async def test_a_controller_that_begins_waits_for_all_engines_before_it_moves_anything() -> None:
    world = world_of("a", "b", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
    (first,) = world.ready()
    other = "b" if first == "a" else "a"
    world.edit(artifactURL="huggingface://org/sql-v2")
    world.engine(other).list_s = 2
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        assert world.ready() == [other]
        assert world.engine(other).adapters["sql"] == "org/sql-v2"
        assert world.watcher.wrong == []


async def test_a_bad_artifact_takes_one_pod_and_no_more() -> None:
    world = world_of("a", "b", "c")
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        for pod in "abc":
            world.engine(pod).refuses["sql"] = "no such repository"
        world.edit(artifactURL="huggingface://org/typo")
        await asyncio.sleep(600)
        assert len(world.ready()) == 2
        assert world.watcher.wrong == []
        failed = [record for record in world.adapter().status.pods if record.state == "Failed"]
        assert [(record.reason, record.message) for record in failed] == [("AdapterRefused", "no such repository")]
        for pod in "abc":
            world.engine(pod).refuses.clear()
        world.edit(artifactURL="huggingface://org/sql-v3")
        await asyncio.sleep(60)
        assert {world.engine(p).adapters["sql"] for p in "abc"} == {"org/sql-v3"}
        assert world.ready() == ["a", "b", "c"]


async def test_a_bad_artifact_does_not_destroy_a_single_copy_that_serves() -> None:
    world = world_of("a", "b", replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        (first,) = world.ready()
        for pod in "ab":
            world.engine(pod).refuses["sql"] = "no such repository"
        world.edit(artifactURL="huggingface://org/typo")
        await asyncio.sleep(3600)
        assert world.ready() == [first]
        assert world.engine(first).adapters["sql"] == "org/sql"
        assert world.watcher.wrong == []


@pytest.mark.parametrize("is_told", [True, False], ids=["the kubelet says so", "only the list shows it"])
async def test_an_engine_that_restarted_gets_its_adapter_back(is_told: bool) -> None:
    """AIBrix: noticed every 10 s, and meanwhile Ready with the endpoint listed."""
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.restart_engine("a", is_told=is_told)
        await asyncio.sleep(0.3 if is_told else 15)
        if is_told:
            assert world.ready() == ["b"]
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a", "b"]
        assert world.engine("a").adapters == {"sql": "org/sql"}
        assert ("Warning", "ModelAdapterLost") in world.events()


async def test_failing_pods_are_retried_with_growing_pauses() -> None:
    """AIBrix: the counts are never persisted, so it tries every 10 s for ever."""
    world = world_of("a")
    world.engine("a").refuses["sql"] = "bad adapter"
    async with world.running():
        await asyncio.sleep(3600)
        assert world.phase() == "Failed"
        assert world.condition("Ready") == ("False", "ModelAdapterLoadingError")
        assert world.condition("Bound") == ("False", "ModelAdapterLoadingError")
        condition = find_condition(world.adapter().status.conditions, "Ready")
        assert condition is not None
        assert condition.message == "Loading failed on all pods: a: AdapterRefused: bad adapter"
        (record,) = world.adapter().status.pods
        # 1 + 2 + ... + 256, then every 300 s.
        assert 17 <= record.attempts <= 21
        attempts = record.attempts
    async with world.running():
        # Another process goes on where this one stopped.
        await asyncio.sleep(700)
        (record,) = world.adapter().status.pods
        assert attempts + 1 <= record.attempts <= attempts + 4
        world.engine("a").refuses.clear()
        await asyncio.sleep(400)
        assert world.ready() == ["a"]
        assert world.condition("Bound") == ("True", "StableInstanceFound")
        assert ("Normal", "ModelAdapterLoaded") in world.events()


async def test_a_retry_does_not_change_what_the_status_says() -> None:
    world = world_of("a")
    world.engine("a").refuses["sql"] = "bad adapter"
    async with world.running():
        await asyncio.sleep(1)
        phases, messages, states = set(), set(), set()
        for _ in range(400):
            await asyncio.sleep(0.1)
            status = world.adapter().status
            phases.add(status.phase)
            messages |= {c.message for c in status.conditions if c.type == "Ready"}
            states |= set(world.states().values())
        assert phases == {"Failed"}
        assert messages == {"Loading failed on all pods: a: AdapterRefused: bad adapter"}
        assert states == {"Failed", "Reloading"}


async def test_another_pod_is_taken_when_one_keeps_failing() -> None:
    world = world_of("a", "b", "c", replicas=1)
    for pod in "abc":
        world.engine(pod).load_s = 0.1
    async with world.running():
        await asyncio.sleep(0.05)
        (first,) = world.states()
        world.engine(first).refuses["sql"] = "broken here"
        await asyncio.sleep(60)
        (second,) = world.ready()
        assert second != first
        assert world.loaded() == [second]
        await asyncio.sleep(3600)
        assert world.ready() == [second]


async def test_an_engine_that_hangs_holds_up_nobody() -> None:
    """AIBrix: one dead pod blocks the single worker 30 s a call (#700)."""
    world = World()
    world.add_pod("hung", labels={"app": "hung"})
    world.add_pod("a")
    world.engine("hung").hangs = True
    for number in range(20):
        world.add_adapter(f"stuck-{number}", podSelector={"matchLabels": {"app": "hung"}})
    async with world.running():
        await asyncio.sleep(5)
        world.add_adapter("sql")
        await asyncio.sleep(2)
        assert world.ready() == ["a"]


async def test_deletion_unloads_everywhere_and_lets_go() -> None:
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.delete_adapter()
        await asyncio.sleep(2)
        assert world.loaded() == []
        assert world.api.all(ModelAdapter) == []
        assert world.api.all(EndpointSlice) == []


async def test_deletion_unloads_from_pods_that_are_not_listed_as_instances() -> None:
    """AIBrix: only status.instances are unloaded; a pod that was briefly not Ready keeps the adapter."""
    world = world_of("a", "b")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.set_ready("a", False)
        await asyncio.sleep(5)
        world.delete_adapter()
        await asyncio.sleep(2)
        assert world.loaded() == []


async def test_a_dead_pod_delays_a_deletion_no_longer_than_the_deadline() -> None:
    """AIBrix: 30 s for each unreachable pod in turn (#237)."""
    world = world_of("a", "b", "c", "d")
    async with world.running():
        await asyncio.sleep(LONG_S)
        for pod in "abc":
            world.engine(pod).hangs = True
        world.delete_adapter()
        await asyncio.sleep(25)
        assert world.loaded() == ["a", "b", "c"]
        assert len(world.api.all(ModelAdapter)) == 1
        await asyncio.sleep(7)
        assert world.api.all(ModelAdapter) == []
        assert ("Warning", "UnloadIncomplete") in world.events()


async def test_deletion_does_not_wait_for_pods_that_are_gone() -> None:
    world = world_of("a")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.engine("a").hangs = True
        world.delete_adapter()
        await asyncio.sleep(1)
        assert len(world.api.all(ModelAdapter)) == 1
        world.remove_pod("a")
        await asyncio.sleep(1)
        assert world.api.all(ModelAdapter) == []


async def test_an_adapter_deleted_while_it_loads_is_not_left_behind() -> None:
    world = world_of("a")
    world.engine("a").load_s = 5
    async with world.running():
        await asyncio.sleep(1)
        world.delete_adapter()
        await asyncio.sleep(20)
        assert world.loaded() == []
        assert world.api.all(ModelAdapter) == []


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


async def test_a_rolling_upgrade_never_leaves_the_slice_empty() -> None:
    """AIBrix: picks old pods, keeps dead addresses, and takes rounds of migration."""
    world = World()
    for number in range(5):
        world.add_pod(f"old-{number}", owner="v1")
    world.add_adapter("all")
    world.add_adapter("one", replicas=1)
    world.add_adapter("two", replicas=2)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        for number in range(5):
            world.add_pod(f"new-{number}", owner="v2")
            await asyncio.sleep(3)
            world.terminate_pod(f"old-{number}")
            await asyncio.sleep(3)
            world.remove_pod(f"old-{number}")
        await asyncio.sleep(LONG_S)
        assert world.watcher.wrong == []
        assert len(world.ready("all")) == 5
        assert len(world.ready("one")) == 1
        assert len(world.ready("two")) == 2
        for name in ("one", "two"):
            assert world.loaded(name) == world.ready(name)


async def test_a_new_generation_takes_over_once_and_for_all() -> None:
    world = World()
    for number in range(3):
        world.add_pod(f"old-{number}", owner="v1")
    world.add_adapter("one", replicas=1)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.add_pod("new-0", owner="v2")
        await asyncio.sleep(1)
        assert set(world.ready("one")) >= {"new-0"}
        await asyncio.sleep(LONG_S)
        assert world.ready("one") == ["new-0"]
        world.add_pod("new-1", owner="v2")
        world.add_pod("old-3", owner="v1")
        await asyncio.sleep(LONG_S)
        assert world.ready("one") == ["new-0"]
        assert world.loaded("one") == ["new-0"]
        assert world.watcher.wrong == []


async def test_fewer_replicas_keep_those_that_serve() -> None:
    world = world_of("a", "b", "c", replicas=3)
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        world.edit(replicas=1)
        await asyncio.sleep(0.5)
        assert world.condition("Scheduled") == ("True", "Scaled")
        assert world.phase() == "Scaled"
        await asyncio.sleep(LONG_S)
        assert len(world.ready()) == 1
        assert world.loaded() == world.ready()
        assert world.phase() == "Running"
        world.edit(replicas=2)
        await asyncio.sleep(LONG_S)
        assert len(world.ready()) == 2
        assert world.watcher.wrong == []


async def test_the_name_of_the_base_model_is_an_error_and_nothing_is_unloaded() -> None:
    """AIBrix: an adapter named as the base model counts as loaded."""
    world = World()
    world.add_pod("a")
    world.add_adapter("llama")
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.phase("llama") == "Failed"
        assert world.ready("llama") == []
        (record,) = world.adapter("llama").status.pods
        assert record.reason == "NameTaken"
        world.api.forget_writes()
        await asyncio.sleep(3600)
        assert world.api.writes == []
        world.delete_adapter("llama")
        await asyncio.sleep(2)
        assert world.api.all(ModelAdapter) == []
        assert world.engine("a").num_unloads == 0


async def test_what_others_loaded_is_neither_counted_nor_unloaded() -> None:
    world = world_of("a")
    world.engine("a").adapters["sql"] = "/somebody/elses"
    world.engine("a").adapters["other"] = "/somebody/elses"
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.phase() == "Failed"
        world.delete_adapter()
        await asyncio.sleep(5)
        assert world.engine("a").adapters == {"sql": "/somebody/elses", "other": "/somebody/elses"}


async def test_what_is_loaded_from_the_same_artifact_is_taken_over() -> None:
    world = world_of("a")
    world.engine("a").adapters["sql"] = "org/sql"
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        assert world.engine("a").num_loads == 0


async def test_adapters_of_aibrix_are_taken_over_and_made_sure_of() -> None:
    world = World()
    for pod in "ab":
        world.add_pod(pod, sidecar=True)
        # A sidecar's paths do not tell the artifact.
        world.engine(pod).adapters["sql"] = "/tmp/aibrix/adapters/sql"
    adapter = world.add_adapter()
    world.api.change(adapter, {"status": {"phase": "Running", "instances": ["a", "b"], "readyReplicas": 2}})
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(0.5)
        assert world.ready() != []
        await asyncio.sleep(60)
        assert world.ready() == ["a", "b"]
        assert {world.engine(p).num_loads for p in "ab"} == {1}
        assert world.watcher.wrong == []


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


@pytest.mark.parametrize(
    ("call", "error"),
    [
        pytest.param("create", Forbidden(403, "Forbidden", "quota"), id="a creation is refused"),
        pytest.param("create", Unreachable("reset"), id="a creation gets no answer"),
        pytest.param("patch", Conflict(409, "Conflict", "modified"), id="a patch meets something newer"),
        pytest.param("patch", Unreachable("reset"), id="a patch gets no answer"),
    ],
)
async def test_failures_on_the_way_change_nothing_in_the_end(call: str, error: KubeError) -> None:
    world = world_of("a", "b")
    world.api.fail_next(call, *[error] * 6)
    async with world.running():
        await asyncio.sleep(60)
        assert world.ready() == ["a", "b"]
        assert world.phase() == "Running"
        assert {world.engine(p).num_loads for p in "ab"} == {1}


async def test_credentials_reach_the_sidecar_and_a_new_secret_reloads() -> None:
    world = World()
    for pod in "ab":
        world.add_pod(pod, sidecar=True)
    secret = Secret(metadata=ObjectMeta(name="hub", namespace="default"), data={"api-key": "azEyMw==", "token": "dDE="})
    world.add_adapter(artifactURL="s3://bucket/sql", credentialsSecretRef={"name": "hub"})
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        assert world.phase() == "Scheduled"
        assert world.loaded() == []
        condition = find_condition(world.adapter().status.conditions, "Ready")
        assert condition is not None
        assert "Secret hub" in condition.message
        stored = world.api.put(secret)
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a", "b"]
        assert world.condition("CredentialsUnavailable") == ("", "")
        assert "k123" in world.engines.keys["10.0.0.2"]
        world.api.change(stored, {"data": {"token": "dDI="}})
        await asyncio.sleep(120)
        assert {world.engine(p).num_loads for p in "ab"} == {2}
        assert world.ready() == ["a", "b"]
        # Without the Secret nobody can tell what is current: what serves goes on.
        world.api.remove(stored)
        await asyncio.sleep(600)
        assert world.ready() == ["a", "b"]
        assert world.watcher.wrong == []
        assert world.phase() == "Running"
        assert world.condition("CredentialsUnavailable") == ("True", "SecretUnreadable")
        assert ("Warning", "SecretUnreadable") in world.events()
        condition = find_condition(world.adapter().status.conditions, "Ready")
        assert condition is not None
        problem = "Secret hub of credentialsSecretRef does not exist"
        assert condition.message == f"ready in 2 of 2 pods; {problem}"


async def test_an_artifact_that_needs_a_sidecar_is_told_and_not_asked_for() -> None:
    """AIBrix: passes it raw to the engine, for ever."""
    world = world_of("a", artifactURL="s3://bucket/sql")
    async with world.running():
        await asyncio.sleep(LONG_S)
        (record,) = world.adapter().status.pods
        assert record.reason == "SidecarNeeded"
        assert world.phase() == "Failed"
        world.api.forget_writes()
        await asyncio.sleep(3600)
        assert world.api.writes == []
        world.edit(artifactURL="hf://org/sql")
        await asyncio.sleep(5)
        assert world.ready() == ["a"]


async def test_a_key_in_the_spec_works_and_is_warned_of() -> None:
    world = world_of("a", additionalConfig={"api-key": "sk-1"})
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        assert "sk-1" in world.engines.keys["10.0.0.2"]
        assert world.condition("PlaintextAPIKey") == ("True", "KeyInSpec")
        assert ("Warning", "KeyInSpec") in world.events()
        assert "sk-1" not in str(world.adapter().status)
        world.edit(additionalConfig=None)
        await asyncio.sleep(LONG_S)
        assert world.condition("PlaintextAPIKey") == ("", "")


async def test_pods_are_not_filled_beyond_what_they_take() -> None:
    world = World()
    for pod in "ab":
        world.add_pod(pod, args=("serve", "m", "--enable-lora", "--max-loras", "2"))
    for number in range(5):
        world.add_adapter(f"x{number}", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert [len(world.engine(p).adapters) for p in "ab"] == [2, 2]
        (left,) = [a.metadata.name for a in world.api.all(ModelAdapter) if a.status.phase != "Running"]
        assert world.condition("Scheduled", left) == ("False", "ModelAdapterUnavailable")
        gone = "x0" if left != "x0" else "x1"
        world.delete_adapter(gone)
        await asyncio.sleep(LONG_S)
        assert world.phase(left) == "Running"


@pytest.mark.parametrize("policy", ["leastLatency", "leastThroughput"])
async def test_metrics_decide_where_the_policy_says_so(policy: str) -> None:
    """AIBrix: a pod that its metrics cache lacks fails the pass (#239)."""
    world = World()
    for number, pod in enumerate(("busy", "idle")):
        world.add_pod(pod)
        busy = 1.0 - number
        page = EnginePage(
            e2e=Average(9.0 * busy + 1, 1), prompt_tokens=9e5 * busy, generation_tokens=1.0, started_s=0.0
        )
        world.engine(pod).page = page
    for number in range(3):
        world.add_adapter(f"x{number}", replicas=1, schedulerName=policy)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert sorted(world.engine("idle").adapters) == ["x0", "x1", "x2"]
        # Without a page of each pod the number of adapters decides, and an Event says so.
        world.add_pod("mute")
        world.add_adapter("x3", replicas=1, schedulerName=policy)
        await asyncio.sleep(LONG_S)
        assert "x3" not in world.engine("idle").adapters
        assert world.events().count(("Normal", "PolicyFallback")) == 1


async def test_adapters_spread_and_stay() -> None:
    world = World()
    for pod in "abcd":
        world.add_pod(pod)
    for number in range(20):
        world.add_adapter(f"x{number}", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert [len(world.engine(p).adapters) for p in "abcd"] == [5, 5, 5, 5]
        world.add_pod("e")
        world.api.forget_writes()
        await asyncio.sleep(600)
        assert world.engine("e").adapters == {}


async def test_a_readiness_gate_opens_when_the_adapters_are_loaded() -> None:
    world = World()
    world.add_pod("old", owner="v1")
    world.add_adapter("all")
    world.add_adapter("one", replicas=1)
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.add_pod("new", owner="v2", ready=False, containers_ready=True, gate=True)
        world.engine("new").load_s = 3
        await asyncio.sleep(2)
        assert gate_of(world, "new") == ("False", "Loading")
        await asyncio.sleep(5)
        assert gate_of(world, "new") == ("True", "AllLoaded")
        assert sorted(world.engine("new").adapters) == ["all", "one"]
        assert "new" not in world.endpoints("all")
        world.set_ready("new", True)
        await asyncio.sleep(0.5)
        assert world.ready("all") == ["new", "old"]


async def test_a_readiness_gate_opens_for_a_pod_that_no_adapter_wants() -> None:
    world = World()
    world.add_pod("lone", ready=False, containers_ready=True, gate=True, labels={"app": "llama"})
    world.add_adapter("sql", podSelector={"matchLabels": {"app": "other"}})
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert gate_of(world, "lone") == ("True", "AllLoaded")


async def test_a_readiness_gate_is_no_hostage_of_a_broken_adapter() -> None:
    world = World()
    world.add_pod("a", ready=False, containers_ready=True, gate=True)
    world.engine("a").refuses["sql"] = "broken"
    world.add_adapter()
    async with world.running():
        await asyncio.sleep(60)
        assert gate_of(world, "a") == ("True", "LoadingFailed")


def gate_of(world: World, pod: str) -> tuple[str, str]:
    found = find_condition(world.pod(pod).status.conditions, "adapter.model.aibrix.ai/loaded")
    return (found.status, found.reason) if found is not None else ("", "")


async def test_an_invalid_spec_is_told_once_and_what_serves_goes_on() -> None:
    world = world_of("a")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.edit(artifactURL="ftp://x")
        await asyncio.sleep(5)
        assert world.phase() == "Failed"
        assert world.condition("Initialized") == ("False", "ValidationFailed")
        assert world.ready() == ["a"]
        world.api.forget_writes()
        await asyncio.sleep(600)
        assert world.api.writes == []
        world.edit(artifactURL="huggingface://org/sql")
        await asyncio.sleep(5)
        assert world.phase() == "Running"
        assert world.condition("Initialized") == ("True", "Scheduled")


async def test_a_pod_recreated_under_its_name_is_another_pod() -> None:
    world = World()
    world.add_pod("web-0")
    world.add_adapter()
    async with world.running(), world.watcher.watching():
        await asyncio.sleep(LONG_S)
        first = world.pod("web-0").uid
        world.remove_pod("web-0")
        second = world.add_pod("web-0").uid
        assert first != second
        await asyncio.sleep(2)
        (piece,) = world.slices()
        assert [e.target_ref.uid for e in piece.endpoints if e.target_ref] == [second]
        assert [w for w in world.watcher.wrong if "gone" in w] == []


async def test_engines_that_fall_silent_are_told_as_unknown_while_their_pods_are_ready() -> None:
    world = world_of("a")
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.phase() == "Running"
    world.engine("a").is_up = False
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        assert world.phase() == "Unknown"
        assert world.condition("Ready") == ("Unknown", "ConditionNotFound")
        world.engine("a").is_up = True
        await asyncio.sleep(LONG_S)
        assert world.phase() == "Running"


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


def test_builders_agree_with_the_kinds() -> None:
    assert make_adapter().spec.replicas is None
    assert make_pod().is_ready


@pytest.mark.parametrize("wrong", ["before", "zz-after"], ids=["offered first", "offered last"])
async def test_a_wrong_key_of_one_adapter_does_not_concern_the_others(wrong: str) -> None:
    world = World()
    world.add_pod("a")
    world.engine("a").wants_key = "right"
    names = sorted(["sql", wrong])
    for name in names:
        world.add_adapter(name, additionalConfig={"api-key": "right" if name == "sql" else "wrong"})
    async with world.running():
        await asyncio.sleep(2)
        assert world.ready() == ["a"]
        world.add_pod("b")
        world.engine("b").wants_key = "right"
        await asyncio.sleep(3)
        assert world.ready() == ["a", "b"]
        await asyncio.sleep(600)
        assert world.ready() == ["a", "b"]
        record = world.adapter(wrong).status.pods[0]
        assert (record.state, record.reason, record.message) == ("Failed", "AdapterRefused", "Unauthorized")


async def test_an_engine_whose_key_changes_is_listed_with_another_at_once() -> None:
    world = World()
    world.add_pod("a")
    world.engine("a").wants_key = "one"
    world.add_adapter("first", additionalConfig={"api-key": "one"})
    world.add_adapter("second", additionalConfig={"api-key": "two"})
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.ready("first") == ["a"]
        assert world.ready("second") == []
        world.engine("a").wants_key = "two"
        world.restart_engine("a")
        await asyncio.sleep(300)
        assert world.ready("second") == ["a"]


async def test_an_engine_that_takes_no_key_on_offer_is_told_of_at_once() -> None:
    world = World()
    world.add_pod("a", gate=True, ready=False, containers_ready=True)
    world.engine("a").wants_key = "right"
    world.add_adapter(additionalConfig={"api-key": "wrong"})
    async with world.running():
        await asyncio.sleep(1)
        condition = find_condition(world.adapter().status.conditions, "Ready")
        assert condition is not None
        assert condition.message.endswith("the engine of a does not list its models: AdapterRefused: Unauthorized")
        gate = find_condition(world.pod("a").status.conditions, "adapter.model.aibrix.ai/loaded")
        assert gate is not None
        assert (gate.status, gate.reason) == ("False", "EngineRefuses")
        assert gate.message == "the engine does not list its models: AdapterRefused: Unauthorized"
        world.edit(additionalConfig={"api-key": "right"})
        await asyncio.sleep(3)
        assert world.loaded() == ["a"]


def secret_of(api_key: str) -> Secret:
    data = {"api-key": base64.b64encode(api_key.encode()).decode()}
    return Secret(metadata=ObjectMeta(name="hub", namespace="default"), data=data)


@pytest.mark.parametrize("then", ["", "wrong"], ids=["Secret is gone", "Secret is wrong"])
async def test_a_deleted_adapter_is_unloaded_with_the_key_that_works(then: str) -> None:
    world = World()
    world.add_pod("a")
    world.engine("a").wants_key = "right"
    stored = world.api.put(secret_of("right"))
    world.add_adapter(credentialsSecretRef={"name": "hub"})
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        if then:
            world.api.change(stored, {"data": secret_of(then).data})
        else:
            world.api.remove(stored)
        await asyncio.sleep(60)
        world.delete_adapter()
        await asyncio.sleep(3)
        assert world.loaded() == []
        assert world.api.all(ModelAdapter) == []
        assert ("Warning", "UnloadIncomplete") not in world.events()


async def test_an_unload_that_the_engine_refuses_is_told_with_its_words() -> None:
    world = World()
    world.add_pod("a")
    world.add_adapter(additionalConfig={"api-key": "one"})
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.engine("a").wants_key = "other"
        world.delete_adapter()
        await asyncio.sleep(40)
        assert world.api.all(ModelAdapter) == []
        (told,) = [event.message for event in world.api.all(Event) if event.reason == "UnloadIncomplete"]
        assert told == "not unloaded from a: AdapterRefused: Unauthorized"


async def test_an_adapter_that_waits_for_its_first_pod_leaves_one_event() -> None:
    world = world_of()
    async with world.running():
        await asyncio.sleep(LONG_S)
        assert world.phase() == "Pending"
        world.add_pod("a", ready=False)
        await asyncio.sleep(LONG_S)
        assert world.phase() == "Pending"
        world.set_ready("a", True)
        await asyncio.sleep(LONG_S)
        assert world.ready() == ["a"]
        assert world.events() == [("Normal", "ModelAdapterAvailable")]


async def test_only_a_smaller_number_in_the_spec_is_scaling() -> None:
    world = world_of("a", "b", "c")
    async with world.running():
        await asyncio.sleep(LONG_S)
        world.remove_pod("c")
        await asyncio.sleep(LONG_S)
        assert world.adapter().status.desired_replicas == 2
        assert "Scaled" not in [reason for _, reason in world.events()]
        world.edit(replicas=1)
        await asyncio.sleep(LONG_S)
        assert len(world.ready()) == 1
        assert ("Normal", "Scaled") in world.events()
