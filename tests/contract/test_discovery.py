"""What a server says that it serves.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

import pytest

from tests.support.contract import AGGREGATED, Api


async def test_versions_of_the_core_group(api: Api) -> None:
    got = (await api.get("/api")).body
    assert (got["kind"], got["versions"]) == ("APIVersions", ["v1"])


async def test_groups_with_their_preferred_versions(api: Api) -> None:
    got = (await api.get("/apis")).body
    assert got["kind"] == "APIGroupList"
    groups = {g["name"]: g["preferredVersion"]["groupVersion"] for g in got["groups"]}
    want = {"apps": "apps/v1", "coordination.k8s.io": "coordination.k8s.io/v1", "policy": "policy/v1"}
    assert want.items() <= groups.items()


@pytest.mark.parametrize("group", ["apps", "rbac.authorization.k8s.io", "events.k8s.io", "autoscaling"])
async def test_each_group_is_there_by_itself(api: Api, group: str) -> None:
    got = (await api.get(f"/apis/{group}")).body
    assert (got["kind"], got["name"]) == ("APIGroup", group)
    assert all(v["groupVersion"] == f"{group}/{v['version']}" for v in got["versions"])


@pytest.mark.parametrize("path", ["/apis/none.dev", "/apis/apps/v9", "/api/v2", "/apis/apps/v1/nothings", "/nowhere"])
async def test_what_is_not_served_is_not_found(api: Api, path: str) -> None:
    assert (await api.get(path)).code == 404


async def test_resources_have_verbs_names_and_scope(api: Api) -> None:
    got = (await api.get("/api/v1")).body
    assert (got["kind"], got["groupVersion"]) == ("APIResourceList", "v1")
    found = {r["name"]: r for r in got["resources"]}
    pods, nodes = found["pods"], found["nodes"]
    assert (pods["kind"], pods["singularName"], pods["namespaced"], nodes["namespaced"]) == ("Pod", "pod", True, False)
    assert {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"} <= set(pods["verbs"])
    assert ("po" in pods["shortNames"], "all" in pods["categories"]) == (True, True)
    assert found["pods/eviction"]["kind"] == "Eviction"
    assert found["pods/eviction"]["group"] == "policy"
    assert found["serviceaccounts/token"]["verbs"] == ["create"]
    assert found["namespaces/finalize"]["verbs"] == ["update"]


async def test_whole_discovery_is_one_document_for_core_and_one_for_groups(api: Api) -> None:
    core = await api.get("/api", AGGREGATED)
    assert (core.body["kind"], core.body["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    (group,) = core.body["items"]
    resources = {r["resource"]: r for r in group["versions"][0]["resources"]}
    assert resources["pods"]["scope"] == "Namespaced"
    assert resources["pods"]["responseKind"]["kind"] == "Pod"
    assert "eviction" in {s["subresource"] for s in resources["pods"]["subresources"]}
    groups = (await api.get("/apis", AGGREGATED)).body["items"]
    assert "" not in {g["metadata"].get("name", "") for g in groups}


async def test_both_discoveries_agree(api: Api) -> None:
    for item in (await api.get("/apis", AGGREGATED)).body["items"]:
        for version in item["versions"]:
            plain = await api.get(f"/apis/{item['metadata']['name']}/{version['version']}")
            names = {r["name"]: set(r["verbs"]) for r in plain.body["resources"] if "/" not in r["name"]}
            assert names == {r["resource"]: set(r["verbs"]) for r in version["resources"]}


async def test_client_that_cannot_read_the_whole_gets_the_parts(api: Api) -> None:
    old = "application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList,application/json"
    assert (await api.get("/apis", old)).body["kind"] == "APIGroupList"


async def test_version_is_that_of_kubernetes(api: Api) -> None:
    got = (await api.get("/version")).body
    assert got["gitVersion"].startswith(f"v{got['major']}.{got['minor'].rstrip('+')}.")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
async def test_health_is_a_word(api: Api, path: str) -> None:
    # https://kubernetes.io/docs/reference/using-api/health-checks/
    got = await api.get(path)
    assert (got.code, got.body) == (200, "ok")
