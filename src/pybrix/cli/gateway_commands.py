"""What the commands of `pybrix gateway` do; imported only when one of them runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.cli.access import find_access
from pybrix.cli.brain import ask_brain, pretty
from pybrix.cli.service import Stop, run_service
from pybrix.cli.tables import render_table
from pybrix.envoy.bootstrap import render_bootstrap
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.xds import render_xds
from pybrix.gateway.app import run_brain
from pybrix.gateway.view.persist import load_view
from pybrix.gateway.xds import clusters_of
from pybrix.kube.client import HttpClient
from pybrix.local.control import Control
from pybrix.local.layout import Layout

SHARED_THROUGH = {"redis": "Redis", "peers": "a directory of this machine"}


def serve_brain(
    config: GatewayConfiguration,
    kubeconfig: Path | None,
    gateway_dir: Path,
    run_dir: Path,
    health: tuple[str, int] | None = None,
) -> None:
    """Run the brain until a signal; `health` is an address and port of /healthz, /readyz and /metrics."""
    run_service(lambda stop: _brain(config, kubeconfig, gateway_dir, run_dir, health, stop))


async def _brain(
    config: GatewayConfiguration,
    kubeconfig: Path | None,
    gateway_dir: Path,
    run_dir: Path,
    health: tuple[str, int] | None,
    stop: Stop,
) -> None:
    client = HttpClient(find_access(kubeconfig))
    try:
        cut = await run_brain(
            config,
            client=client,
            data_dir=gateway_dir,
            run_dir=run_dir,
            stop=stop,
            hurry=stop.hurry,
            health=health,
        )
    finally:
        await client.aclose()
    if cut:
        raise UsageError(f"decisions that were cut: {cut}", "Envoy routes those requests by itself")


def scale_gateways(data_dir: Path, count: int) -> None:
    """Have so many gateways, and say so when they are there."""
    asyncio.run(Control(Layout(data_dir)).scale(count))
    click.echo(f"{count} gateway{'s' if count > 1 else ''}")


def print_configuration(config: GatewayConfiguration, gateway_dir: Path, run_dir: Path) -> None:
    """Print all that Envoy reads, models from the persisted view."""
    paths = EnvoyPaths(run_dir, gateway_dir)
    saved = load_view(gateway_dir / "view.json")
    models = clusters_of(saved[0]) if saved else ()
    documents: dict[str, Any] = {paths.bootstrap.name: render_bootstrap(config, paths)}
    for name, content in render_xds(config, models, paths).items():
        documents[name] = msgspec.json.decode(content)
    click.echo(yaml.safe_dump(documents, sort_keys=False, width=120), nl=False)


def print_status(run_dir: Path, output: str) -> None:
    """Print what a running brain sees, as `json` or `text`."""
    _, document = asyncio.run(ask_brain(run_dir, "GET", "/debug/view"))
    if output == "json":
        click.echo(pretty(document))
        return
    view = document["view"]
    age = "never in contact" if view["contactAgeS"] is None else f"last contact {view['contactAgeS']:.1f} s ago"
    click.echo(f"ready: {document['ready']}   view: {view['source']}, version {view['version']}, API {age}")
    click.echo(f"requests in flight: {document['reservations']['held']}")
    for line in show_sharing(document.get("statesync")):
        click.echo(line)
    for model in document["models"]:
        click.echo(f"{model['namespace']}/{model['model']}")
        for endpoint in model["endpoints"]:
            elsewhere = endpoint.get("requestsInFlightElsewhere")
            others = f", {elsewhere} of them by other gateways" if elsewhere else ""
            click.echo(f"  {endpoint['pod']}  {endpoint['host']}  {endpoint['requestsInFlight']} in flight{others}")
        for problem in (model["config"] or {}).get("problems", ()):
            click.echo(f"  {problem}")
        for pod in model["absent"]:
            click.echo(f"  {pod['pod']}  no endpoint: {pod['why']}")


def show_sharing(shared: Any) -> list[str]:
    """Return the lines on what this gateway shares with others; none where it shares nothing."""
    if not shared or shared["transport"] == "none":
        return []
    ratio = shared["divergenceRatio"]
    view = "nobody to compare with" if ratio is None else f"views differ by at most {ratio:.1%}"
    lines = [f"gateways, through {SHARED_THROUGH[shared['transport']]}: {view}"]
    if shared["problem"]:
        lines.append(f"  {shared['problem']}")
    rows = [(f"{shared['instance']} (this one)", "live", "-", "-", str(shared["requestsInFlight"]), "-")]
    for each in shared["instances"]:
        differs = each["divergenceRatio"]
        rows.append(
            (
                each["name"],
                each["state"],
                f"{each['lagS']:.1f} s",
                f"{1000 * each['delayS']:.0f} ms",
                str(each["requestsInFlight"]),
                "-" if differs is None else f"{differs:.1%}",
            )
        )
    head = ("INSTANCE", "STATE", "LAST WORD", "ON ITS WAY", "IN FLIGHT", "DIFFERS")
    return lines + [f"  {line}" for line in render_table(head, rows)]
