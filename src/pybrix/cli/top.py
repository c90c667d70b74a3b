"""`pybrix top`: models and endpoints, live."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pybrix.cli.datadir import data_dir, data_dir_option
from pybrix.cli.explain import running_dir_option

SORTS = ("name", "requests", "tokens", "kv", "hit", "ttft", "errors")


@click.command()
@click.option("--model", help="Only models whose name contains this.")
@click.option("-n", "--namespace", help="Only models of this namespace.")
@click.option("--sort", type=click.Choice(SORTS), default="name", show_default=True, help="What comes first: the most.")
@click.option("--interval", "interval_s", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Print once and end; so does -o json, and where this is no terminal.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@data_dir_option
@running_dir_option
def top(
    model: str | None,
    namespace: str | None,
    sort: str,
    interval_s: float,
    once: bool,
    output: str,
    data_dir_path: Path | None,
    run_dir: Path | None,
) -> None:
    """Show models and endpoints: load, KV cache, prefix hits, time to first token, errors.

    Requests and tokens in flight are the gateway's own count; KV cache and prefix hits are what engines say, AGE is how
    long ago; times to first token are of streams of the last minute. The live view needs `pip install 'pybrix[top]'`.

    \b
    Examples:
      pybrix top
      pybrix top --sort kv --namespace team
      pybrix top --once -o json
    """
    from pybrix.cli import top_commands as commands

    choice = commands.Choice(model or "", namespace or "", sort)
    where = commands.running_dir(run_dir, data_dir(data_dir_path))
    if once or output == "json" or not sys.stdout.isatty():
        commands.print_once(where, choice, output)
    else:
        commands.run_live(where, choice, interval_s)
