"""The definitions and examples on a server, by kubectl."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.crds import render_crds
from pybrix.api.scheme import CUSTOM_KINDS, decode
from pybrix.cli.crds import to_yaml
from tests.support.apiserver import RunningApiServer, running_api_server
from tests.support.manifests import EXAMPLES, example


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RunningApiServer]:
    async with running_api_server(tmp_path) as running:
        yield running


async def install(cluster: RunningApiServer) -> str:
    ran = await cluster.kubectl("apply", "--server-side", "-f", "-", stdin=to_yaml(render_crds()))
    assert ran.code == 0, ran.err
    return ran.out


async def versions(cluster: RunningApiServer) -> dict[str, tuple[str, str]]:
    ran = await cluster.kubectl("get", "crds", "-o", "json")
    found = [item["metadata"] for item in json.loads(ran.out)["items"]]
    return {metadata["name"]: (metadata["uid"], metadata["resourceVersion"]) for metadata in found}


async def examples(cluster: RunningApiServer) -> list[dict[str, Any]]:
    resources = ",".join(f"{cls.gvk.plural}.{cls.gvk.group}" for cls in CUSTOM_KINDS)
    ran = await cluster.kubectl("get", resources, "-o", "json")
    items: list[dict[str, Any]] = json.loads(ran.out)["items"]
    return items


async def test_definitions_and_examples_apply_and_a_second_time_changes_nothing(cluster: RunningApiServer) -> None:
    await install(cluster)
    before = await versions(cluster)
    assert len(before) == len(CUSTOM_KINDS)
    await install(cluster)
    assert await versions(cluster) == before

    arguments = ("apply", "--server-side", "--validate=strict", "-f", str(EXAMPLES))
    ran = await cluster.kubectl(*arguments)
    assert ran.code == 0, ran.err
    applied = {o["metadata"]["uid"]: o["metadata"]["resourceVersion"] for o in await examples(cluster)}
    assert (await cluster.kubectl(*arguments)).code == 0
    assert {o["metadata"]["uid"]: o["metadata"]["resourceVersion"] for o in await examples(cluster)} == applied
    for cls in CUSTOM_KINDS:
        kind = cls.gvk.kind
        resource = f"{cls.gvk.plural}.{cls.gvk.group}"
        shown = await cluster.kubectl("get", resource, example(kind)["metadata"]["name"], "-o", "json")
        stored = json.loads(shown.out)
        assert stored["metadata"]["generation"] == 1
        typed = decode(stored)
        assert type(typed) is cls
        assert decode(json.loads(json.dumps(typed.to_dict()))) == typed

    ran = await cluster.kubectl("delete", "-f", "-", stdin=to_yaml(render_crds()))
    assert ran.code == 0, ran.err
    assert await versions(cluster) == {}


async def test_a_refusal_names_the_field_and_says_what_would_be_right(cluster: RunningApiServer) -> None:
    await install(cluster)
    document = example("PodAutoscaler")
    document["spec"]["maxReplicas"] = 1
    del document["spec"]["schedules"]
    ran = await cluster.kubectl("create", "-f", "-", stdin=json.dumps(document))
    assert ran.code == 1
    assert "spec.maxReplicas: Invalid value" in ran.err
    assert "maxReplicas must be at least minReplicas" in ran.err


async def test_explain_says_what_a_field_is_for(cluster: RunningApiServer) -> None:
    await install(cluster)
    ran = await cluster.kubectl("explain", "kvcachepools.spec.scheduler.gpuType")
    assert "GPU model of the nodes" in ran.out, ran.err
    ran = await cluster.kubectl("explain", "stormservices.metadata")
    assert "what else every object has" in ran.out, ran.err
