"""`pybrix status`: what runs and how it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from pybrix.cli.datadir import data_dir, data_dir_option
from pybrix.cli.tables import render_table
from pybrix.local.layout import Layout
from pybrix.local.leftovers import nothing_runs
from pybrix.local.overview import Overview, gather_overview
from pybrix.local.state import read_state


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@data_dir_option
def status(output: str, data_dir_path: Path | None) -> None:
    """Show processes, models and pods. Exit code 1 when nothing runs.

    \b
    Examples:
      pybrix status
      pybrix status -o json
    """
    layout = Layout(data_dir(data_dir_path))
    state = read_state(layout)
    if state is None:
        raise nothing_runs(layout)
    overview = asyncio.run(gather_overview(layout, state))
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(overview), indent=2).decode())
    else:
        print(_render(overview))


def _render(overview: Overview) -> str:
    lines = [
        f"Gateway      {overview.gateway_url}",
        f"Kubeconfig   {overview.kubeconfig}",
        "",
        *render_table(
            ("PROCESS", "PID", "STATE"),
            [(p.name, str(p.pid), "running" if p.running else "gone") for p in overview.processes],
        ),
    ]
    if overview.controllers:
        running = sum(controller.state == "running" for controller in overview.controllers)
        others = [f"{c.name} {c.state}" for c in overview.controllers if c.state != "running"]
        lines += ["", "Controllers  " + ", ".join([f"{running} running", *others])]
    if overview.models:
        rows = [(m.model, m.namespace, str(m.ready), str(m.in_flight)) for m in overview.models]
        lines += ["", *render_table(("MODEL", "NAMESPACE", "READY", "IN FLIGHT"), rows)]
        lines += [f"  {why}" for m in overview.models for why in m.absent]
        lines += [f"  {m.namespace}/{m.model}: {why}" for m in overview.models for why in m.config_problems]
    if overview.pods:
        pods = [
            (p.namespace, p.name, p.status, "yes" if p.ready else "no", str(p.restarts), p.ip) for p in overview.pods
        ]
        lines += ["", *render_table(("NAMESPACE", "POD", "STATUS", "READY", "RESTARTS", "IP"), pods)]
    lines += ["", *overview.problems] if overview.problems else []
    return "\n".join(lines)
