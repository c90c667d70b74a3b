from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from pybrix.api.crds import render_crds
from pybrix.api.policies import render_policies
from pybrix.cli.main import cli


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["crds", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_everything_is_printed_as_yaml_without_anchors() -> None:
    text = run()
    assert list(yaml.safe_load_all(text)) == [*render_crds(), *render_policies()]
    assert "&id" not in text


def test_some_kinds_are_printed_alone() -> None:
    names = [doc["spec"]["names"]["kind"] for doc in yaml.safe_load_all(run("kvp", "rolesets"))]
    assert names == ["KVCachePool", "RoleSet"]


def test_one_kind_by_two_names_is_printed_once() -> None:
    assert run("stormservice", "stormservices", "StormService") == run("StormService")


def test_a_misspelt_kind_is_told_with_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["crds", "stromservice"])
    assert result.exit_code == 2
    assert "did you mean StormService?" in " ".join(result.output.split())


def test_json_is_one_document() -> None:
    assert json.loads(run("mc", "-o", "json")) == render_crds(["ModelClaim"])[0]
    listed = json.loads(run("-o", "json", "--no-policies"))
    assert (listed["kind"], listed["items"]) == ("List", render_crds())


@pytest.mark.parametrize("kind", ["pods", "", "x.example.com"])
def test_an_unknown_kind_names_the_known_ones(kind: str) -> None:
    result = CliRunner().invoke(cli, ["crds", kind])
    assert result.exit_code == 2
    assert "PodAutoscaler" in result.output
