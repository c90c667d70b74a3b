"""Roles, bindings and what holders of service accounts' tokens may do by them.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.contract import APPLY, Answer, Api, config_map, pod

RBAC = {"group": "rbac.authorization.k8s.io"}
API_GROUP = "rbac.authorization.k8s.io"
REVIEWS = "/apis/authorization.k8s.io/v1"
CLUSTER = f"/apis/{API_GROUP}/v1"


class Robot:
    """A service account of this test's namespace, and requests with its token."""

    def __init__(self, api: Api, token: str) -> None:
        self.api = api
        self.token = token
        self.subject = {"kind": "ServiceAccount", "name": "robot", "namespace": api.namespace}
        self.user = f"system:serviceaccount:{api.namespace}:robot"

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.api.request(method, path, body, token=self.token, **more)

    async def code(self, method: str, path: str, body: Any = None, **more: Any) -> int:
        return (await self.send(method, path, body, **more)).code

    async def grant(self, *rules: dict[str, Any], name: str = "given", subject: Any = None) -> None:
        """Give the account a Role with these rules."""
        api = self.api
        made = await api.create(api.at("roles", **RBAC), {"metadata": {"name": name}, "rules": list(rules)})
        assert made.code == 201, made.body
        await self.bind("Role", name, subject=subject)

    async def bind(self, kind: str, role: str, *, subject: Any = None) -> None:
        reference = {"apiGroup": API_GROUP, "kind": kind, "name": role}
        body = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject or self.subject]}
        made = await self.api.create(self.api.at("rolebindings", **RBAC), body)
        assert made.code == 201, made.body

    async def can(self, **attributes: str) -> dict[str, Any]:
        """Return the status of a SelfSubjectAccessReview."""
        body = {"spec": {"resourceAttributes": {"namespace": self.api.namespace, **attributes}}}
        status: dict[str, Any] = (await self.send("POST", f"{REVIEWS}/selfsubjectaccessreviews", body)).body["status"]
        return status


@pytest.fixture
async def robot(api: Api) -> Robot:
    await api.create(api.at("serviceaccounts"), {"metadata": {"name": "robot"}})
    made = await api.create(api.at("serviceaccounts", "robot", "token"), {"spec": {"expirationSeconds": 3600}})
    robot = Robot(api, made.body["status"]["token"])
    if (await robot.can(verb="list", resource="secrets"))["allowed"]:
        pytest.skip("this cluster does not enforce roles")
    return robot


def rule(resources: str, verbs: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources.split(","), "verbs": verbs.split(","), **more}


async def test_nothing_is_allowed_that_nobody_gave(robot: Robot) -> None:
    refused = await robot.send("GET", robot.api.at("configmaps"))
    assert (refused.code, refused.reason) == (403, "Forbidden")
    where = f'in the namespace "{robot.api.namespace}"'
    want = f'User "{robot.user}" cannot list resource "configmaps" in API group "" {where}'
    assert want in refused.body["message"]


async def test_role_gives_its_verbs_in_its_namespace(robot: Robot) -> None:
    api = robot.api
    await robot.grant(rule("configmaps", "get,list,watch,create"))
    assert await robot.code("POST", api.at("configmaps"), config_map("a")) == 201
    assert await robot.code("GET", api.at("configmaps", "a")) == 200
    assert await robot.code("GET", api.at("configmaps")) == 200
    assert await robot.code("GET", api.at("configmaps"), query={"watch": "1", "timeoutSeconds": "1"}) == 200
    assert await robot.code("DELETE", api.at("configmaps", "a")) == 403
    assert await robot.code("DELETE", api.at("configmaps")) == 403
    assert await robot.code("GET", api.at("secrets")) == 403
    assert await robot.code("GET", "/api/v1/configmaps") == 403
    assert await robot.code("GET", "/api/v1/namespaces/default/configmaps") == 403


async def test_right_is_lost_with_its_binding(robot: Robot) -> None:
    api = robot.api
    await robot.grant(rule("configmaps", "list"))
    assert await robot.code("GET", api.at("configmaps")) == 200
    await api.delete(api.at("rolebindings", "given", **RBAC))
    assert await robot.code("GET", api.at("configmaps")) == 403


async def test_names_narrow_a_rule(robot: Robot) -> None:
    # #referring-to-resources
    api = robot.api
    for name in "ab":
        await api.create(api.at("configmaps"), config_map(name))
    await robot.grant(rule("configmaps", "get,update,patch,delete", resourceNames=["a"]))
    assert await robot.code("GET", api.at("configmaps", "a")) == 200
    assert await robot.code("GET", api.at("configmaps", "b")) == 403
    assert await robot.code("PATCH", api.at("configmaps", "b"), {}, media="application/merge-patch+json") == 403
    assert await robot.code("GET", api.at("configmaps")) == 403


