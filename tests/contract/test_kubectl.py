"""Commands of kubectl: those that send protobuf, and those that need several parts of the API to play together.

https://kubernetes.io/docs/reference/kubectl/generated/ and
https://kubernetes.io/docs/reference/using-api/api-concepts/#kubernetes-protobuf-encoding
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.contract import Api, Kubectl, config_map, deployment

RESULTS = {
    "configmap": ("create", "configmap", "made", "--from-literal=k=v"),
    "secret": ("create", "secret", "generic", "made", "--from-literal=k=v"),
    "serviceaccount": ("create", "serviceaccount", "made"),
    "service": ("create", "service", "clusterip", "made", "--tcp=80:8080"),
    "deployment.apps": ("create", "deployment", "made", "--image=busybox:1", "--replicas=0", "--port=80"),
    "role": ("create", "role", "made", "--verb=get,list", "--resource=pods,deployments.apps"),
    "rolebinding": ("create", "rolebinding", "made", "--clusterrole=view", "--serviceaccount=default:robot"),
    "poddisruptionbudget": ("create", "poddisruptionbudget", "made", "--selector=a=b", "--min-available=1"),
}


async def test_typed_commands_create_what_they_say(kubectl: Kubectl) -> None:
    outputs = await asyncio.gather(*(kubectl.ok(*command) for command in RESULTS.values()))
    assert all("made created" in out for out in outputs), outputs
    found = {o["kind"]: o for o in (await kubectl.got(",".join(RESULTS)))["items"] if o["metadata"]["name"] == "made"}
    assert len(found) == len(RESULTS)
    assert found["ConfigMap"]["data"] == {"k": "v"}
    assert found["Secret"]["data"] == {"k": "dg=="}
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == 8080
    container = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["ports"][0]["containerPort"]) == ("busybox:1", 80)
    assert {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]} in found["Role"]["rules"]
    assert found["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]
    assert found["RoleBinding"]["roleRef"]["name"] == "view"
    budget = found["PodDisruptionBudget"]["spec"]
    assert (budget["minAvailable"], budget["selector"]) == (1, {"matchLabels": {"a": "b"}})


async def test_namespace_is_created_and_deleted(api: Api, kubectl: Kubectl) -> None:
    name = f"{api.namespace}-by-kubectl"
    await kubectl.ok("create", "namespace", name)
    again = await kubectl.run("create", "namespace", name)
    assert "AlreadyExists" in again.err
    await kubectl.ok("delete", "namespace", name)


async def test_autoscaler_of_a_deployment(api: Api, kubectl: Kubectl) -> None:
    await api.create(api.at("deployments", group="apps"), deployment("web"))
    await kubectl.ok("autoscale", "deployment", "web", "--min=2", "--max=5", "--cpu=60%")
    spec = (await kubectl.got("hpa", "web"))["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    assert spec["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 60}


async def test_token_identity_and_rights(api: Api, kubectl: Kubectl) -> None:
    await api.create(api.at("serviceaccounts"), {"metadata": {"name": "robot"}})
    robot = f"--as=system:serviceaccount:{api.namespace}:robot"
    token, who, own, other, listed = await asyncio.gather(
        kubectl.ok("create", "token", "robot", "--duration=1h"),
        kubectl.ok("auth", "whoami", "-o", "json"),
        kubectl.ok("auth", "can-i", "create", "deployments.apps"),
        kubectl.run("auth", "can-i", "list", "secrets", robot),
        kubectl.ok("auth", "can-i", "--list", robot),
    )
    assert token.count(".") == 2
    assert json.loads(who)["status"]["userInfo"]["username"]
    assert own.strip() == "yes"
    assert other.out.strip() in ("no", "yes")
    assert "selfsubjectreviews.authentication.k8s.io" in listed or "*.*" in listed


async def test_list_of_objects_is_applied(kubectl: Kubectl) -> None:
    # /docs/reference/using-api/api-concepts/: `kind: List` is a client's own, no resource of the server
    items = [config_map(name, x="1") for name in "ab"]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    assert await kubectl.ok("apply", "-f", "-", stdin=manifest) == "configmap/a created\nconfigmap/b created\n"
    assert "unchanged" in await kubectl.ok("apply", "-f", "-", stdin=manifest)
    applied = await kubectl.ok("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    assert applied.count("serverside-applied") == 2
    assert '"a" deleted' in await kubectl.ok("delete", "-f", "-", stdin=manifest)


async def test_mistake_in_a_list_is_named(kubectl: Kubectl) -> None:
    wrong = {**config_map("a"), "dada": {}}
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": [wrong]})
    refused = await kubectl.run("apply", "-f", "-", stdin=manifest)
    assert refused.code == 1
    assert "dada" in refused.err


async def test_field_is_explained_from_both_documents(kubectl: Kubectl) -> None:
    newer, older, versioned = await asyncio.gather(
        kubectl.ok("explain", "deployment.spec.template.spec.containers"),
        kubectl.ok("explain", "deployment.spec", "--output=plaintext-openapiv2"),
        kubectl.ok("explain", "event", "--api-version=events.k8s.io/v1"),
    )
    assert "imagePullPolicy" in newer
    assert "template" in older
    assert "regarding" in versioned


async def test_what_there_is(kubectl: Kubectl) -> None:
    resources, versions = await asyncio.gather(kubectl.ok("api-resources", "--no-headers"), kubectl.ok("api-versions"))
    lines = {line.split()[0]: line for line in resources.splitlines()}
    assert "po" in lines["pods"].split()
    assert {"apps/v1", "events.k8s.io/v1", "rbac.authorization.k8s.io/v1", "v1"} <= set(versions.split())


async def test_pages_and_selectors_of_get(api: Api, kubectl: Kubectl) -> None:
    for name in "abcd":
        await api.create(api.at("secrets"), {**config_map(name, {"env": "x" if name < "c" else "y"}), "kind": "Secret"})
    paged, chosen, sorted_ = await asyncio.gather(
        kubectl.ok("get", "secrets", "--chunk-size=1", "-o", "name"),
        kubectl.ok("get", "secrets", "-l", "env in (x),env!=z", "-o", "name"),
        kubectl.ok("get", "secrets", "--sort-by={.metadata.name}", "--field-selector=metadata.name!=a", "-o", "name"),
    )
    assert paged.split() == [f"secret/{n}" for n in "abcd"]
    assert chosen.split() == ["secret/a", "secret/b"]
    assert sorted_.split() == ["secret/b", "secret/c", "secret/d"]


async def test_wait_for_deletion_and_condition(api: Api, kubectl: Kubectl) -> None:
    await api.ready()
    await api.create(api.at("configmaps"), config_map("c"))
    await api.create(api.at("deployments", group="apps"), deployment("web"))
    gone = asyncio.ensure_future(kubectl.ok("wait", "--for=delete", "configmap/c", "--timeout=50s"))
    available = kubectl.ok("wait", "--for=condition=Available", "deployment/web", "--timeout=50s")
    rolled = kubectl.ok("rollout", "status", "deployment/web", "--timeout=50s")
    await asyncio.sleep(0)
    await api.delete(api.at("configmaps", "c"))
    await asyncio.gather(gone, available, rolled)


@pytest.mark.parametrize("kind", ["merge", "json", "strategic"])
async def test_patch_of_every_kind(api: Api, kubectl: Kubectl, kind: str) -> None:
    await api.create(api.at("configmaps"), config_map("c", x="1"))
    patch = [{"op": "replace", "path": "/data/x", "value": "2"}] if kind == "json" else {"data": {"x": "2"}}
    await kubectl.ok("patch", "configmap", "c", f"--type={kind}", "-p", json.dumps(patch))
    assert (await api.get(api.at("configmaps", "c"))).body["data"] == {"x": "2"}
