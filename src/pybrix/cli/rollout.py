"""`pybrix rollout`: rollouts of RayClusterFleets, by the words of `kubectl rollout`."""

from __future__ import annotations

import click

from pybrix.cli.fleettarget import Place, cluster_options, target_argument


@click.group()
def rollout() -> None:
    """Watch, undo, hold or repeat the rollout of a RayClusterFleet.

    \b
    Examples:
      pybrix rollout status fleet/big
      pybrix rollout history fleet/big
      pybrix rollout undo fleet/big --to-revision 3
    """


@rollout.command()
@target_argument
@click.option("--wait/--no-wait", "is_waiting", default=True, help="Go on until the rollout is complete or stuck.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), default=0.0, metavar="SECONDS",
              help="Give up after so long; 0 for never.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@cluster_options
def status(name: str, is_waiting: bool, timeout_s: float, output: str, place: Place) -> None:
    """Show how a rollout is going, live; exit with 1 when it is stuck or the time is over.

    \b
    Examples:
      pybrix rollout status fleet/big
      pybrix rollout status fleet/big --timeout 600
      pybrix rollout status fleet/big --no-wait -o json
    """
    from pybrix.cli.rollout_commands import show_status

    show_status(
        place,
        name,
        is_waiting=is_waiting and output == "text",
        timeout_s=timeout_s,
        output=output,
    )


@rollout.command()
@target_argument
@click.option("--revision", type=click.IntRange(1), help="Print the template of this revision.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@cluster_options
def history(name: str, revision: int | None, output: str, place: Place) -> None:
    """List the revisions of a fleet, or print the template of one.

    \b
    Examples:
      pybrix rollout history fleet/big
      pybrix rollout history fleet/big --revision 2
    """
    from pybrix.cli.rollout_commands import show_history

    show_history(place, name, number=revision, output=output)


@rollout.command()
@target_argument
@click.option("--to-revision", type=click.IntRange(0), default=0, help="Revision to go back to; 0: the one before.")
@cluster_options
def undo(name: str, to_revision: int, place: Place) -> None:
    """Go back to the template of an earlier revision.

    \b
    Examples:
      pybrix rollout undo fleet/big
      pybrix rollout undo fleet/big --to-revision 3
    """
    from pybrix.cli.rollout_commands import roll_back

    roll_back(place, name, number=to_revision)


@rollout.command()
@target_argument
@cluster_options
def pause(name: str, place: Place) -> None:
    """Hold a rollout where it is. Scaling goes on.

    \b
    Examples:
      pybrix rollout pause fleet/big
    """
    from pybrix.cli.rollout_commands import set_paused

    set_paused(place, name, is_paused=True)


@rollout.command()
@target_argument
@cluster_options
def resume(name: str, place: Place) -> None:
    """Let a rollout that was paused go on.

    \b
    Examples:
      pybrix rollout resume fleet/big
    """
    from pybrix.cli.rollout_commands import set_paused

    set_paused(place, name, is_paused=False)


@rollout.command()
@target_argument
@cluster_options
def restart(name: str, place: Place) -> None:
    """Replace every cluster by a new one of the same template, as the fleet's strategy allows.

    \b
    Examples:
      pybrix rollout restart fleet/big
    """
    from pybrix.cli.rollout_commands import restart_fleet

    restart_fleet(place, name)
