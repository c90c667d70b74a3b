"""The ModelAdapter controller over an API and engines in memory, in virtual time.

Tests here and beside it that are marked "AIBrix:" say what its controller does instead.
"""

from __future__ import annotations

import asyncio

import pytest

from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.controllers.modeladapter.state import FINALIZER
from pybrix.kube.errors import Conflict, Forbidden, KubeError, Unreachable
from tests.support.adapters import LONG_S, World, make_adapter, make_pod, world_of

pytestmark = pytest.mark.looptime


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


def test_builders_agree_with_the_kinds() -> None:
    assert make_adapter().spec.replicas is None
    assert make_pod().is_ready


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
