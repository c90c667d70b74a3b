"""What the built-in kinds default, refuse and forbid to change; custom kinds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.contract import STRATEGIC, TABLE, Answer, Api, deployment, pod

APPS = {"group": "apps"}


def causes(answer: Answer) -> list[str]:
    assert (answer.code, answer.reason) == (422, "Invalid"), answer.body
    return sorted(c["field"] for c in answer.body["details"]["causes"])


async def test_pod_gets_its_defaults(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/workloads/pods/
    body = pod("p", "nginx")
    body["spec"]["containers"][0] |= {
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}},
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }
    made = (await api.create(api.at("pods"), body)).body
    spec, container = made["spec"], made["spec"]["containers"][0]
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["terminationGracePeriodSeconds"]) == (
        "Always",
        "ClusterFirst",
        30,
    )
    assert spec["serviceAccountName"] == "default"
    assert container["imagePullPolicy"] == "Always"
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    probe = container["readinessProbe"]
    assert (probe["periodSeconds"], probe["failureThreshold"], probe["httpGet"]["scheme"]) == (10, 3, "HTTP")
    assert (made["status"]["phase"], made["status"]["qosClass"]) == ("Pending", "Guaranteed")


async def test_pod_without_what_it_needs_is_invalid(api: Api) -> None:
    body = pod("p")
    body["spec"]["containers"] = [
        {"name": "Bad_Name", "image": "x", "ports": [{"containerPort": 0}]},
        {"name": "b", "image": "x", "volumeMounts": [{"name": "nope", "mountPath": "/x"}]},
    ]
    fields = causes(await api.create(api.at("pods"), body))
    assert "spec.containers[0].name" in fields
    assert "spec.containers[1].volumeMounts[0].name" in fields
    empty = {**pod("p"), "spec": {"containers": []}}
    assert causes(await api.create(api.at("pods"), empty)) == ["spec.containers"]


@pytest.mark.parametrize(
    ("toleration", "field"),
    [
        ({"operator": "Equal", "value": "a"}, "operator"),
        ({"key": "a b", "operator": "Exists"}, "key"),
        ({"key": "a", "operator": "Exists", "tolerationSeconds": 1}, "effect"),
        ({"key": "a", "operator": "Exists", "value": "b"}, "operator"),
        ({"key": "a", "operator": "Sometimes"}, "operator"),
        ({"key": "a", "value": "not a label"}, "value"),
        ({"key": "a", "operator": "Exists", "effect": "NoFun"}, "effect"),
    ],
)
async def test_toleration_that_fits_no_taint_is_invalid(api: Api, toleration: dict[str, Any], field: str) -> None:
    # https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
    refused = await api.create(api.at("pods"), pod("p", tolerations=[toleration]))
    assert causes(refused) == [f"spec.tolerations[0].{field}"]


async def test_pods_get_tolerations_of_nodes_that_are_away_for_a_while(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
    own = {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5}
    made = await api.create(api.at("pods"), pod("p", tolerations=[own]))
    found = {t["key"]: t for t in made.body["spec"]["tolerations"]}
    assert found["a"]["tolerationSeconds"] == 5
    for name in ("not-ready", "unreachable"):
        added = found[f"node.kubernetes.io/{name}"]
        assert (added["effect"], added["operator"], added["tolerationSeconds"]) == ("NoExecute", "Exists", 300)


async def test_pod_may_change_its_image_and_hardly_more(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/workloads/pods/#pod-update-and-replacement
    await api.create(api.at("pods"), pod("p"))
    image = {"spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]}}
    assert (await api.patch(api.at("pods", "p"), image, STRATEGIC)).code == 200
    command = {"spec": {"containers": [{"name": "main", "command": ["sleep"]}]}}
    assert causes(await api.patch(api.at("pods", "p"), command, STRATEGIC)) == ["spec"]


async def test_pod_that_runs_nowhere_is_deleted_at_once(api: Api) -> None:
    await api.create(api.at("pods"), pod("p"))
    assert (await api.delete(api.at("pods", "p"))).code == 200
    assert (await api.get(api.at("pods", "p"))).code == 404


async def test_deployment_gets_its_defaults(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
    spec = (await api.create(api.at("deployments", **APPS), deployment("web"))).body["spec"]
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)
    body = deployment("two", replicas=None)
    assert (await api.create(api.at("deployments", **APPS), body, dryRun="All")).body["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("change", "want"),
    [
        pytest.param({"selector": {"matchLabels": {"app": "x"}}}, "spec.template.metadata.labels", id="labels differ"),
        pytest.param({"replicas": -1}, "spec.replicas", id="negative replicas"),
        pytest.param({"strategy": {"type": "Sideways"}}, "spec.strategy.type", id="unknown strategy"),
    ],
)
async def test_wrong_deployment_is_invalid(api: Api, change: dict[str, Any], want: str) -> None:
    body = deployment("web")
    body["spec"] |= change
    assert causes(await api.create(api.at("deployments", **APPS), body)) == [want]


async def test_selector_of_a_deployment_never_changes(api: Api) -> None:
    await api.create(api.at("deployments", **APPS), deployment("web"))
    labels = {"app": "other"}
    patch = {"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}}
    assert causes(await api.patch(api.at("deployments", "web", **APPS), patch)) == ["spec.selector"]


async def test_service_gets_an_address_that_it_keeps(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/services-networking/service/
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    spec = (await api.create(api.at("services"), body)).body["spec"]
    assert (spec["type"], spec["sessionAffinity"], spec["ports"][0]["targetPort"]) == ("ClusterIP", "None", 80)
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    again = await api.put(api.at("services", "web"), body)
    assert again.body["spec"]["clusterIP"] == spec["clusterIP"]
    other = {**body, "metadata": {"name": "two"}}
    assert (await api.create(api.at("services"), other)).body["spec"]["clusterIP"] != spec["clusterIP"]
    headless = {**body, "metadata": {"name": "none"}, "spec": {**body["spec"], "clusterIP": "None"}}  # type: ignore[dict-item]
    assert (await api.create(api.at("services"), headless)).body["spec"]["clusterIP"] == "None"


async def test_secret_stores_plain_text_as_base64(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/configuration/secret/
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "value"}}
    made = (await api.create(api.at("secrets"), body)).body
    assert (made["data"], made["type"], "stringData" in made) == ({"key": "dmFsdWU="}, "Opaque", False)


async def test_immutable_config_map_stays_as_it_is(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x": "1"}, "immutable": True}
    await api.create(api.at("configmaps"), body)
    assert causes(await api.patch(api.at("configmaps", "c"), {"data": {"x": "2"}})) == ["data"]


async def test_namespace_that_ends_takes_nothing_new(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
    blocker = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["pybrix.ai/held"]}}
    await api.create(api.at("configmaps"), blocker)
    ended = await api.delete(f"/api/v1/namespaces/{api.namespace}")
    assert (ended.code, ended.body["status"]["phase"]) == (200, "Terminating")
    late = await api.create(api.at("configmaps"), {**blocker, "metadata": {"name": "late"}})
    assert (late.code, late.reason) == (403, "Forbidden")
    assert late.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    await api.patch(api.at("configmaps", "held"), {"metadata": {"finalizers": None}})


async def test_custom_kind_is_served_once_it_is_established(api: Api) -> None:
    # https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
    group = f"{api.namespace}.pybrix.ai"
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {
                                        "size": {"type": "integer"},
                                        "parts": {
                                            "type": "array",
                                            "x-kubernetes-list-type": "map",
                                            "x-kubernetes-list-map-keys": ["name"],
                                            "items": {
                                                "type": "object",
                                                "required": ["name"],
                                                "properties": {
                                                    "name": {"type": "string"},
                                                    "n": {"type": "integer"},
                                                },
                                            },
                                        },
                                    },
                                },
                                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            },
                        }
                    },
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                    },
                    "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                }
            ],
        },
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    made = await api.create(definitions, crd)
    assert made.code == 201
    try:
        await check_widgets(api, group)
    finally:
        assert (await api.delete(f"{definitions}/widgets.{group}")).code == 200
    async with asyncio.timeout(60):
        while (await api.get(f"{definitions}/widgets.{group}")).code != 404:  # noqa: ASYNC110 - HTTP has no event
            await asyncio.sleep(0.05)
    assert (await api.get(api.at("widgets", group=group))).code == 404


async def check_widgets(api: Api, group: str) -> None:
    path, one = api.at("widgets", group=group), api.at("widgets", "w", group=group)
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}"
    async with asyncio.timeout(60):
        while True:
            conditions = (await api.get(definition)).body.get("status", {}).get("conditions", [])
            if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
                break
            await asyncio.sleep(0.05)
        body = {
            "apiVersion": f"{group}/v1",
            "kind": "Widget",
            "metadata": {"name": "w"},
            "spec": {"size": 3, "parts": [{"name": "a", "n": 1}]},
            "status": {"size": 9},
        }
        while (made := await api.create(path, body)).code == 404:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert made.code == 201
    assert ("status" in made.body, made.body["metadata"]["generation"]) == (False, 1)
    written = await api.patch(one + "/status", {"status": {"size": 2}, "spec": {"size": 8}})
    assert (written.body["status"], written.body["spec"]["size"]) == ({"size": 2}, 3)
    assert written.body["metadata"]["generation"] == 1
    changed = await api.patch(one, {"spec": {"size": 4}})
    assert changed.body["metadata"]["generation"] == 2
    scale = (await api.get(one + "/scale")).body
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (4, 2)
    assert (await api.patch(one, {"spec": {}}, STRATEGIC)).code == 415
    blind = await api.put(one, {**body, "spec": {"size": 1}})
    assert (blind.code, blind.reason) == (422, "Invalid")
    table = (await api.get(path, TABLE)).body
    assert [c["name"] for c in table["columnDefinitions"]][:2] == ["Name", "Size"]
    assert table["rows"][0]["cells"][:2] == ["w", 4]
    part = {**body, "spec": {"parts": [{"name": "b", "n": 2}]}}
    part.pop("status")
    applied = await api.patch(one, part, "application/apply-patch+yaml", fieldManager="two")
    assert [p["name"] for p in applied.body["spec"]["parts"]] == ["a", "b"]
