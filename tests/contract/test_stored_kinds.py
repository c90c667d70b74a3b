"""Kinds that installations bring along: roles, budgets, policies, autoscalers. What is filled in, refused and shown.

https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.contract import APPLY, MERGE, TABLE, Answer, Api, deployment

RBAC, NETWORK, POLICY = "rbac.authorization.k8s.io", "networking.k8s.io", "policy"


def manifest(group: str, version: str, kind: str, **rest: Any) -> dict[str, Any]:
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": "it"}, **rest}


def role(*rules: dict[str, Any]) -> dict[str, Any]:
    return manifest(RBAC, "v1", "Role", rules=list(rules))


def role_binding(role: dict[str, Any], *subjects: dict[str, Any]) -> dict[str, Any]:
    return manifest(RBAC, "v1", "RoleBinding", roleRef=role, subjects=list(subjects))


READ_PODS = {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"]}
BACKEND = {"service": {"name": "web", "port": {"name": "http"}}}
PATH = {"path": "/", "pathType": "Prefix", "backend": BACKEND}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
SCALED = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}

APPLIED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "role": ("roles", RBAC, role(READ_PODS)),
    "role binding": (
        "rolebindings",
        RBAC,
        role_binding(
            {"kind": "Role", "name": "reader"},
            {"kind": "User", "name": "ada"},
            {"kind": "ServiceAccount", "name": "default", "namespace": "default"},
        ),
    ),
    "budget": (
        "poddisruptionbudgets",
        POLICY,
        manifest(POLICY, "v1", "PodDisruptionBudget", spec={"minAvailable": "50%", "selector": {}}),
    ),
    "network policy": (
        "networkpolicies",
        NETWORK,
        manifest(
            NETWORK,
            "v1",
            "NetworkPolicy",
            spec={"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}], "egress": [{}]},
        ),
    ),
    "ingress": (
        "ingresses",
        NETWORK,
        manifest(NETWORK, "v1", "Ingress", spec={"rules": [{"host": "a.example", "http": {"paths": [PATH]}}]}),
    ),
    "autoscaler": (
        "horizontalpodautoscalers",
        "autoscaling",
        manifest(
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            spec={"scaleTargetRef": SCALED, "maxReplicas": 3, "behavior": {"scaleDown": {}}},
        ),
    ),
    "service account": (
        "serviceaccounts",
        "",
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "it"},
            "automountServiceAccountToken": False,
        },
    ),
    "service": (
        "services",
        "",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "it"},
            "spec": {"selector": {"app": "it"}, "ports": [{"port": 80}]},
        },
    ),
    "deployment": ("deployments", "apps", deployment("it", replicas=None)),
}


async def applied(api: Api, plural: str, group: str, body: dict[str, Any]) -> Answer:
    version = body["apiVersion"].rpartition("/")[2]
    path = api.at(plural, body["metadata"]["name"], group=group, version=version)
    return await api.patch(path, body, APPLY, fieldManager="test", fieldValidation="Strict")


@pytest.mark.parametrize(("plural", "group", "body"), APPLIED.values(), ids=APPLIED)
async def test_applying_twice_changes_nothing(api: Api, plural: str, group: str, body: dict[str, Any]) -> None:
    # https://kubernetes.io/docs/reference/using-api/server-side-apply/
    first = await applied(api, plural, group, body)
    assert first.code == 201, first.body
    assert "Warning" not in first.headers
    second = await applied(api, plural, group, body)
    assert second.code == 200
    before, after = first.body["metadata"], second.body["metadata"]
    # Controllers may write a status in between; what was applied stays as it was.
    managed = [[e for e in m["managedFields"] if e["manager"] == "test"] for m in (before, after)]
    assert managed[0] == managed[1]
    assert {k: v for k, v in first.body.items() if k not in ("metadata", "status")} == {
        k: v for k, v in second.body.items() if k not in ("metadata", "status")
    }


async def created(api: Api, plural: str, group: str, body: dict[str, Any]) -> Answer:
    version = body["apiVersion"].rpartition("/")[2]
    return await api.create(api.at(plural, group=group, version=version), body)


async def test_defaults(api: Api) -> None:
    made = {name: (await created(api, *APPLIED[name])).body for name in APPLIED}
    assert made["role binding"]["roleRef"]["apiGroup"] == RBAC
    assert [s.get("apiGroup", "") for s in made["role binding"]["subjects"]] == [RBAC, ""]
    spec = made["network policy"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]
    spec = made["autoscaler"]["spec"]
    assert spec["minReplicas"] == 1
    assert spec["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}
    assert spec["behavior"]["scaleDown"]["selectPolicy"] == "Max"
    assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert made["budget"]["metadata"]["generation"] == 1


REFUSED: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "a role without verbs": ("roles", RBAC, role({"apiGroups": [""], "resources": ["pods"]}), ["rules[0].verbs"]),
    "a role without groups": ("roles", RBAC, role({"resources": ["pods"], "verbs": ["get"]}), ["rules[0].apiGroups"]),
    "a role with paths": (
        "roles",
        RBAC,
        role({"nonResourceURLs": ["/metrics"], "verbs": ["get"]}),
        ["rules[0].nonResourceURLs"],
    ),
    "a binding to nothing": (
        "rolebindings",
        RBAC,
        role_binding({"kind": "Rule", "name": ""}),
        ["roleRef.kind", "roleRef.name"],
    ),
    "a binding of an unknown kind": (
        "rolebindings",
        RBAC,
        role_binding({"kind": "Role", "name": "r"}, {"kind": "Machine", "name": "m"}),
        ["subjects[0].kind"],
    ),
    "a budget of two minds": (
        "poddisruptionbudgets",
        POLICY,
        manifest(POLICY, "v1", "PodDisruptionBudget", spec={"minAvailable": 1, "maxUnavailable": 1}),
        ["spec"],
    ),
    "a budget above all": (
        "poddisruptionbudgets",
        POLICY,
        manifest(POLICY, "v1", "PodDisruptionBudget", spec={"maxUnavailable": "101%"}),
        ["spec.maxUnavailable"],
    ),
    "a network policy for a wrong range": (
        "networkpolicies",
        NETWORK,
        manifest(
            NETWORK,
            "v1",
            "NetworkPolicy",
            spec={"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]},
        ),
        ["spec.ingress[0].from[0].ipBlock.cidr"],
    ),
    "an ingress without rules": (
        "ingresses",
        NETWORK,
        manifest(NETWORK, "v1", "Ingress", spec={"ingressClassName": "x"}),
        ["spec"],
    ),
    "an autoscaler the wrong way round": (
        "horizontalpodautoscalers",
        "autoscaling",
        manifest(
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            spec={"scaleTargetRef": SCALED, "minReplicas": 3, "maxReplicas": 2, "metrics": [CPU]},
        ),
        ["spec.maxReplicas"],
    ),
}


@pytest.mark.parametrize(("plural", "group", "body", "fields"), REFUSED.values(), ids=REFUSED)
async def test_refused_with_the_field(
    api: Api, plural: str, group: str, body: dict[str, Any], fields: list[str]
) -> None:
    answer = await created(api, plural, group, body)
    assert (answer.code, answer.reason) == (422, "Invalid"), answer.body
    assert sorted({c["field"] for c in answer.body["details"]["causes"]}) == fields


async def test_the_role_of_a_binding_cannot_be_changed(api: Api) -> None:
    # https://kubernetes.io/docs/reference/access-authn-authz/rbac/#clusterrolebinding-example
    path = api.at("rolebindings", "it", group=RBAC)
    await created(api, "rolebindings", RBAC, role_binding({"kind": "Role", "name": "a"}))
    answer = await api.patch(path, {"roleRef": {"name": "b"}}, MERGE)
    assert (answer.code, answer.body["details"]["causes"][0]["field"]) == (422, "roleRef")


async def test_names_of_roles_may_have_colons(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#path-segment-names
    body = {**role(READ_PODS), "metadata": {"name": "system:reader"}}
    assert (await created(api, "roles", RBAC, body)).code == 201
    assert (await api.get(api.at("roles", "system:reader", group=RBAC))).body["metadata"]["name"] == "system:reader"


@pytest.mark.parametrize(
    ("name", "columns", "cells"),
    [
        ("role binding", ["Name", "Role"], ["it", "Role/reader"]),
        ("budget", ["Name", "Min Available", "Max Unavailable"], ["it", "50%", "N/A"]),
        ("network policy", ["Name", "Pod-Selector"], ["it", "<none>"]),
        ("ingress", ["Name", "Class", "Hosts"], ["it", "<none>", "a.example"]),
        ("autoscaler", ["Name", "Reference"], ["it", "Deployment/web"]),
    ],
    ids=["role binding", "budget", "network policy", "ingress", "autoscaler"],
)
async def test_tables(api: Api, name: str, columns: list[str], cells: list[str]) -> None:
    plural, group, body = APPLIED[name]
    await created(api, plural, group, body)
    version = body["apiVersion"].rpartition("/")[2]
    table = (await api.get(api.at(plural, "it", group=group, version=version), accept=TABLE)).body
    assert [c["name"] for c in table["columnDefinitions"]][: len(columns)] == columns
    assert table["rows"][0]["cells"][: len(cells)] == cells


async def test_a_status_has_its_own_door(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#get-put-subresources
    await created(api, *APPLIED["autoscaler"])
    path = api.at("horizontalpodautoscalers", "it", "status", group="autoscaling", version="v2")
    assert (await api.patch(path, {"status": {"currentReplicas": 2, "desiredReplicas": 2}}, MERGE)).code == 200
    shown = await api.get(api.at("horizontalpodautoscalers", "it", group="autoscaling", version="v2"))
    assert shown.body["status"]["currentReplicas"] == 2
