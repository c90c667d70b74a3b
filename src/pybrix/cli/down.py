"""`pybrix down`: stop what `pybrix up` started."""

from __future__ import annotations

from pathlib import Path

import click

from pybrix.base.clock import SystemClock
from pybrix.cli.datadir import data_dir, data_dir_option
from pybrix.local.layout import Layout
from pybrix.local.stopping import stop_running


@click.command()
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), default=90.0, show_default=True,
              help="Seconds to wait for an orderly stop.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Say nothing when all goes well.")
@data_dir_option
def down(timeout_s: float, quiet: bool, data_dir_path: Path | None) -> None:
    """Stop gateway, cluster and engines in order. Objects stay: the next `pybrix up` runs the same pods again.

    \b
    Examples:
      pybrix down
      pybrix down --data-dir ./scratch
    """
    outcome = stop_running(Layout(data_dir(data_dir_path)), SystemClock(), timeout_s)
    if not quiet:
        print(outcome)
