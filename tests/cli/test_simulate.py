from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pybrix.cli.main import cli
from tests.support.traces import mooncake_text


def simulate(*args: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(cli, ["simulate", *args])
    return found.exit_code, found.stdout, found.stderr or str(found.exception or "")


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "requests.jsonl"
    path.write_text(mooncake_text())
    return str(path)


def test_a_table_compares_strategies(trace: str) -> None:
    code, out, _ = simulate("--trace", trace, "--pods", "2", "--strategy", "random", "--strategy", "prefix-cache")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("requests.jsonl: 60 requests, 0.9 min;")
    assert [line.split()[0] for line in lines[1:]] == ["STRATEGY", "random", "prefix-cache"]


def test_json_and_csv_tell_every_run(trace: str) -> None:
    args = ("--trace", trace, "--pods", "2", "--strategy", "random", "--seed", "1", "--seed", "2", "--load", "0.8")
    _, out, _ = simulate(*args, "-o", "json")
    runs = json.loads(out)["runs"]
    assert [(run["seed"], run["load"], run["unfinished"]) for run in runs] == [(1, 0.8, 0), (2, 0.8, 0)]
    _, out, _ = simulate(*args, "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(row["ttftP99S"]) for row in rows] == [run["ttftP99S"] for run in runs]


@pytest.mark.parametrize(("suffix", "begins"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_a_plot_is_the_same_every_time(trace: str, tmp_path: Path, suffix: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib")
    pictures = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}{suffix}"
        code, _, err = simulate(
            "--trace", trace, "--strategy", "random", "--strategy", "least-request", "--plot", str(path)
        )
        assert code == 0, err
        pictures.append(path.read_bytes())
    assert pictures[0].startswith(begins)
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--strategy", "fastest"), "no strategy fastest: there are"),
        (("--workload", "games"), "no workload games: there are chat,"),
        (("--engine-profile", "tpu"), "no engine profile tpu: there are h100-32b,"),
        (("--load", "1", "--speed", "2"), "give one"),
        (("--plot", "a.pdf"), "neither in .svg nor in .png"),
    ],
)
def test_a_wrong_command_line_says_what_there_is(args: tuple[str, ...], says: str) -> None:
    code, _, err = simulate(*args, "--sessions", "1")
    assert code == 2
    assert says in err


def test_a_wrong_line_of_a_trace_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("at_s,prompt_tokens,output_tokens\n1,2,x\n")
    code, _, err = simulate("--trace", str(path))
    assert code == 1
    assert "bad.csv, line 2" in err
