"""What the commands of `pybrix controllers` do; imported only when one of them runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from pybrix.api.config import ControllersConfiguration
from pybrix.cli.access import find_access
from pybrix.cli.configfile import read_config
from pybrix.cli.service import run_service
from pybrix.cli.tables import render_table
from pybrix.controllers.app import run_controllers
from pybrix.controllers.configuration import parse_configuration
from pybrix.controllers.registry import REGISTRY
from pybrix.kube.client import HttpClient


def load_config(config_file: Path | None, overrides: Mapping[str, Any]) -> ControllersConfiguration:
    """Read the configuration and lay the flags over it.

    Raises:
        UsageError: the file cannot be read, or something in it is wrong.
    """
    text, source = read_config(config_file, "flags")
    return parse_configuration(text, source, overrides)


def serve(config: ControllersConfiguration, kubeconfig: Path | None) -> None:
    """Run the controllers until a signal."""
    run_service(lambda stop: _serve(config, kubeconfig, stop))


async def _serve(config: ControllersConfiguration, kubeconfig: Path | None, stop: asyncio.Event) -> None:
    async with HttpClient(find_access(kubeconfig)) as client:
        await run_controllers(config, client=client, stop=stop)


def print_list(output: str) -> None:
    """Print every controller, as `json` or `text`."""
    if output == "json":
        entries = [
            {
                "name": registration.name,
                "kinds": [f"{kind.gvk.plural}.{kind.gvk.group}" for kind in registration.kinds],
                "watches": registration.watches,
            }
            for registration in REGISTRY
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(entries), indent=2).decode())
        return
    rows = []
    for registration in REGISTRY:
        kinds = [kind.gvk.kind for kind in registration.kinds]
        # Long lists one kind a line, so that the table stays readable.
        first, *rest = kinds or ["-"]
        rows.append((registration.name, first, registration.watches))
        rows += [("", kind, "") for kind in rest]
    click.echo("\n".join(render_table(("NAME", "KINDS", "WATCHES"), rows)))
