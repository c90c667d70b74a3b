"""https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.support.contract import APPLY, MERGE, Api, config_map, deployment
from tests.support.customkinds import causes, widgets
from tests.support.definitions import spec_schema

BASE = "/apis/admissionregistration.k8s.io/v1"
POLICIES, BINDINGS = f"{BASE}/mutatingadmissionpolicies", f"{BASE}/mutatingadmissionpolicybindings"
# A policy says by it that it is in force.
PROBE = (
    "object.metadata.name == 'probe' ? Object{metadata: Object.metadata{annotations: {'seen-%s': 'yes'}}} : Object{}"
)


def rule(resource: str = "configmaps", group: str = "", version: str = "v1") -> dict[str, Any]:
    operations = ["CREATE", "UPDATE"]
    return {"apiGroups": [group], "apiVersions": [version], "operations": operations, "resources": [resource]}


def json_patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def apply_configuration(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def policy(name: str, *mutations: dict[str, Any], rules: Any = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules or [rule()]},
            "reinvocationPolicy": "Never",
            "mutations": list(mutations),
            **spec,
        },
    }


def binding(api: Api, name: str) -> dict[str, Any]:
    selector = {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": {"namespaceSelector": selector}},
    }


@asynccontextmanager
async def in_force(api: Api, *mutations: dict[str, Any], suffix: str = "a", **spec: Any) -> AsyncIterator[None]:
    """Bind a policy to this test's namespace; that it changes a probe shows that it is in force."""
    name = f"{api.namespace}-{suffix}"
    rules = [rule(), *spec.pop("rules", [])]
    made = await api.create(
        POLICIES, policy(name, apply_configuration(PROBE % suffix), *mutations, rules=rules, **spec)
    )
    assert made.code == 201, made.body
    bound = await api.create(BINDINGS, binding(api, name))
    assert bound.code == 201, bound.body
    try:
        async with asyncio.timeout(60):
            while True:
                tried = await api.create(api.at("configmaps"), config_map("probe"), dryRun="All")
                assert tried.code == 201, tried.body
                if f"seen-{suffix}" in tried.body["metadata"].get("annotations", {}):
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        await api.delete(f"{BINDINGS}/{name}")
        await api.delete(f"{POLICIES}/{name}")


async def test_json_patch_adds_replaces_and_removes(api: Api) -> None:
    patch = json_patch("""
        object.metadata.name != 'a' ? [] : [
            JSONPatch{op: "test", path: "/data/color", value: "red"},
            JSONPatch{op: "replace", path: "/data/color", value: "green"},
            JSONPatch{op: "copy", from: "/data/color", path: "/data/same"},
            JSONPatch{op: "remove", path: "/data/old"},
            JSONPatch{op: "add", path: "/metadata/labels", value: {"tier": "gold"}},
            JSONPatch{op: "add", path: "/metadata/annotations", value: {}},
            JSONPatch{
                op: "add",
                path: "/metadata/annotations/" + jsonpatch.escapeKey("example.com/size"),
                value: string(size(object.data))
            }
        ]""")
    async with in_force(api, patch):
        made = await api.create(api.at("configmaps"), config_map("a", color="red", old="x"))
        assert made.code == 201, made.body
        assert made.body["data"] == {"color": "green", "same": "green"}
        assert made.body["metadata"]["annotations"] == {"example.com/size": "2"}
        assert made.body["metadata"]["labels"] == {"tier": "gold"}
        assert (await api.get(api.at("configmaps", "a"))).body["data"] == made.body["data"]