async def test_subresources_are_given_by_themselves(robot: Robot) -> None:
    api = robot.api
    await api.ready()
    await api.create(api.at("pods"), pod("p"))
    await robot.grant(rule("pods", "get,patch"), rule("deployments/scale", "get", "apps"))
    merge = {"media": "application/merge-patch+json"}
    assert await robot.code("PATCH", api.at("pods", "p"), {"metadata": {"labels": {"a": "b"}}}, **merge) == 200
    assert await robot.code("PATCH", api.at("pods", "p", "status"), {"status": {"reason": "x"}}, **merge) == 403
    assert await robot.code("GET", api.at("deployments", "none", "scale", group="apps")) == 404
    assert await robot.code("GET", api.at("deployments", "none", group="apps")) == 403


async def test_apply_of_what_is_not_there_needs_create(robot: Robot) -> None:
    # /docs/reference/using-api/server-side-apply/#rbac-and-permissions
    api = robot.api
    await robot.grant(rule("configmaps", "patch"))
    apply = {"media": APPLY, "query": {"fieldManager": "robot"}}
    assert await robot.code("PATCH", api.at("configmaps", "a"), config_map("a"), **apply) == 403
    await api.create(api.at("configmaps"), config_map("a"))
    assert await robot.code("PATCH", api.at("configmaps", "a"), config_map("a", x="1"), **apply) == 200


async def test_star_is_everything(robot: Robot) -> None:
    api = robot.api
    await robot.grant({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})
    assert await robot.code("POST", api.at("configmaps"), config_map("a")) == 201
    assert await robot.code("GET", api.at("deployments", group="apps")) == 200
    assert await robot.code("GET", "/api/v1/nodes") == 403


async def test_cluster_role_is_given_in_one_namespace(robot: Robot) -> None:
    # #rolebinding-and-clusterrolebinding: the default role `view` reads, but no secrets
    api = robot.api
    await robot.bind("ClusterRole", "view")
    assert await robot.code("GET", api.at("configmaps")) == 200
    assert await robot.code("GET", api.at("deployments", group="apps")) == 200
    assert await robot.code("GET", api.at("secrets")) == 403
    assert await robot.code("POST", api.at("configmaps"), config_map("a")) == 403
    assert await robot.code("GET", "/api/v1/namespaces/default/configmaps") == 403


async def test_editor_writes_but_gives_no_rights(robot: Robot) -> None:
    # #user-facing-roles
    api = robot.api
    await robot.bind("ClusterRole", "edit")
    assert await robot.code("POST", api.at("configmaps"), config_map("a")) == 201
    assert await robot.code("GET", api.at("secrets")) == 200
    assert await robot.code("GET", api.at("roles", **RBAC)) == 403


async def test_cluster_role_binding_gives_everywhere(robot: Robot) -> None:
    api, name = robot.api, robot.api.namespace
    reference = {"apiGroup": API_GROUP, "kind": "ClusterRole", "name": name}
    rules = [rule("nodes", "list"), {"nonResourceURLs": ["/healthz/pybrix"], "verbs": ["get"]}]
    try:
        await api.create(f"{CLUSTER}/clusterroles", {"metadata": {"name": name}, "rules": rules})
        binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [robot.subject]}
        assert (await api.create(f"{CLUSTER}/clusterrolebindings", binding)).code == 201
        assert await robot.code("GET", "/api/v1/nodes") == 200
        assert await robot.code("GET", "/api/v1/nodes/none") == 403
    finally:
        await api.delete(f"{CLUSTER}/clusterrolebindings/{name}")
        await api.delete(f"{CLUSTER}/clusterroles/{name}")


