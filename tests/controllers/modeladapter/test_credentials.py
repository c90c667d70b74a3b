"""Keys of engines and Secrets of artifacts."""

from __future__ import annotations

import asyncio
import base64

import pytest

from pybrix.api.core import Secret
from pybrix.api.meta import ObjectMeta, find_condition
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from tests.support.adapters import LONG_S, World, world_of

pytestmark = pytest.mark.looptime


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
