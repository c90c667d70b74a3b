"""`pybrix uninstall` against an API server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import yaml
from click.testing import CliRunner, Result

from pybrix.cli.main import cli
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from tests.support.apiserver import RunningApiServer, running_api_server

ADAPTER = """
apiVersion: model.aibrix.ai/v1alpha1
kind: ModelAdapter
metadata: {name: poet, namespace: default}
spec: {podSelector: {matchLabels: {a: b}}, artifactURL: huggingface://a/b, baseModel: c}
"""
HELD = ADAPTER.replace("namespace: default", "namespace: default, finalizers: [adapter.model.aibrix.ai/finalizer]")
SET = """
apiVersion: orchestration.aibrix.ai/v1alpha1
kind: RayClusterReplicaSet
metadata: {name: big, namespace: default, finalizers: [orchestration.pybrix.ai/drain]}
spec:
  replicas: 0
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec: {headGroupSpec: {rayStartParams: {}, template: {spec: {containers: [{name: ray, image: ray}]}}}}
"""


def run(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, list(args), input=stdin)


async def installed(api: RunningApiServer, *adapters: str) -> None:
    manifests = await asyncio.to_thread(run, "install")
    async with HttpClient(load_kubeconfig(api.kubeconfig)) as client:
        for document in yaml.safe_load_all("---".join([manifests.output, *adapters])):
            await client.apply_raw(document, field_manager="kubectl")


async def uninstall(api: RunningApiServer, *args: str, stdin: str = "") -> Result:
    return await asyncio.to_thread(run, "uninstall", "--kubeconfig", str(api.kubeconfig), *args, stdin=stdin)


async def names(api: RunningApiServer) -> set[str]:
    kinds = "deployments,configmaps,serviceaccounts,clusterroles,networkpolicies,modeladapters.model.aibrix.ai"
    shown = await api.kubectl("get", kinds, "-A", "-o", "name")
    assert shown.code == 0, shown.err
    return {name for name in shown.out.split() if "pybrix" in name or "poet" in name}


async def test_everything_goes_but_the_definitions_of_kinds(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as api:
        await installed(api, ADAPTER)
        assert await names(api)
        done = await uninstall(api, "--yes")
        assert done.exit_code == 0, (done.output, done.exception)
        assert "deleted Deployment/pybrix-system/pybrix-gateway" in done.output
        assert await names(api) == set()
        assert (await api.kubectl("get", "crd", "modeladapters.model.aibrix.ai")).code == 0
        again = await uninstall(api, "--yes", "--keep-namespace")
        assert (again.exit_code, again.output) == (0, "")


async def test_nothing_else_goes_while_an_adapter_is_held_and_nothing_at_all_without_a_yes(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as api:
        await installed(api, HELD)
        before = await names(api)
        refused = await uninstall(api, stdin="n\n")
        assert refused.exit_code == 1
        assert "to delete: ModelAdapter/default/poet" in refused.output
        held = await uninstall(api, "--yes", "--timeout", "0")
        assert "let go of ModelAdapter/default/poet" in str(held.exception)
        assert await names(api) == before


async def test_definitions_stay_while_a_set_of_a_fleet_is_held(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as api:
        await installed(api, SET)
        held = await uninstall(api, "--yes", "--delete-crds", "--timeout", "0")
        assert "let go of RayClusterReplicaSet/default/big" in str(held.exception)
        assert (await api.kubectl("get", "crd", "rayclusterreplicasets.orchestration.aibrix.ai")).code == 0
        # With the definition it can wait for controllers that come back.
        assert (await uninstall(api, "--yes")).exit_code == 0


def test_a_shared_namespace_stays() -> None:
    refused = run("uninstall", "--namespace", "default", "--yes")
    assert refused.exit_code == 2
    assert "--keep-namespace" in refused.output


async def test_a_namespace_of_somebody_else_stays(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as api:
        created = await api.kubectl("create", "namespace", "pybrix-system")
        assert created.code == 0, created.err
        done = await uninstall(api, "--yes")
        assert (done.exit_code, done.output) == (0, "")
        shown = await api.kubectl("get", "namespace", "pybrix-system", "-o", "jsonpath={.status.phase}")
        assert shown.out == "Active"
