"""`pybrix get`: objects as pybrix sees them."""

from __future__ import annotations

import click

from pybrix.cli.fleettarget import Place, cluster_options


@click.group()
def get() -> None:
    """Show objects with what matters about them.

    \b
    Examples:
      pybrix get fleets
      pybrix get fleets -A -o wide
    """


@get.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
@click.option("-o", "--output", type=click.Choice(["text", "wide", "json", "yaml"]), default="text", show_default=True)
@cluster_options
def fleets(names: tuple[str, ...], all_namespaces: bool, output: str, place: Place) -> None:
    """Show RayClusterFleets: how many clusters serve, and how their rollout is going.

    \b
    Examples:
      pybrix get fleets
      pybrix get fleets big -o json
    """
    from pybrix.cli.rollout_commands import show_fleets

    if all_namespaces and place.namespace:
        raise click.UsageError("--namespace and --all-namespaces contradict each other")
    show_fleets(place, names, is_everywhere=all_namespaces, output=output)
