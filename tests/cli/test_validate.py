from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pybrix.cli.main import cli

GOOD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
BAD = GOOD + "dta: {}\n"
UNKNOWN = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n"


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["validate", *arguments], input=stdin)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name, text in {"good.yaml": GOOD, "deep/bad.yaml": BAD, "unknown.yaml": UNKNOWN}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_valid_file_is_a_summary_and_zero(files: Path) -> None:
    result = run(str(files / "good.yaml"))
    assert (result.exit_code, result.output) == (0, "1 object in 1 file: 0 errors, 0 warnings\n")


def test_mistake_is_a_line_and_one(files: Path) -> None:
    result = run("-R", str(files))
    assert result.exit_code == 1
    (first,) = (line for line in result.output.splitlines() if ": error: " in line)
    want = "bad.yaml:4:1: error: ConfigMap/a: dta: unknown field (did you mean data?) [unknown-field]"
    assert first == f"{files}/deep/{want}"
    assert run(str(files)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [((), "Missing argument"), (("no.yaml",), "No such file"), (("good.yaml", "-o", "xml"), "xml")],
)
def test_wrong_command_line_is_two(files: Path, arguments: tuple[str, ...], word: str) -> None:
    result = run(*(str(files / a) if a.endswith("yaml") else a for a in arguments))
    assert result.exit_code == 2
    assert word in result.output


def test_directory_without_manifests_is_two(tmp_path: Path) -> None:
    assert run(str(tmp_path)).exit_code == 2


def test_standard_input_is_a_dash() -> None:
    result = run("-", stdin=BAD)
    assert result.exit_code == 1
    assert result.output.startswith("<stdin>:4:1: error: ")


@pytest.mark.parametrize("text", ["", "---\n# nothing\n"])
def test_nothing_to_check_is_a_warning_and_strictly_a_mistake(text: str) -> None:
    result = run("-", stdin=text)
    assert result.output.startswith("<stdin>:1:1: warning: there is no object to check [no-objects]\n")
    assert result.exit_code == 0
    assert run("-", "--strict", stdin=text).exit_code == 1


def test_strict_refuses_what_is_not_known(files: Path) -> None:
    path = str(files / "unknown.yaml")
    assert run(path).exit_code == 0
    assert run(path, "--strict").exit_code == 1


def test_quiet_prints_errors_alone(files: Path) -> None:
    assert run("-q", str(files)).output == ""
    assert run("-q", "-R", str(files)).output.count("\n") == 1


def test_json_is_for_programs(files: Path) -> None:
    result = run("-o", "json", "-R", str(files))
    report = json.loads(result.output)
    assert (report["valid"], report["files"], report["errors"], report["warnings"]) == (False, 3, 1, 2)
    found = next(f for f in report["findings"] if f["severity"] == "error")
    assert (found["line"], found["rule"], found["path"], found["remedy"]) == (
        4,
        "unknown-field",
        "dta",
        "did you mean data?",
    )


def test_github_gets_commands(files: Path) -> None:
    lines = run("-o", "github", "-R", str(files)).output.splitlines()
    lines.sort()
    assert lines[0].startswith(
        f"::error file={files}/deep/bad.yaml,line=4,col=1,title=pybrix validate%3A unknown-field::"
    )
    assert lines[1].startswith("::warning ")


def test_control_characters_do_nothing_to_a_terminal() -> None:
    result = run("-", stdin=GOOD + '"\\e[31mred\\u202e": 1\n')
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "\\x1b[31mred" in result.output
