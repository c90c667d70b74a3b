"""`pybrix adapters`: what the table says, and the command against the embedded API server."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from pybrix.api.crds import render_crds
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.cli.adapters_commands import format_age, last_error, render_adapters
from pybrix.cli.main import cli
from pybrix.kube.client import HttpClient
from tests.support.embedded import embedded

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def make_adapter(name: str = "sql", namespace: str = "default", **status: Any) -> ModelAdapter:
    return ModelAdapter.from_dict(
        {
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T23:00:00Z"},
            "spec": {
                "baseModel": "llama",
                "podSelector": {"matchLabels": {"model.aibrix.ai/name": "llama"}},
                "artifactURL": "hf://org/sql",
            },
            "status": status,
        }
    )


LOADED: dict[str, Any] = {"phase": "Running", "readyReplicas": 2, "desiredReplicas": 2, "instances": ["a", "b"]}
FAILED: dict[str, Any] = {
    "phase": "Failed",
    "desiredReplicas": 2,
    "conditions": [
        {"type": "Bound", "status": "False", "reason": "Other", "message": ""},
        {
            "type": "Ready",
            "status": "False",
            "reason": "ModelAdapterLoadingError",
            "message": "Loading failed: " + "x" * 99,
        },
    ],
}


def test_the_table() -> None:
    lines = render_adapters(
        [make_adapter(**LOADED), make_adapter("new"), make_adapter("bad", **FAILED)],
        NOW,
        is_everywhere=False,
        is_wide=False,
    )
    assert lines[:3] == [
        "NAME   BASE MODEL   PODS   PHASE     AGE   LAST ERROR",
        "sql    llama        2/2    Running   60m   -",
        "new    llama        0/0    Pending   60m   -",
    ]
    assert lines[3].startswith(
        "bad    llama        0/2    Failed    60m   ModelAdapterLoadingError: Loading failed: xxx"
    )
    assert lines[3].endswith("x...")


def test_the_wide_table_cuts_nothing() -> None:
    lines = render_adapters([make_adapter(**LOADED), make_adapter(**FAILED)], NOW, is_everywhere=True, is_wide=True)
    assert lines[0].split("   ")[0] == "NAMESPACE"
    assert "hf://org/sql   a,b" in lines[1]
    assert lines[2].endswith("x" * 99)


def test_a_pods_error_says_more_than_a_condition() -> None:
    pods = [
        {"uid": "1", "name": "a", "state": "Loaded"},
        {"uid": "2", "name": "b", "state": "Failed", "reason": "CapacityFull", "message": "no room"},
    ]
    assert last_error(make_adapter(**FAILED, pods=pods)) == "CapacityFull in b: no room"
    assert last_error(make_adapter(**LOADED, pods=pods[:1])) == ""


@pytest.mark.parametrize(
    ("age_s", "want"), [(-3, "0s"), (95, "95s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d")]
)
def test_ages(age_s: float, want: str) -> None:
    assert format_age(age_s) == want


async def install(client: HttpClient) -> None:
    definition = next(crd for crd in render_crds() if crd["spec"]["names"]["kind"] == "ModelAdapter")
    await client.create_raw(definition)


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli, ["adapters", *arguments])


async def test_the_command(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, server.client() as client:
        kubeconfig = ("--kubeconfig", str(server.kubeconfig))
        unknown = await run(*kubeconfig)
        assert "knows no ModelAdapter" in str(unknown.exception)
        await install(client)
        assert (await run(*kubeconfig)).output == "No adapters in namespace default.\n"
        for adapter in (make_adapter("b"), make_adapter("a")):
            await client.create(adapter)
        lines = (await run(*kubeconfig)).output.splitlines()
        assert [line.split()[0] for line in lines] == ["NAME", "a", "b"]
        assert (await run(*kubeconfig, "-A", "b")).output.splitlines()[1].split()[:2] == ["default", "b"]
        assert (await run(*kubeconfig, "-n", "other")).output == "No adapters in namespace other.\n"
        assert "no ModelAdapter 'x'" in str((await run(*kubeconfig, "x")).exception)
        assert json.loads((await run(*kubeconfig, "a", "-o", "json")).output)["metadata"]["name"] == "a"
        listed = yaml.safe_load((await run(*kubeconfig, "-o", "yaml")).output)
        assert (listed["kind"], [item["metadata"]["name"] for item in listed["items"]]) == ("List", ["a", "b"])


@pytest.mark.parametrize("arguments", [("-A", "-n", "x"), ("-w", "-o", "json")])
async def test_options_that_contradict_each_other(arguments: tuple[str, ...]) -> None:
    assert (await run(*arguments)).exit_code == 2


async def test_watching_shows_changes(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, server.client() as client, asyncio.timeout(60):
        await install(client)
        created = await client.create(make_adapter())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pybrix", "adapters", "--watch", "--kubeconfig", str(server.kubeconfig)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            head, first = [(await process.stdout.readline()).decode() for _ in range(2)]
            assert head.split()[0] == "NAME"
            assert first.split()[:4] == ["sql", "llama", "0/0", "Pending"]
            # The annotation changes nothing that is shown.
            await client.patch(ModelAdapter, created.key, {"metadata": {"annotations": {"a": "b"}}})
            await client.patch(ModelAdapter, created.key, {"status": LOADED}, subresource="status")
            assert (await process.stdout.readline()).decode().split()[:4] == ["sql", "llama", "2/2", "Running"]
            await client.delete(ModelAdapter, created.key)
            assert (await process.stdout.readline()).decode() == "default/sql deleted\n"
        finally:
            process.terminate()
            await process.communicate()
