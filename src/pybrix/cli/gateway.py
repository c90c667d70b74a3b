"""`pybrix gateway`: run the brain or Envoy, print Envoy's configuration, ask a running brain about itself."""

from __future__ import annotations

from pathlib import Path

import click

from pybrix.cli.datadir import data_dir, data_dir_option
from pybrix.cli.explain import explain, running_dir_option
from pybrix.cli.gateway_users import keys, users

_config = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="A GatewayConfiguration (YAML or JSON)."
)
_data_dir = click.option(
    "--gateway-dir",
    "--data-dir",
    "gateway_dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Directory of the persisted view and Envoy's files.",
)
_run_dir = click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Directory of the Unix sockets, for this user only.",
)
_address = click.option("--address", help="Address that clients connect to; overrides the configuration.")
_port = click.option("--port", type=int, help="Port that clients connect to; overrides the configuration.")
_strategy = click.option("--routing-strategy", help="Strategy of requests that name none; overrides the configuration.")


@click.group()
def gateway() -> None:
    """Run the gateway's brain, or Envoy with its configuration."""


@gateway.command()
@_config
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, in-cluster, ~/.kube/config.")
@_data_dir
@_run_dir
@_address
@_port
@_strategy
@click.option("--health-address", default="127.0.0.1", show_default=True, help="Address of --health-port.")
@click.option("--health-port", type=int, help="Port of /healthz, /readyz and /metrics; without it, a socket alone.")
def brain(
    config_file: Path | None,
    kubeconfig: Path | None,
    gateway_dir: Path,
    run_dir: Path,
    address: str | None,
    port: int | None,
    routing_strategy: str | None,
    health_address: str,
    health_port: int | None,
) -> None:
    """Decide which endpoints a request goes to, until SIGTERM."""
    from pybrix.cli import gateway_commands as commands
    from pybrix.cli.gateway_configuration import load_config

    config = load_config(config_file, address=address, port=port, routingStrategy=routing_strategy)
    health = None if health_port is None else (health_address, health_port)
    commands.serve_brain(config, kubeconfig, gateway_dir, run_dir, health)


@gateway.command()
@_config
@_data_dir
@_run_dir
@_address
@_port
@click.option("--envoy-path", type=click.Path(path_type=Path), help="An Envoy program; default: the package's.")
def envoy(
    config_file: Path | None,
    gateway_dir: Path,
    run_dir: Path,
    address: str | None,
    port: int | None,
    envoy_path: Path | None,
) -> None:
    """Run Envoy in the foreground; SIGTERM drains it, a second one ends it.

    Where an Envoy serves in the run directory already, the new one takes over its port: no connection is refused, and
    the old one ends by itself when its requests have ended, or after the drain time.
    """
    from pybrix.cli import envoy_commands as commands
    from pybrix.cli.gateway_configuration import load_config

    config = load_config(config_file, address=address, port=port)
    commands.serve_envoy(config, gateway_dir, run_dir, envoy_path)


@gateway.command()
@_config
@click.option("--balancer-dir", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Directory of its files; xds/gateways.json lists the gateways.")  # fmt: skip
@_run_dir
@_address
@_port
@click.option("--envoy-path", type=click.Path(path_type=Path), help="An Envoy program; default: the package's.")
def balancer(
    config_file: Path | None,
    balancer_dir: Path,
    run_dir: Path,
    address: str | None,
    port: int | None,
    envoy_path: Path | None,
) -> None:
    """Run the load balancer in front of several gateways on this machine; SIGTERM drains it.

    `pybrix up --gateways N` runs it. Started again, it takes over from itself, as Envoy does in a gateway.
    """
    from pybrix.cli import envoy_commands as commands
    from pybrix.cli.gateway_configuration import load_config

    config = load_config(config_file, address=address, port=port)
    commands.serve_balancer(config, balancer_dir, run_dir, envoy_path)


@gateway.command()
@_config
@_data_dir
@_run_dir
@_address
@_port
def render(config_file: Path | None, gateway_dir: Path, run_dir: Path, address: str | None, port: int | None) -> None:
    """Print Envoy's configuration as YAML: bootstrap and, from the persisted view, what file xDS serves."""
    from pybrix.cli import gateway_commands as commands
    from pybrix.cli.gateway_configuration import load_config

    config = load_config(config_file, address=address, port=port)
    commands.print_configuration(config, gateway_dir, run_dir)


@gateway.command()
@data_dir_option
@running_dir_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def status(data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """Show what a running brain sees: models, endpoints, requests in flight, and the other gateways.

    \b
    Of other gateways, STATE is
      live     its requests count here
      behind   live, and something that it said is missing here: its snapshot is awaited
      left     it ended in good order
      silent   nothing was heard of it for a while; its requests count no longer
    """
    from pybrix.cli import gateway_commands as commands
    from pybrix.cli.brain import running_dir

    commands.print_status(running_dir(run_dir, data_dir(data_dir_path)), output)


@gateway.command()
@click.argument("count", type=click.IntRange(1, 16))
@data_dir_option
def scale(count: int, data_dir_path: Path | None) -> None:
    """Have COUNT gateways on this machine; those that go finish what they have.

    \b
    Examples:
      pybrix up --simulate 3 --gateways 2 --detach
      pybrix gateway scale 3
    """
    from pybrix.cli import gateway_commands as commands

    commands.scale_gateways(data_dir(data_dir_path), count)


gateway.add_command(explain)
gateway.add_command(users)
gateway.add_command(keys)
