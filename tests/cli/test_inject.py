from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from pybrix.api.sidecar import injected
from pybrix.cli.main import cli
from tests.support.injections import deployment, storm_service

PLAIN = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}   # kept\n"


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["inject", *arguments], input=stdin)


def test_standard_input_is_injected() -> None:
    result = run("-f", "-", "--image", "pybrix:9", stdin=f"{PLAIN}---\n{yaml.safe_dump(deployment())}")
    assert result.exit_code == 0
    assert result.stdout.startswith(PLAIN)
    assert list(yaml.safe_load_all(result.stdout))[1] == injected(deployment(), "pybrix:9")
    assert "Deployment/chat got the sidecar" in result.stderr


def test_files_become_one_stream(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PLAIN.rstrip("\n"))
    (tmp_path / "b.json").write_text(json.dumps(storm_service()))
    result = run("-f", str(tmp_path))
    assert list(yaml.safe_load_all(result.stdout)) == [yaml.safe_load(PLAIN), injected(storm_service())]
    assert run("-f", "-", stdin=result.stdout).stdout == result.stdout


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_other_forms_are_written_anew(output: str) -> None:
    result = run("-f", "-", "-o", output, stdin=f"{PLAIN}---\n{yaml.safe_dump(deployment())}")
    want = [yaml.safe_load(PLAIN), injected(deployment())]
    got = list(yaml.safe_load_all(result.stdout))
    assert got == (want if output == "yaml" else [{"apiVersion": "v1", "kind": "List", "items": want}])
    assert "# kept" not in result.stdout


def test_text_that_is_wrong_is_said_with_its_line() -> None:
    result = run("-f", "-", stdin="a: 1\nb: [\n")
    assert result.exit_code == 1
    assert "<stdin>:3:1: not valid YAML" in str(result.exception)
    assert result.stdout == ""


def test_file_that_is_not_there() -> None:
    result = run("-f", "no.yaml")
    assert result.exit_code == 2
    assert "no.yaml: No such file" in result.stderr
