"""https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.contract import MERGE, Api, config_map
from tests.support.customkinds import causes

BASE = "/apis/admissionregistration.k8s.io/v1"


def policy(name: str, *validations: dict[str, Any], **spec: Any) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": list(validations), **spec},
    }


def binding(api: Api, *actions: str) -> dict[str, Any]:
    selector = {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": api.namespace},
        "spec": {
            "policyName": api.namespace,
            "validationActions": list(actions),
            "matchResources": {"namespaceSelector": selector},
        },
    }


MARKER = {"expression": "!('probe' in object.metadata.?labels.orValue({}))", "message": "in force"}


@asynccontextmanager
async def in_force(
    api: Api,
    *validations: dict[str, Any],
    actions: tuple[str, ...] = ("Deny",),
    marker: dict[str, Any] = MARKER,
    **spec: Any,
) -> AsyncIterator[None]:
    """Bind a policy to this test's namespace; that it refuses a probe shows that it is in force."""
    made = await api.create(f"{BASE}/validatingadmissionpolicies", policy(api.namespace, marker, *validations, **spec))
    assert made.code == 201, made.body
    bound = await api.create(f"{BASE}/validatingadmissionpolicybindings", binding(api, *actions))
    assert bound.code == 201, bound.body
    try:
        probe = {**config_map("probe"), "metadata": {"name": "probe", "labels": {"probe": ""}}}
        async with asyncio.timeout(60):
            while True:
                tried = await api.create(api.at("configmaps"), probe, dryRun="All")
                if tried.code == 422 or "Warning" in tried.headers:
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        await api.delete(f"{BASE}/validatingadmissionpolicybindings/{api.namespace}")
        await api.delete(f"{BASE}/validatingadmissionpolicies/{api.namespace}")


ANNOTATED = {
    "expression": "variables.mode in ['a', 'b']",
    "messageExpression": "'mode must be a or b, not ' + variables.mode",
}
VARIABLES = [{"name": "mode", "expression": "object.metadata.?annotations.mode.orValue('a')"}]


def annotated(name: str, mode: str) -> dict[str, Any]:
    return {**config_map(name), "metadata": {"name": name, "annotations": {"mode": mode}}}


async def test_rule_on_an_annotation_denies(api: Api) -> None:
    async with in_force(api, ANNOTATED, variables=VARIABLES):
        path = api.at("configmaps")
        assert (await api.create(path, config_map("plain"))).code == 201
        assert (await api.create(path, annotated("good", "b"))).code == 201
        refused = await api.create(path, annotated("bad", "c"))
        assert (refused.code, refused.reason) == (422, "Invalid")
        assert causes(refused) == [("", "mode must be a or b, not c")]
        want = (
            f"ValidatingAdmissionPolicy '{api.namespace}' with binding '{api.namespace}' denied request: mode must be"
        )
        assert want in refused.body["message"]
        assert (await api.get(f"{path}/bad")).code == 404
        patched = await api.patch(f"{path}/good", {"metadata": {"annotations": {"mode": "c"}}}, MERGE)
        assert patched.code == 422
        # Deletions are not among the operations.
        assert (await api.delete(f"{path}/good")).code == 200


async def test_old_object_and_operation_are_seen(api: Api) -> None:
    rule = {
        "expression": "request.operation == 'CREATE' || object.data == oldObject.data",
        "message": "data stays",
        "reason": "Forbidden",
    }
    async with in_force(api, rule):
        path = api.at("configmaps")
        await api.create(path, config_map("a", x="1"))
        assert (await api.patch(f"{path}/a", {"metadata": {"labels": {"b": "c"}}}, MERGE)).code == 200
        refused = await api.patch(f"{path}/a", {"data": {"x": "2"}}, MERGE)
        assert (refused.code, refused.reason) == (403, "Forbidden")


async def test_deletion_has_an_old_object_only(api: Api) -> None:
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["DELETE", "CREATE"], "resources": ["configmaps"]}
    keep = {"expression": "request.operation != 'DELETE' || !('keep' in oldObject.data) || object != null"}
    marker = {"expression": "object == null || object.metadata.name != 'probe'"}
    constraints = {"resourceRules": [rule]}
    async with in_force(api, keep, marker=marker, matchConstraints=constraints):
        await api.create(api.at("configmaps"), config_map("a", keep="yes"))
        await api.create(api.at("configmaps"), config_map("b"))
        assert (await api.delete(api.at("configmaps", "a"))).code == 422
        assert (await api.delete(api.at("configmaps", "b"))).code == 200


async def test_match_conditions_narrow(api: Api) -> None:
    conditions = [
        {"name": "only-a", "expression": "object.metadata.name.startsWith('a') || object.metadata.name == 'probe'"}
    ]
    async with in_force(api, {"expression": "false"}, matchConditions=conditions):
        assert (await api.create(api.at("configmaps"), config_map("b"))).code == 201
        refused = await api.create(api.at("configmaps"), config_map("a"))
        assert (refused.code, causes(refused)) == (422, [("", "failed expression: false")])


async def test_warn_warns(api: Api) -> None:
    async with in_force(api, {"expression": "false", "message": "not nice"}, actions=("Warn",)):
        made = await api.create(api.at("configmaps"), config_map("a"))
        assert made.code == 201
        assert "not nice" in made.headers["Warning"]


@pytest.mark.parametrize(("failure_policy", "code"), [("Fail", 422), ("Ignore", 201)])
async def test_failure_policy_decides_about_errors(api: Api, failure_policy: str, code: int) -> None:
    async with in_force(api, {"expression": "object.data.absent == 'x'"}, failurePolicy=failure_policy):
        made = await api.create(api.at("configmaps"), config_map("a", x="1"))
        assert made.code == code
        if code == 422:
            assert "resulted in error" in made.body["message"]
            assert "no such key: absent" in made.body["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"validations": []}, "spec.validations"),
        ({"validations": [{"expression": "object."}]}, "spec.validations[0].expression"),
        ({"validations": [{"expression": "nofun(object)"}]}, "spec.validations[0].expression"),
        ({"validations": [{"expression": "true", "reason": "Bad"}]}, "spec.validations[0].reason"),
        ({"failurePolicy": "Maybe"}, "spec.failurePolicy"),
        (
            {"matchConstraints": {"resourceRules": [{"operations": ["MAKE"]}]}},
            "spec.matchConstraints.resourceRules[0].operations[0]",
        ),
    ],
)
async def test_malformed_policy_is_refused(api: Api, change: dict[str, Any], field: str) -> None:
    sent = policy(api.namespace, {"expression": "true"}, **{k: v for k, v in change.items() if k != "validations"})
    sent["spec"] |= change
    refused = await api.create(f"{BASE}/validatingadmissionpolicies", sent)
    assert refused.code == 422
    assert field in [f for f, _ in causes(refused)]


async def test_binding_names_its_actions(api: Api) -> None:
    refused = await api.create(f"{BASE}/validatingadmissionpolicybindings", binding(api, "Deny", "Warn"))
    assert causes(refused)[0][0] == "spec.validationActions"
    assert (await api.create(f"{BASE}/validatingadmissionpolicybindings", binding(api))).code == 422