async def test_apply_configuration_merges_as_server_side_apply(api: Api) -> None:
    sidecar = apply_configuration("""
        object.kind != 'Deployment' ? Object{} : Object{
            spec: Object.spec{
                template: Object.spec.template{
                    spec: Object.spec.template.spec{
                        containers: [
                            Object.spec.template.spec.containers{name: "main", imagePullPolicy: "Always"},
                            Object.spec.template.spec.containers{
                                name: "side",
                                image: "registry.k8s.io/pause:3.9",
                                ports: [Object.spec.template.spec.containers.ports{containerPort: 8080}]
                            }
                        ]
                    }
                }
            }
        }""")
    async with in_force(api, sidecar, rules=[rule("deployments", "apps")]):
        made = await api.create(api.at("deployments", group="apps"), deployment("a"))
        assert made.code == 201, made.body
        main, side = made.body["spec"]["template"]["spec"]["containers"]
        assert (main["name"], main["image"], main["imagePullPolicy"]) == ("main", "registry.k8s.io/pause:3.9", "Always")
        # What a policy adds gets the defaults of its kind.
        assert side["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
        assert side["terminationMessagePath"] == "/dev/termination-log"


async def test_updates_are_changed_and_old_object_is_seen(api: Api) -> None:
    keep = json_patch("""
        request.operation == 'UPDATE' && object.data.?x.orValue('') == ''
            ? [JSONPatch{op: "add", path: "/data/x", value: oldObject.data.x}] : []""")
    async with in_force(api, keep):
        await api.create(api.at("configmaps"), config_map("a", x="1", y="1"))
        patched = await api.patch(api.at("configmaps", "a"), {"data": {"x": None, "y": "2"}}, MERGE)
        assert patched.body["data"] == {"x": "1", "y": "2"}


async def test_update_that_is_undone_changes_nothing(api: Api) -> None:
    fixed = json_patch("object.metadata.name == 'a' ? [JSONPatch{op: 'add', path: '/data', value: {'x': '1'}}] : []")
    async with in_force(api, fixed):
        made = await api.create(api.at("configmaps"), config_map("a"))
        again = await api.patch(api.at("configmaps", "a"), {"data": {"x": "2"}}, MERGE)
        assert again.code == 200
        assert again.body["data"] == {"x": "1"}
        assert again.body["metadata"]["resourceVersion"] == made.body["metadata"]["resourceVersion"]


async def test_applying_again_keeps_what_a_policy_added(api: Api) -> None:
    added = json_patch("""
        has(object.data) && !('added' in object.data)
            ? [JSONPatch{op: "add", path: "/data/added", value: "yes"}] : []""")
    async with in_force(api, added):
        path, body = api.at("configmaps", "a"), config_map("a", x="1")
        first = await api.patch(path, body, APPLY, fieldManager="m")
        second = await api.patch(path, body, APPLY, fieldManager="m")
        assert first.body["data"] == second.body["data"] == {"x": "1", "added": "yes"}
        assert first.body["metadata"]["resourceVersion"] == second.body["metadata"]["resourceVersion"]


async def test_variables_and_match_conditions(api: Api) -> None:
    patch = json_patch("[JSONPatch{op: 'add', path: '/data/size', value: variables.size}]")
    async with in_force(
        api,
        json_patch("[]"),
        {**patch},
        variables=[{"name": "size", "expression": "string(size(object.?data.orValue({})))"}],
        matchConditions=[{"name": "data", "expression": "has(object.data) || object.metadata.name == 'probe'"}],
        failurePolicy="Ignore",
    ):
        assert (await api.create(api.at("configmaps"), config_map("a", x="1"))).body["data"] == {"x": "1", "size": "1"}
        bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}
        assert "data" not in (await api.create(api.at("configmaps"), bare)).body


async def test_policies_see_what_those_before_did_and_run_again_if_needed(api: Api) -> None:
    """Two policies of which the first wants to know what the second adds."""
    count = """
        object.metadata.name == 'probe' ? [] :
        [JSONPatch{op: "add", path: "/data/count-%s", value: string(size(object.data.filter(k, k.startsWith("x"))))}]"""
    add = "object.metadata.name == 'probe' ? [] : [JSONPatch{op: 'add', path: '/data/x2', value: ''}]"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            in_force(api, json_patch(count % "again"), suffix="a", reinvocationPolicy="IfNeeded")
        )
        await stack.enter_async_context(in_force(api, json_patch(count % "once"), suffix="b"))
        await stack.enter_async_context(in_force(api, json_patch(add), suffix="c"))
        made = await api.create(api.at("configmaps"), config_map("a", x1=""))
        assert made.code == 201, made.body
        assert made.body["data"] == {"x1": "", "x2": "", "count-again": "2", "count-once": "1"}


async def test_what_comes_out_is_validated(api: Api) -> None:
    bad = json_patch("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': object.metadata.name + '!'}}]")
    conditions = [{"name": "not-probe", "expression": "object.metadata.name.startsWith('a') || true"}]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(in_force(api, suffix="a"))
        made = await api.create(
            POLICIES,
            policy(
                f"{api.namespace}-b",
                bad,
                matchConditions=[*conditions, {"name": "a", "expression": "object.metadata.name == 'a'"}],
            ),
        )
        assert made.code == 201, made.body
        stack.push_async_callback(api.delete, f"{POLICIES}/{api.namespace}-b")
        await api.create(BINDINGS, binding(api, f"{api.namespace}-b"))
        stack.push_async_callback(api.delete, f"{BINDINGS}/{api.namespace}-b")
        async with asyncio.timeout(60):
            while (  # noqa: ASYNC110 - HTTP has no event
                refused := await api.create(api.at("configmaps"), config_map("a"), dryRun="All")
            ).code == 201:
                await asyncio.sleep(0.05)
        assert refused.code == 422
        assert causes(refused)[0][0] == "metadata.labels"


async def test_identity_cannot_be_changed(api: Api) -> None:
    patch = json_patch("""
        object.metadata.name == 'a' ? [
            JSONPatch{op: "add", path: "/metadata/annotations", value: {"n": "1"}},
            JSONPatch{op: "add", path: "/metadata/generation", value: 77}
        ] : []""")
    async with in_force(api, patch):
        made = await api.create(api.at("configmaps"), config_map("a"))
        assert made.body["metadata"]["annotations"] == {"n": "1"}
        assert made.body["metadata"].get("generation") != 77


