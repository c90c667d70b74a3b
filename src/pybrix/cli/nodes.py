"""The option that shows one machine as several nodes."""

from __future__ import annotations

import click

from pybrix.base.errors import UsageError


def _checked(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Refuse a text that cannot be understood here, before anything is started."""
    from pybrix.cluster.nodes import parse_nodes

    if text is not None:
        try:
            parse_nodes(text, "local")
        except UsageError as err:
            raise click.UsageError(str(err)) from err
    return text


nodes_option = click.option(
    "--nodes",
    metavar="NODE,...",
    callback=_checked,
    help=(
        "Show this machine as several nodes: [Nx ]gpu=MODEL[:COUNT]|plain|zone=Z|cpu=N|taint=KEY:EFFECT|LABEL=VALUE, "
        "joined by +. Remembered; one plain node at first."
    ),
)
