"""The acceptance client: what people do with `kubectl` works as it does elsewhere."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pybrix.api.identity import ObjectKey
from tests.support.apiserver import Ran, RunningApiServer, read_until, running_api_server, start_kubectl

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: nginx:1.25
        ports: [{containerPort: 80, name: http}]
        env: [{name: A, value: "1"}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"""
WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              size: {type: integer, description: how large it is}
          status:
            type: object
            x-kubernetes-preserve-unknown-fields: true
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningApiServer]:
    async with running_api_server(tmp_path) as running:
        yield running


async def ok(server: RunningApiServer, *args: str, stdin: str = "") -> str:
    ran = await server.kubectl(*args, stdin=stdin)
    assert ran.code == 0, ran
    return ran.out


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


async def got(server: RunningApiServer, *args: str) -> Any:
    return json.loads(await ok(server, "get", *args, "-o", "json"))


async def test_kubeconfig_is_for_its_owner_only(server: RunningApiServer) -> None:
    assert stat.S_IMODE(server.kubeconfig.stat().st_mode) == 0o600


async def test_apply_get_diff_and_apply_again(server: RunningApiServer) -> None:
    assert await ok(server, "apply", "-f", "-", stdin=WEB) == "deployment.apps/web created\nservice/web created\n"
    assert "unchanged" in await ok(server, "apply", "-f", "-", stdin=WEB)
    changed = WEB.replace("nginx:1.25", "nginx:1.26").replace('{name: A, value: "1"}', '{name: B, value: "2"}')
    diff = await server.kubectl("diff", "-f", "-", stdin=changed)
    assert diff.code == 1, diff
    assert "nginx:1.26" in diff.out
    assert "configured" in await ok(server, "apply", "-f", "-", stdin=changed)
    container = (await got(server, "deploy", "web"))["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["env"]) == ("nginx:1.26", [{"name": "B", "value": "2"}])


async def test_server_side_apply_and_its_conflict(server: RunningApiServer) -> None:
    await ok(server, "apply", "--server-side", "-f", "-", stdin=WEB)
    await ok(server, "scale", "deploy/web", "--replicas=5")
    refused = await server.kubectl("apply", "--server-side", "-f", "-", stdin=WEB)
    assert refused.code == 1
    assert ".spec.replicas" in refused.err
    await ok(server, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=WEB)
    assert (await got(server, "deploy", "web"))["spec"]["replicas"] == 2


async def test_client_side_apply_becomes_server_side(server: RunningApiServer) -> None:
    await ok(server, "apply", "-f", "-", stdin=WEB)
    await ok(server, "apply", "--server-side", "-f", "-", stdin=WEB.replace("replicas: 2", "replicas: 3"))
    assert (await got(server, "deploy", "web"))["spec"]["replicas"] == 3


async def test_tables_show_what_a_cluster_shows(server: RunningApiServer) -> None:
    await ok(server, "apply", "-f", "-", stdin=WEB)
    await ok(server, "apply", "-f", "-", stdin=POD)
    wide = await ok(server, "get", "deploy,svc,pods,endpointslices", "-o", "wide")
    header, row = lines(wide.split("\n\n")[0])
    assert header == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert row[:2] == ["deployment.apps/web", "0/2"]
    services = lines(wide.split("\n\n")[1])
    assert services[1][:3] == ["service/kubernetes", "ClusterIP", "10.96.0.1"]
    assert services[2][4:5] == ["80/TCP"]
    pods = wide.split("\n\n")[2]
    assert lines(pods)[0] == [
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES",
    ]  # fmt: skip
    assert lines(pods)[1][:4] == ["pod/one", "0/1", "Pending", "0"]
    assert lines(await ok(server, "get", "ns"))[1][:2] == ["default", "Active"]
    assert "service/web" in await ok(server, "get", "all")


POD = """
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: web}}
spec:
  containers: [{name: main, image: busybox, command: [sleep, "9"]}]
"""


async def test_describe_prints_objects_with_their_events(server: RunningApiServer) -> None:
    await ok(server, "apply", "-f", "-", stdin=WEB + "---" + POD)
    uid = (await got(server, "pod", "one"))["metadata"]["uid"]
    event = {
        "metadata": {"name": "one.1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "one", "uid": uid},
        "reason": "Started",
        "message": "Started container main",
        "source": {"component": "kubelet"},
        "count": 1,
        "firstTimestamp": "2026-11-22T00:00:00Z",
        "lastTimestamp": "2026-11-22T00:00:00Z",
    }
    server.server.objects.create("events", event)
    text = await ok(server, "describe", "pod", "one")
    assert "Image:" in text
    assert "Started container main" in text
    for what in ("deploy/web", "svc/web", "ns/default"):
        assert "Name:" in await ok(server, "describe", what)
    assert "Started container main" in await ok(server, "events")
    assert "pod/one" in await ok(server, "get", "events", "--field-selector", "involvedObject.name=one,reason=Started")


async def test_label_annotate_patch_scale_set(server: RunningApiServer) -> None:
    await ok(server, "apply", "-f", "-", stdin=WEB)
    await ok(server, "label", "deploy/web", "tier=x")
    await ok(server, "annotate", "deploy/web", "note=y")
    await ok(server, "scale", "deploy/web", "--replicas=4", "--current-replicas=2")
    await ok(server, "set", "image", "deploy/web", "main=nginx:2")
    await ok(server, "set", "env", "deploy/web", "NEW=1")
    await ok(server, "patch", "deploy", "web", "--type=json", "-p", '[{"op":"add","path":"/spec/paused","value":true}]')
    await ok(server, "patch", "deploy", "web", "--type=merge", "-p", '{"spec":{"minReadySeconds":3}}')
    web = await got(server, "deploy", "web")
    assert (web["metadata"]["labels"]["tier"], web["metadata"]["annotations"]["note"]) == ("x", "y")
    assert (web["spec"]["replicas"], web["spec"]["paused"], web["spec"]["minReadySeconds"]) == (4, True, 3)
    container = web["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], [e["name"] for e in container["env"]]) == ("nginx:2", ["A", "NEW"])
    await ok(server, "label", "deploy/web", "tier-")
    assert "tier" not in (await got(server, "deploy", "web"))["metadata"]["labels"]


async def test_typed_create_commands_send_protobuf(server: RunningApiServer) -> None:
    await ok(server, "create", "namespace", "team")
    await ok(server, "create", "configmap", "c", "--from-literal=k=v", "-n", "team")
    await ok(server, "create", "secret", "generic", "s", "--from-literal=k=v", "-n", "team")
    await ok(server, "create", "serviceaccount", "robot", "-n", "team")
    await ok(server, "create", "service", "clusterip", "svc", "--tcp=80:8080", "-n", "team")
    await ok(server, "create", "deployment", "d", "--image=nginx:1", "--replicas=0", "--port=80", "-n", "team")
    assert (await got(server, "cm", "c", "-n", "team"))["data"] == {"k": "v"}
    assert (await got(server, "secret", "s", "-n", "team"))["data"] == {"k": "dg=="}
    port = (await got(server, "svc", "svc", "-n", "team"))["spec"]["ports"][0]
    assert (port["port"], port["targetPort"]) == (80, 8080)
    spec = (await got(server, "deploy", "d", "-n", "team"))["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (0, "nginx:1")
    again = await server.kubectl("create", "namespace", "team")
    assert "AlreadyExists" in again.err


async def test_protobuf_of_a_kind_that_is_not_decoded_says_what_to_do(server: RunningApiServer) -> None:
    refused = await server.kubectl("create", "quota", "q", "--hard=pods=1")
    assert refused.code == 1


async def test_run_and_delete(server: RunningApiServer) -> None:
    await ok(server, "run", "p", "--image=nginx", "--restart=Never")
    await ok(server, "apply", "-f", "-", stdin=WEB)
    assert 'pod "p" deleted' in await ok(server, "delete", "pod", "p")
    assert "deleted" in await ok(server, "delete", "-f", "-", stdin=WEB)
    left = await server.kubectl("get", "deploy,svc", "-l", "app=web")
    assert "No resources found" in left.err


async def test_bound_pod_ends_gracefully(server: RunningApiServer) -> None:
    await ok(server, "apply", "-f", "-", stdin=POD)
    objects, key = server.server.objects, ObjectKey("default", "one")
    binding = {"metadata": {"name": "one"}, "target": {"kind": "Node", "name": "here"}}
    async with server.session.post("/api/v1/namespaces/default/pods/one/binding", json=binding) as answer:
        assert answer.status == 201
    deleting = asyncio.ensure_future(server.kubectl("delete", "pod", "one", "--grace-period=20"))
    subscription = server.store.subscribe("pods")
    async with asyncio.timeout(60):
        change = await subscription.next()
    assert change is not None
    assert change.object.data["metadata"]["deletionGracePeriodSeconds"] == 20
    assert "Terminating" in await ok(server, "get", "pod", "one")
    objects.delete("pods", key, grace_period_seconds=0)
    assert (await deleting).code == 0


async def test_wait_and_rollout_status_follow_conditions(server: RunningApiServer) -> None:
    await ok(server, "apply", "-f", "-", stdin=WEB)
    waiting = [
        asyncio.ensure_future(server.kubectl("wait", "--for=condition=Available", "deploy/web", "--timeout=50s")),
        asyncio.ensure_future(server.kubectl("rollout", "status", "deploy/web", "--timeout=50s")),
    ]
    status = {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "conditions": [{"type": "Available", "status": "True"}],
    }
    server.server.objects.patch(
        "deployments.apps", ObjectKey("default", "web"), {"status": status}, subresource="status"
    )
    done: list[Ran] = await asyncio.gather(*waiting)
    assert [ran.code for ran in done] == [0, 0], done
    assert "condition met" in done[0].out
    assert "successfully rolled out" in done[1].out
    gone = asyncio.ensure_future(server.kubectl("wait", "--for=delete", "deploy/web", "--timeout=50s"))
    await ok(server, "delete", "deploy", "web")
    assert (await gone).code == 0


async def test_get_watches(server: RunningApiServer) -> None:
    await ok(server, "create", "configmap", "there", "--from-literal=k=v")
    watching = await start_kubectl(server.kubeconfig, "get", "cm", "-w", "--no-headers")
    try:
        await read_until(watching, "there")
        await ok(server, "create", "configmap", "later", "--from-literal=k=v")
        assert (await read_until(watching, "later")).split()[:2] == ["later", "1"]
    finally:
        watching.kill()
        await watching.communicate()


async def test_custom_kind_from_definition_to_deletion(server: RunningApiServer) -> None:
    await ok(server, "apply", "-f", "-", stdin=WIDGETS)
    await ok(server, "wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=50s")
    widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n"
    assert await ok(server, "apply", "-f", "-", stdin=widget) == "widget.example.com/w created\n"
    assert "configured" in await ok(server, "apply", "-f", "-", stdin=widget.replace("3", "4"))
    patch = '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
    await ok(server, "patch", "wd", "w", "--subresource=status", "--type=merge", "-p", patch)
    header, row = lines(await ok(server, "get", "wd"))
    assert (header, row[:3]) == (["NAME", "SIZE", "READY", "AGE"], ["w", "4", "True"])
    await ok(server, "scale", "widget/w", "--replicas=7")
    assert (await got(server, "widgets.example.com", "w"))["spec"]["size"] == 7
    await ok(server, "wait", "--for=condition=Ready", "widget/w", "--timeout=50s")
    assert "how large it is" in await ok(server, "explain", "widget.spec.size")
    assert "Name:" in await ok(server, "describe", "widget", "w")
    await ok(server, "delete", "crd", "widgets.example.com")
    assert server.store.count("widgets.example.com") == 0
    assert (await server.kubectl("get", "widgets")).code == 1


async def test_explain_and_api_resources_read_the_discovery(server: RunningApiServer) -> None:
    assert "rollingUpdate" in await ok(server, "explain", "deployment.spec.strategy")
    assert "containerPort" in await ok(server, "explain", "pod.spec.containers.ports")
    listed = lines(await ok(server, "api-resources", "--no-headers"))
    assert ["deployments", "deploy", "apps/v1", "true", "Deployment"] in listed
    assert "apps/v1" in await ok(server, "api-versions")
    assert "pybrix" in await ok(server, "version")


async def test_unknown_field_is_named_before_anything_is_stored(server: RunningApiServer) -> None:
    refused = await server.kubectl("apply", "-f", "-", stdin=POD.replace("command:", "comand:"))
    assert refused.code == 1
    assert 'unknown field "spec.containers[0].comand"' in refused.err
    assert server.store.count("pods") == 0


async def test_replace_edit_and_server_dry_run(server: RunningApiServer) -> None:
    await ok(server, "create", "-f", "-", stdin=WEB)
    await ok(server, "replace", "-f", "-", stdin=WEB.replace("replicas: 2", "replicas: 6"))
    assert (await got(server, "deploy", "web"))["spec"]["replicas"] == 6
    await ok(server, "apply", "--dry-run=server", "-f", "-", stdin=POD)
    assert server.store.count("pods") == 0
    await ok(server, "delete", "deploy", "web", "--cascade=orphan", "--wait=false")
    assert "orphan" in (await got(server, "deploy", "web"))["metadata"]["finalizers"]


async def test_a_token_on_request_and_who_holds_it(server: RunningApiServer) -> None:
    made = await server.kubectl("create", "token", "default", "--duration=20m")
    assert made.code == 0, made.err
    known = await server.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert known.out == "pybrix-admin", known.err
    kubeconfig = yaml.safe_load(server.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"token": made.out.strip()}
    server.kubeconfig.write_text(yaml.safe_dump(kubeconfig))
    known = await server.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert known.out == "system:serviceaccount:default:default", known.err


async def test_kinds_that_installations_bring_are_explained(server: RunningApiServer) -> None:
    for path, words in (
        ("poddisruptionbudgets.spec.minAvailable", "number or percentage that stays"),
        ("clusterrole.rules.verbs", "get, list, watch"),
        ("networkpolicy.spec.policyTypes", "Ingress"),
        ("hpa.spec.maxReplicas", "maxReplicas"),
        ("ing.spec.rules.http.paths.pathType", "Exact, Prefix"),
        ("pc.value", "higher goes first"),
    ):
        ran = await server.kubectl("explain", path)
        assert ran.code == 0, ran.err
        assert words in ran.out