@pytest.mark.parametrize(("failure_policy", "code"), [("Fail", 422), ("Ignore", 201)])
@pytest.mark.parametrize(
    "expression",
    [
        "object.metadata.name == 'probe' ? [] : [JSONPatch{op: 'remove', path: '/data/absent'}]",
        "object.metadata.name == 'probe' ? [] : [JSONPatch{op: 'add', path: '/data/x', value: object.data.absent}]",
        "object.metadata.name == 'probe' ? [] : [JSONPatch{op: 'test', path: '/data/x', value: '2'}]",
        "object.metadata.name == 'probe' ? [] : [JSONPatch{op: 'add', path: '/data', value: 'text'}]",
    ],
)
async def test_failure_policy_decides_about_errors(api: Api, expression: str, failure_policy: str, code: int) -> None:
    async with in_force(api, json_patch(expression), failurePolicy=failure_policy):
        made = await api.create(api.at("configmaps"), config_map("a", x="1"))
        assert made.code == code, made.body
        if code == 201:
            assert made.body["data"] == {"x": "1"}


async def test_custom_resources_are_changed_and_pruned(api: Api) -> None:
    properties = {
        "n": {"type": "integer"},
        "tags": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "v": {"type": "integer", "default": 7}},
                "required": ["name"],
            },
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "whole": {"type": "array", "items": {"type": "string"}},
    }
    async with widgets(api, spec_schema(properties)) as known:
        tags = "Object{spec: Object.spec{n: 2, tags: [Object.spec.tags{name: 'b'}]}}"
        only = "object.kind == 'Widget' ? %s : Object{}"
        rules = [rule("widgets", known.group)]
        async with in_force(api, apply_configuration(only % tags), rules=rules):
            made = await known.create({"n": 1, "tags": [{"name": "a"}]})
            assert made.code == 201, made.body
            assert made.body["spec"] == {"n": 2, "tags": [{"name": "a", "v": 7}, {"name": "b", "v": 7}]}
        whole = "Object{spec: Object.spec{whole: ['x']}}"
        async with in_force(api, apply_configuration(only % whole), rules=rules, suffix="b"):
            refused = await known.create({"n": 1}, name="v")
            assert refused.code == 422
            assert "may not mutate atomic arrays, maps or structs" in refused.body["message"]
            assert "spec.whole" in refused.body["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mutations": []}, "spec.mutations"),
        ({"mutations": [json_patch("[JSONPatch{op: 'add'")]}, "spec.mutations[0].jsonPatch.expression"),
        ({"mutations": [json_patch("[JSONPatch{opp: 'add'}]")]}, "spec.mutations[0].jsonPatch.expression"),
        ({"mutations": [json_patch("'text'")]}, "spec.mutations[0].jsonPatch.expression"),
        ({"mutations": [json_patch("nofun(object)")]}, "spec.mutations[0].jsonPatch.expression"),
        ({"mutations": [apply_configuration("[1]")]}, "spec.mutations[0].applyConfiguration.expression"),
        ({"mutations": [{"patchType": "JSONPatch"}]}, "spec.mutations[0].jsonPatch"),
        ({"mutations": [{"patchType": "Magic"}]}, "spec.mutations[0].patchType"),
        ({"reinvocationPolicy": ""}, "spec.reinvocationPolicy"),
        ({"reinvocationPolicy": "Always"}, "spec.reinvocationPolicy"),
        ({"failurePolicy": "Maybe"}, "spec.failurePolicy"),
        ({"variables": [{"name": "a-b", "expression": "1"}]}, "spec.variables[0].name"),
        ({"variables": [{"name": "a", "expression": "1 +"}]}, "spec.variables[0].expression"),
        ({"matchConditions": [{"name": "a", "expression": "1"}]}, "spec.matchConditions[0].expression"),
        (
            {"matchConstraints": {"resourceRules": [{**rule(), "operations": ["DELETE"]}]}},
            "spec.matchConstraints.resourceRules[0].operations[0]",
        ),
    ],
)
async def test_malformed_policy_is_refused(api: Api, change: dict[str, Any], field: str) -> None:
    sent = policy(api.namespace, json_patch("[]"))
    sent["spec"] |= change
    refused = await api.create(POLICIES, sent, dryRun="All")
    assert refused.code == 422, refused.body
    assert field in [f for f, _ in causes(refused)]


async def test_older_versions_are_the_same_policy(api: Api) -> None:
    name = f"{api.namespace}-old"
    older = BASE.replace("/v1", "/v1beta1")
    if (await api.get(f"{older}/mutatingadmissionpolicies")).code != 200:
        pytest.skip("this cluster serves v1 alone")
    sent = {**policy(name, json_patch("[]")), "apiVersion": "admissionregistration.k8s.io/v1beta1"}
    made = await api.create(f"{older}/mutatingadmissionpolicies", sent)
    try:
        assert made.code == 201, made.body
        assert made.body["apiVersion"] == "admissionregistration.k8s.io/v1beta1"
        seen = await api.get(f"{POLICIES}/{name}")
        assert (seen.body["apiVersion"], seen.body["spec"]) == ("admissionregistration.k8s.io/v1", made.body["spec"])
    finally:
        await api.delete(f"{POLICIES}/{name}")
