"""`pybrix install` on the command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from pybrix.cli.main import cli
from tests.support.apiserver import KUBECTL, running_api_server

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "install.md"
ADAPTER = """
apiVersion: model.aibrix.ai/v1alpha1
kind: ModelAdapter
metadata: {name: poet, namespace: default, finalizers: [adapter.model.aibrix.ai/finalizer]}
spec: {podSelector: {matchLabels: {a: b}}, artifactURL: huggingface://a/b, baseModel: c}
"""


def run(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["install", *args], input=stdin)


def test_it_prints_one_stream_that_does_not_change() -> None:
    first = run()
    assert first.exit_code == 0
    assert first.output == run().output
    kinds = [each["kind"] for each in yaml.safe_load_all(first.output)]
    assert kinds[0] == "Namespace"
    assert {"CustomResourceDefinition", "Deployment", "NetworkPolicy"} <= set(kinds)


def test_options_are_the_same_as_values(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("image: {repository: reg/x, tag: '7'}\ngateway: {replicas: 1}\n")
    by_file = run("--values", str(values), "--skip-crds").output
    assert by_file == run("--image", "reg/x:7", "--set", "gateway.replicas=1", "--skip-crds").output
    assert by_file == run("--values", "-", "--skip-crds", stdin=values.read_text()).output
    assert "reg/x:7" in by_file


def test_json_is_one_list() -> None:
    document = json.loads(run("-o", "json", "--crds-only").output)
    assert document["kind"] == "List"
    assert "Deployment" not in {each["kind"] for each in document["items"]}


def test_the_namespace_is_where_everything_goes() -> None:
    documents = list(yaml.safe_load_all(run("--namespace", "serving", "--skip-crds").output))
    assert {each["metadata"].get("namespace", "serving") for each in documents} == {"serving"}
    without = list(yaml.safe_load_all(run("-n", "default", "--no-create-namespace", "--skip-crds").output))
    assert "Namespace" not in {each["kind"] for each in without}


def test_a_shared_namespace_is_not_taken_over() -> None:
    found = run("--namespace", "kube-system")
    assert found.exit_code == 2
    assert "--no-create-namespace" in found.output


def test_show_values_prints_what_can_be_given_again(tmp_path: Path) -> None:
    shown = run("--set", "gateway.replicas=4", "--show-values").output
    values = tmp_path / "values.yaml"
    values.write_text(shown)
    assert run("--values", str(values), "--show-values").output == shown
    assert yaml.safe_load(shown)["gateway"]["replicas"] == 4


@pytest.mark.parametrize(
    "args",
    [
        ("--crds-only", "--skip-crds"),
        ("--namespace", "Not_A_Name"),
        ("--output", "xml"),
        ("--set", "a=b"),
        ("--values", "/nowhere"),
        ("--set", "gateway.configuration.routingStrategy=dice"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(args: tuple[str, ...]) -> None:
    assert run(*args).exit_code == 2


def test_a_missing_file_of_values_is_told() -> None:
    assert "/nowhere/values.yaml: No such file" in run("--values", "/nowhere/values.yaml").output


def test_an_empty_image_is_refused() -> None:
    assert "'' is no image reference" in run("--image", "").output


async def test_diff_and_check_against_a_cluster(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as api:
        where = ("--kubeconfig", str(api.kubeconfig), "--skip-crds")
        fresh = await asyncio.to_thread(run, *where, "--diff")
        assert fresh.exit_code == 1
        assert "+++ merged/Namespace/pybrix-system" in fresh.output
        applied = await api.kubectl("apply", "--server-side", "-f", "-", stdin=run("--skip-crds").output)
        assert applied.code == 0, applied.err
        same = await asyncio.to_thread(run, *where, "--diff")
        assert (same.exit_code, same.output) == (0, "")
        assert "kind: Deployment" in (await asyncio.to_thread(run, *where)).output
        failed = await asyncio.to_thread(run, "--diff", "--kubeconfig", str(tmp_path / "nothing"))
        assert failed.exit_code == 2
        unknown = await asyncio.to_thread(run, *where, "--context", "elsewhere")
        assert "elsewhere" in str(unknown.exception)


async def test_the_guide_lets_go_of_adapters_that_no_controller_works_on(tmp_path: Path) -> None:
    section = GUIDE.read_text().partition("### When objects cannot be deleted")[2]
    found = re.search(r"```console\n\$ (.*?)```", section, re.DOTALL)
    assert found is not None
    assert KUBECTL is not None
    async with running_api_server(tmp_path) as api:
        for args, text in ((("apply", "--server-side"), run("--crds-only").output), (("create",), ADAPTER)):
            created = await api.kubectl(*args, "-f", "-", stdin=text)
            assert created.code == 0, created.err
        deleted = await api.kubectl("delete", "modeladapters.model.aibrix.ai", "--all", "-A", "--wait=false")
        assert deleted.code == 0, deleted.err
        assert "poet" in (await api.kubectl("get", "modeladapters.model.aibrix.ai", "-A")).out
        environ = os.environ | {
            "KUBECONFIG": str(api.kubeconfig),
            "PATH": os.pathsep.join([str(Path(KUBECTL).parent), os.environ["PATH"]]),
        }
        shell = await asyncio.create_subprocess_exec("bash", "-ec", found[1], env=environ)
        assert await asyncio.wait_for(shell.wait(), 60) == 0
        assert "poet" not in (await api.kubectl("get", "modeladapters.model.aibrix.ai", "-A")).out
