"""What `pybrix upgrade` says where it cannot begin, and where it is interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pybrix.base.errors import UsageError
from pybrix.cli.upgrade import describe_interruption, upgrade


@pytest.mark.parametrize("options", [[], ["--only", "brain"], ["-o", "json"]])
def test_where_nothing_runs_that_is_all_it_says(tmp_path: Path, options: list[str]) -> None:
    result = CliRunner().invoke(upgrade, ["--data-dir", str(tmp_path), *options])
    assert result.output == ""
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == f"nothing runs on {tmp_path} (start it with `pybrix up --data-dir {tmp_path}`)"


def test_an_interruption_says_what_is_new_and_what_is_old() -> None:
    names = ["supervisor", "cluster", "brain", "envoy"]
    assert describe_interruption(names, names[:3], names[:2]) == (
        "interrupted; new: supervisor, cluster; being replaced, which goes on by itself: brain; as before: envoy"
    )
    assert describe_interruption(names, [], []) == f"interrupted; new: nothing; as before: {', '.join(names)}"
    assert describe_interruption(names, names, names).endswith("as before: nothing")