async def test_roles_are_aggregated_by_labels(robot: Robot) -> None:
    # #aggregated-clusterroles
    api, name = robot.api, robot.api.namespace
    part = {"metadata": {"name": f"{name}-part", "labels": {name: "yes"}}, "rules": [rule("secrets", "list")]}
    whole = {"metadata": {"name": name}, "rules": []}
    whole["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {name: "yes"}}]}
    try:
        await api.create(f"{CLUSTER}/clusterroles", whole)
        await robot.bind("ClusterRole", name)
        assert await robot.code("GET", api.at("secrets")) == 403
        await api.create(f"{CLUSTER}/clusterroles", part)

        async def is_allowed() -> bool:
            return await robot.code("GET", api.at("secrets")) == 200

        await api.until(is_allowed)
    finally:
        for role in (name, f"{name}-part"):
            await api.delete(f"{CLUSTER}/clusterroles/{role}")


@pytest.mark.parametrize(
    "group", ["system:serviceaccounts", "system:serviceaccounts:NAMESPACE", "system:authenticated"]
)
async def test_groups_of_service_accounts(robot: Robot, group: str) -> None:
    # #service-account-permissions
    subject = {"kind": "Group", "apiGroup": API_GROUP, "name": group.replace("NAMESPACE", robot.api.namespace)}
    await robot.grant(rule("configmaps", "list"), subject=subject)
    assert await robot.code("GET", robot.api.at("configmaps")) == 200


async def test_everyone_may_ask_what_there_is_and_who_they_are(robot: Robot) -> None:
    # #default-roles-and-role-bindings: system:discovery, system:basic-user
    for path in ("/api", "/apis", "/apis/apps/v1", "/version", "/openapi/v3", "/healthz"):
        assert await robot.code("GET", path) == 200, path
    assert await robot.code("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}) == 201


# #privilege-escalation-prevention-and-bootstrapping


async def test_nobody_writes_a_role_with_more_than_they_have(robot: Robot) -> None:
    api = robot.api
    await robot.grant(rule("roles", "create", API_GROUP), rule("configmaps", "get,list"))
    fine = {"metadata": {"name": "fine"}, "rules": [rule("configmaps", "list")]}
    assert await robot.code("POST", api.at("roles", **RBAC), fine) == 201
    more = {"metadata": {"name": "more"}, "rules": [rule("configmaps", "list,delete")]}
    refused = await robot.send("POST", api.at("roles", **RBAC), more)
    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert "attempting to grant RBAC permissions not currently held" in refused.body["message"]


async def test_nobody_binds_a_role_with_more_than_they_have(robot: Robot) -> None:
    api = robot.api
    await robot.grant(rule("rolebindings", "create", API_GROUP))
    reference = {"apiGroup": API_GROUP, "kind": "ClusterRole", "name": "view"}
    body = {"metadata": {"name": "more"}, "roleRef": reference, "subjects": [robot.subject]}
    assert await robot.code("POST", api.at("rolebindings", **RBAC), body) == 403
    await robot.grant(rule("clusterroles", "bind", API_GROUP, resourceNames=["view"]), name="binder")
    assert await robot.code("POST", api.at("rolebindings", **RBAC), body) == 201


async def test_escalation_can_be_allowed(robot: Robot) -> None:
    await robot.grant(rule("roles", "create,escalate", API_GROUP))
    more = {"metadata": {"name": "more"}, "rules": [rule("secrets", "*")]}
    assert await robot.code("POST", robot.api.at("roles", **RBAC), more) == 201


# /docs/reference/access-authn-authz/authorization/#checking-api-access


async def test_review_of_oneself(robot: Robot) -> None:
    await robot.grant(rule("configmaps", "get"))
    allowed = await robot.can(verb="get", resource="configmaps")
    assert (allowed["allowed"], "RBAC: allowed by" in allowed["reason"]) == (True, True)
    assert not (await robot.can(verb="delete", resource="configmaps"))["allowed"]
    assert not (await robot.can(verb="get", resource="configmaps", group="apps"))["allowed"]


async def test_review_of_somebody_else(robot: Robot) -> None:
    api = robot.api
    await robot.grant(rule("configmaps", "get"))
    about = {"namespace": api.namespace, "verb": "get", "resource": "configmaps"}
    body = {"spec": {"user": robot.user, "resourceAttributes": about}}
    assert (await api.create(f"{REVIEWS}/subjectaccessreviews", body)).body["status"]["allowed"]
    body["spec"]["user"] = "nobody"
    assert not (await api.create(f"{REVIEWS}/subjectaccessreviews", body)).body["status"]["allowed"]
    assert await robot.code("POST", f"{REVIEWS}/subjectaccessreviews", body) == 403
    local = api.at("localsubjectaccessreviews", group="authorization.k8s.io")
    body["spec"]["user"] = robot.user
    assert (await api.create(local, body)).body["status"]["allowed"]


async def test_rules_are_listed(robot: Robot) -> None:
    await robot.grant(rule("configmaps", "get,list"))
    body = {"spec": {"namespace": robot.api.namespace}}
    status = (await robot.send("POST", f"{REVIEWS}/selfsubjectrulesreviews", body)).body["status"]
    assert {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]} in status["resourceRules"]
    assert status["incomplete"] in (True, False)


@pytest.mark.parametrize("spec", [{}, {"resourceAttributes": {}, "nonResourceAttributes": {"path": "/"}}])
async def test_review_is_about_one_thing(api: Api, spec: Any) -> None:
    assert (await api.create(f"{REVIEWS}/selfsubjectaccessreviews", {"spec": spec})).code in (400, 422)


async def test_token_is_reviewed(robot: Robot) -> None:
    # /docs/reference/kubernetes-api/authentication-resources/token-review-v1/
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    status = (await robot.api.create(path, {"spec": {"token": robot.token}})).body["status"]
    assert (status["authenticated"], status["user"]["username"]) == (True, robot.user)
    wrong = (await robot.api.create(path, {"spec": {"token": robot.token[:-4]}})).body["status"]
    assert not wrong.get("authenticated")


# /docs/reference/access-authn-authz/authentication/#user-impersonation


async def test_acting_as_somebody_else(robot: Robot) -> None:
    api = robot.api
    await robot.grant(rule("configmaps", "list"))
    acting = {"Impersonate-User": robot.user}
    assert (await api.request("GET", api.at("configmaps"), headers=acting)).code == 200
    assert (await api.request("GET", api.at("secrets"), headers=acting)).code == 403
    who = await api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, headers=acting)
    assert who.body["status"]["userInfo"]["username"] == robot.user
    assert await robot.code("GET", api.at("configmaps"), headers={"Impersonate-User": "somebody"}) == 403


async def test_groups_are_taken_on_with_a_user_only(api: Api) -> None:
    alone = await api.request("GET", "/api", headers={"Impersonate-Group": "system:masters"})
    assert alone.code in (400, 500)
