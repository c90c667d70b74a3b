"""`pybrix controllers`: run the controllers of pybrix's kinds against a Kubernetes API, or list them."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def controllers() -> None:
    """Run the controllers of the Kubernetes kinds, or list them."""


@controllers.command()
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="A ControllersConfiguration (YAML or JSON)."
)
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, in-cluster, ~/.kube/config.")
@click.option(
    "--namespace", "namespaces", multiple=True, metavar="NAME", help="Watch only this namespace; may be given again."
)
@click.option("--controllers", "names", metavar="LIST", help="Controllers that run: '*', names, -name for all but it.")
@click.option("--leader-elect/--no-leader-elect", default=None, help="Whether one of several processes is chosen.")
@click.option("--leader-elect-namespace", metavar="NAME", help="Namespace of the Lease; it must exist.")
@click.option("--health-address", help="Address of /healthz, /readyz and /metrics; overrides the configuration.")
@click.option("--health-port", type=click.IntRange(0, 65535), help="Port of the same; 0: any.")
@click.option("--health-socket", type=click.Path(path_type=Path), help="A Unix socket for the same instead.")
def run(
    config_file: Path | None,
    kubeconfig: Path | None,
    namespaces: tuple[str, ...],
    names: str | None,
    leader_elect: bool | None,
    leader_elect_namespace: str | None,
    health_address: str | None,
    health_port: int | None,
    health_socket: Path | None,
) -> None:
    """Run controllers in the foreground until SIGTERM, which gives the lease back at once.

    \b
    Examples:
      pybrix controllers run --no-leader-elect
      pybrix controllers run --namespace team-a --controllers '*,-modeladapter'
    """
    from pybrix.cli import controllers_commands as commands

    config = commands.load_config(
        config_file,
        {
            "namespaces": list(namespaces) or None,
            "controllers": None if names is None else [name.strip() for name in names.split(",")],
            "leaderElection": {"isEnabled": leader_elect, "namespace": leader_elect_namespace},
            "healthAddress": health_address,
            "healthPort": health_port,
            "healthSocket": None if health_socket is None else str(health_socket),
        },
    )
    commands.serve(config, kubeconfig)


@controllers.command("list")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_controllers(output: str) -> None:
    """List the controllers there are, with the kinds they work on and what they watch."""
    from pybrix.cli import controllers_commands as commands

    commands.print_list(output)
