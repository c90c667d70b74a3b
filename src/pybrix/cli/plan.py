"""`pybrix plan`: the steps that a rollout would take."""

from __future__ import annotations

import click

from pybrix.cli.fleettarget import Place, cluster_options, target_argument


@click.command()
@target_argument
@click.option("--image", "images", multiple=True, metavar="[CONTAINER=]IMAGE",
              help="Image that it would bring: to that container, or to those of its repository.")  # fmt: skip
@click.option("--replicas", type=click.IntRange(0), help="Clusters that the fleet would be scaled to.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@cluster_options
def plan(name: str, images: tuple[str, ...], replicas: int | None, output: str, place: Place) -> None:
    """Show what a rollout would do, step by step, without doing it: how many clusters exist and serve meanwhile.

    It is the controller's own planner, asked what it would do if every cluster came up.

    \b
    Examples:
      pybrix plan fleet/big --image vllm/vllm-openai:v0.11.0
      pybrix plan fleet/big --image engine=pybrix/simulator:2 --replicas 4
    """
    from pybrix.cli.rollout_commands import show_plan

    show_plan(place, name, images=images, replicas=replicas, output=output)
