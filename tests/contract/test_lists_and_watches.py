"""Lists, selectors, pages, watches, tables and discovery.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio

from tests.support.contract import AGGREGATED, TABLE, Api, config_map, deployment, pod


async def names(api: Api, path: str, **query: str) -> list[str]:
    return [o["metadata"]["name"] for o in (await api.get(path, **query)).body["items"]]


async def test_labels_select(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
    for name, tier in (("a", "x"), ("b", "y"), ("c", "")):
        await api.create(api.at("configmaps"), config_map(name, {"tier": tier, "mine": "1"}))
    path = api.at("configmaps")
    assert await names(api, path, labelSelector="mine,tier in (x,y)") == ["a", "b"]
    assert await names(api, path, labelSelector="mine=1,tier!=x") == ["b", "c"]
    assert await names(api, path, labelSelector="mine,!nope,tier notin (x,y)") == ["c"]
    assert (await api.get(path, labelSelector="a in (")).code == 400


async def test_fields_select(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/
    await api.create(api.at("pods"), pod("a"))
    await api.create(api.at("pods"), pod("b"))
    assert await names(api, api.at("pods"), fieldSelector="metadata.name=b") == ["b"]
    assert await names(api, api.at("pods"), fieldSelector="status.phase=Pending,spec.nodeName=") == ["a", "b"]
    assert await names(api, "/api/v1/pods", fieldSelector=f"metadata.namespace={api.namespace}") == ["a", "b"]
    assert (await api.get(api.at("pods"), fieldSelector="spec.nonsense=1")).code == 400


async def test_pages_show_one_consistent_list(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
    for name in "abcde":
        await api.create(api.at("configmaps"), config_map(name))
    query = {"limit": "2", "fieldSelector": "metadata.name!=kube-root-ca.crt"}
    first = (await api.get(api.at("configmaps"), **query)).body
    await api.delete(api.at("configmaps", "d"))
    await api.create(api.at("configmaps"), config_map("dd"))
    seen, page = [o["metadata"]["name"] for o in first["items"]], first
    while page["metadata"].get("continue"):
        page = (await api.get(api.at("configmaps"), **{**query, "continue": page["metadata"]["continue"]})).body
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        seen += [o["metadata"]["name"] for o in page["items"]]
    assert seen == list("abcde")
    assert (await api.get(api.at("configmaps"), **{"continue": "rubbish"})).code == 400


async def test_watch_goes_on_from_a_list(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
    version = (await api.get(api.at("configmaps"))).body["metadata"]["resourceVersion"]
    await api.create(api.at("configmaps"), config_map("a"))
    await api.patch(api.at("configmaps", "a"), {"data": {"x": "1"}})
    await api.delete(api.at("configmaps", "a"))
    events = await api.watch(api.at("configmaps"), until=3, resourceVersion=version)
    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(versions)
    assert len(set(versions)) == 3


async def test_watch_hears_what_happens_after_it_began(api: Api) -> None:
    version = (await api.get(api.at("configmaps"))).body["metadata"]["resourceVersion"]
    watching = asyncio.ensure_future(api.watch(api.at("configmaps"), until=1, resourceVersion=version))
    await api.create(api.at("configmaps"), config_map("later"))
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in await watching] == [("ADDED", "later")]


async def test_object_that_enters_and_leaves_a_selection_is_added_and_deleted(api: Api) -> None:
    made = await api.create(api.at("configmaps"), config_map("a"))
    version = made.body["metadata"]["resourceVersion"]
    await api.patch(api.at("configmaps", "a"), {"metadata": {"labels": {"tier": "x"}}})
    await api.patch(api.at("configmaps", "a"), {"metadata": {"labels": {"tier": "y"}}})
    events = await api.watch(api.at("configmaps"), until=2, resourceVersion=version, labelSelector="tier=x")
    assert [e["type"] for e in events] == ["ADDED", "DELETED"]


async def test_watch_can_begin_with_the_state_and_say_when_it_is_complete(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists
    await api.create(api.at("configmaps"), config_map("a", {"mine": "1"}))
    events = await api.watch(
        api.at("configmaps"),
        until=2,
        sendInitialEvents="true",
        allowWatchBookmarks="true",
        resourceVersionMatch="NotOlderThan",
        labelSelector="mine",
    )
    assert [e["type"] for e in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(events[1]["object"]["metadata"]["resourceVersion"])


async def test_initial_events_need_the_match_that_goes_with_them(api: Api) -> None:
    refused = await api.get(api.at("configmaps"), watch="true", sendInitialEvents="true")
    assert (refused.code, refused.reason) == (422, "Invalid")


async def test_table_has_the_columns_that_kubectl_shows(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
    await api.create(api.at("deployments", group="apps"), deployment("web"))
    table = (await api.get(api.at("deployments", group="apps"), TABLE)).body
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    shown = [c["name"] for c in table["columnDefinitions"] if c["priority"] == 0]
    assert shown == ["Name", "Ready", "Up-to-date", "Available", "Age"]
    assert table["rows"][0]["cells"][:4] == ["web", "0/0", 0, 0]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_watch_can_be_a_table_too(api: Api) -> None:
    await api.create(api.at("pods"), pod("a"))
    events = await api.watch(api.at("pods"), until=1, accept=TABLE)
    assert (events[0]["type"], events[0]["object"]["kind"]) == ("ADDED", "Table")
    assert events[0]["object"]["rows"][0]["cells"][0] == "a"


async def test_discovery_tells_resources_both_ways(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
    plain = (await api.get("/apis/apps/v1")).body
    entry = next(r for r in plain["resources"] if r["name"] == "deployments")
    assert (entry["kind"], entry["namespaced"], "deploy" in entry["shortNames"]) == ("Deployment", True, True)
    assert {"deployments/scale", "deployments/status"} <= {r["name"] for r in plain["resources"]}
    whole = await api.get("/apis", AGGREGATED)
    assert "as=APIGroupDiscoveryList" in whole.headers["Content-Type"]
    apps = next(g for g in whole.body["items"] if g["metadata"]["name"] == "apps")
    found = next(r for r in apps["versions"][0]["resources"] if r["resource"] == "deployments")
    assert {s["subresource"] for s in found["subresources"]} == {"scale", "status"}


async def test_openapi_describes_what_clients_merge_by(api: Api) -> None:
    paths = (await api.get("/openapi/v3")).body["paths"]
    assert {"api/v1", "apis/apps/v1"} <= set(paths)
    document = (await api.get(paths["api/v1"]["serverRelativeURL"])).body
    schemas = document["components"]["schemas"]
    spec = next(s for name, s in schemas.items() if name.endswith(".PodSpec"))
    assert spec["properties"]["containers"]["x-kubernetes-patch-merge-key"] == "name"
    pods = next(s for name, s in schemas.items() if name.endswith(".Pod"))
    assert pods["x-kubernetes-group-version-kind"] == [{"group": "", "kind": "Pod", "version": "v1"}]
