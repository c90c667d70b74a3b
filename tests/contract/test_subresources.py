"""Status, scale and generation: what changes through which door.

https://kubernetes.io/docs/concepts/overview/working-with-objects/#object-spec-and-status and the API conventions,
"Spec and Status"
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.contract import JSON_PATCH, MERGE, STRATEGIC, Api, config_map, deployment, pod

APPS = {"group": "apps"}


async def make(api: Api) -> str:
    await api.create(api.at("deployments", **APPS), deployment("web"))
    return api.at("deployments", "web", **APPS)


async def test_observed_generation_catches_up(api: Api) -> None:
    # API conventions, "Metadata": generation counts what is desired, observedGeneration what was worked on
    path = await make(api)

    async def is_observed() -> bool:
        got = (await api.get(path)).body
        return bool(got["status"].get("observedGeneration") == got["metadata"]["generation"])

    await api.until(is_observed)
    changed = await api.patch(path, {"spec": {"minReadySeconds": 3}})
    assert changed.body["metadata"]["generation"] == 2
    await api.until(is_observed)


async def test_generation_does_not_count_status_and_labels(api: Api) -> None:
    path = await make(api)
    await api.patch(f"{path}/status", {"status": {"collisionCount": 1}})
    await api.patch(path, {"metadata": {"annotations": {"a": "b"}}})
    assert (await api.get(path)).body["metadata"]["generation"] == 1
    sent = await api.patch(path, {"metadata": {"generation": 99}, "spec": {"paused": True}})
    assert sent.body["metadata"]["generation"] == 2


async def test_main_door_leaves_the_status(api: Api) -> None:
    path = await make(api)
    await api.patch(f"{path}/status", {"status": {"collisionCount": 1}})
    changed = await api.patch(path, {"status": {"collisionCount": 7}, "spec": {"paused": True}})
    assert (changed.body["status"]["collisionCount"], changed.body["spec"]["paused"]) == (1, True)


async def test_door_of_the_status_leaves_the_rest(api: Api) -> None:
    path = await make(api)
    patch = {"status": {"collisionCount": 1}, "spec": {"paused": True}}
    changed = await api.patch(f"{path}/status", patch)
    assert changed.body["status"]["collisionCount"] == 1
    assert "paused" not in changed.body["spec"]


async def test_status_is_read_and_replaced(api: Api) -> None:
    await api.ready()
    await api.create(api.at("pods"), pod("p"))
    got = (await api.get(api.at("pods", "p", "status"))).body
    assert (got["kind"], got["metadata"]["name"]) == ("Pod", "p")
    put = await api.put(api.at("pods", "p", "status"), {**got, "status": {"phase": "Running"}})
    assert (put.code, put.body["status"]["phase"]) == (200, "Running")
    stale = await api.put(api.at("pods", "p", "status"), {**got, "status": {"phase": "Failed"}})
    assert (stale.code, stale.reason) == (409, "Conflict")


@pytest.mark.parametrize(
    ("media", "patch"),
    [
        (MERGE, {"status": {"phase": "Running"}}),
        (STRATEGIC, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        (JSON_PATCH, [{"op": "replace", "path": "/status/phase", "value": "Running"}]),
    ],
)
async def test_status_is_patched_every_way(api: Api, media: str, patch: Any) -> None:
    await api.ready()
    await api.create(api.at("pods"), pod("p"))
    patched = await api.patch(api.at("pods", "p", "status"), patch, media)
    assert patched.code == 200, patched.body
    status = patched.body["status"]
    assert status["phase"] == "Running" or any(c["type"] == "Ready" for c in status["conditions"])


async def test_conditions_merge_by_type(api: Api) -> None:
    # API conventions, "Typical status properties"
    await api.ready()
    await api.create(api.at("pods"), pod("p"))
    for kind in ("Ready", "Initialized", "Ready"):
        condition = {"type": kind, "status": "True"}
        await api.patch(api.at("pods", "p", "status"), {"status": {"conditions": [condition]}}, STRATEGIC)
    conditions = (await api.get(api.at("pods", "p"))).body["status"]["conditions"]
    assert sorted(c["type"] for c in conditions if c["type"] in ("Ready", "Initialized")) == ["Initialized", "Ready"]


async def test_scale_shows_replicas_and_selector(api: Api) -> None:
    # /docs/reference/kubernetes-api/workload-resources/deployment-v1/#get-read-scale-of-the-specified-deployment
    path = await make(api)
    scale = (await api.get(f"{path}/scale")).body
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert (scale["spec"].get("replicas", 0), scale["status"]["selector"]) == (0, "app=web")
    whole = (await api.get(path)).body
    assert scale["metadata"]["uid"] == whole["metadata"]["uid"]


async def test_scale_is_patched_and_counts_as_a_change(api: Api) -> None:
    path = await make(api)
    await api.patch(path, {"spec": {"paused": True}})
    for media in (MERGE, STRATEGIC):
        patched = await api.patch(f"{path}/scale", {"spec": {"replicas": 0}}, media)
        assert (patched.code, patched.body["kind"]) == (200, "Scale")
    assert (await api.get(path)).body["metadata"]["generation"] == 2


async def test_negative_scale_is_invalid(api: Api) -> None:
    path = await make(api)
    refused = await api.patch(f"{path}/scale", {"spec": {"replicas": -1}})
    assert (refused.code, refused.reason) == (422, "Invalid")


@pytest.mark.parametrize("door", ["scale", "status", "nonsense"])
async def test_kind_without_a_door_has_none(api: Api, door: str) -> None:
    await api.create(api.at("configmaps"), config_map("c"))
    assert (await api.get(api.at("configmaps", "c", door))).code == 404


async def test_door_that_takes_only_posts_says_so(api: Api) -> None:
    await api.ready()
    await api.create(api.at("pods"), pod("p"))
    for method in ("GET", "PUT", "DELETE"):
        refused = await api.request(method, api.at("pods", "p", "binding"), {})
        assert (refused.code, refused.reason) == (405, "MethodNotAllowed")


async def test_pod_is_bound_once(api: Api) -> None:
    # /docs/reference/kubernetes-api/cluster-resources/binding-v1/
    await api.ready()
    body = pod("p")
    del body["spec"]["schedulingGates"]
    await api.create(api.at("pods"), body)
    target = {"apiVersion": "v1", "kind": "Node", "name": "no-such-node"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}
    first = await api.create(api.at("pods", "p", "binding"), binding)
    again = await api.create(api.at("pods", "p", "binding"), binding)
    assert (first.code, again.code) in ((201, 409), (409, 409))
