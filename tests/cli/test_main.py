"""The `pybrix` command as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from pybrix.cli.main import cli

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("args", [["crds"], ["install"], ["completion", "bash"], ["--help"]])
def test_output_that_cannot_be_written_is_one_line(args: list[str]) -> None:
    with FULL.open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "pybrix", *args], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (ran.returncode, ran.stderr) == (1, "pybrix: cannot write the output: No space left on device\n")


def test_a_reader_that_goes_away_is_no_error_to_talk_about() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pybrix", "crds"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.close()
        assert ran.stderr.read() == ""


@pytest.mark.parametrize("args", [["up", "--nodes", "foo"], ["cluster", "run", "--nodes", "foo"]])
def test_nodes_that_cannot_be_understood_are_a_wrong_command_line(args: list[str]) -> None:
    ran = CliRunner().invoke(cli, args)
    assert ran.exit_code == 2
    assert "'foo' is neither `plain` nor KEY=VALUE" in ran.output


@pytest.mark.parametrize(
    ("args", "incomplete", "want"),
    [
        pytest.param(["crds"], "storm", [("plain", "StormService")], id="kinds"),
        pytest.param(["validate"], "a", [("file", "a")], id="files to validate"),
        pytest.param(["inject", "-f"], "a", [("file", "a")], id="files to inject"),
        pytest.param(["install", "--values"], "a", [("file", "a")], id="files of values"),
        pytest.param([], "ins", [("plain", "install")], id="commands"),
    ],
)
def test_shells_complete(args: list[str], incomplete: str, want: list[tuple[str, str]]) -> None:
    found = ShellComplete(cli, {}, "pybrix", "_PYBRIX_COMPLETE").get_completions(args, incomplete)
    assert [(each.type, each.value) for each in found] == want
