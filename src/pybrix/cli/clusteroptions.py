"""Options of the embedded cluster that `pybrix up` and `pybrix cluster run` share. They are remembered."""

from __future__ import annotations

import click

authorization_option = click.option(
    "--authorization",
    type=click.Choice(["none", "rbac"]),
    help=(
        "none: whoever is known may do everything. rbac: roles and bindings decide, as on a cluster. "
        "Remembered; none at first."
    ),
)
durability_option = click.option(
    "--durability",
    type=click.Choice(["process", "power"]),
    help=(
        "What an acknowledged write survives: a kill of the process, or also a power cut (writes wait for the disk). "
        "Remembered; process at first."
    ),
)
