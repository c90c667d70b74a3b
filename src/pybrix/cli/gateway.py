"""`pybrix gateway`: run the brain or Envoy, print Envoy's configuration, ask a running brain about itself."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from pybrix.base.errors import UsageError
from pybrix.cli.datadir import data_dir, data_dir_option

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
_running_dir = click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of a brain's Unix sockets; that of the running `pybrix up`.",
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
def brain(
    config_file: Path | None,
    kubeconfig: Path | None,
    gateway_dir: Path,
    run_dir: Path,
    address: str | None,
    port: int | None,
    routing_strategy: str | None,
) -> None:
    """Decide which endpoints a request goes to, until SIGTERM."""
    from pybrix.cli import gateway_commands as commands

    config = commands.load_config(config_file, address=address, port=port, routingStrategy=routing_strategy)
    commands.serve_brain(config, kubeconfig, gateway_dir, run_dir)


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
    """Run Envoy in the foreground; SIGTERM drains it."""
    from pybrix.cli import gateway_commands as commands

    config = commands.load_config(config_file, address=address, port=port)
    commands.serve_envoy(config, gateway_dir, run_dir, envoy_path)


@gateway.command()
@_config
@_data_dir
@_run_dir
@_address
@_port
def render(config_file: Path | None, gateway_dir: Path, run_dir: Path, address: str | None, port: int | None) -> None:
    """Print Envoy's configuration as YAML: bootstrap and, from the persisted view, what file xDS serves."""
    from pybrix.cli import gateway_commands as commands

    config = commands.load_config(config_file, address=address, port=port)
    commands.print_configuration(config, gateway_dir, run_dir)


@gateway.command()
@data_dir_option
@_running_dir
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def status(data_dir_path: Path | None, run_dir: Path | None, output: str) -> None:
    """Show what a running brain sees: models, endpoints, requests in flight."""
    from pybrix.cli import gateway_commands as commands

    commands.print_status(commands.running_dir(run_dir, data_dir(data_dir_path)), output)


@gateway.command()
@data_dir_option
@_running_dir
@click.option("--model", help="The model of a request that has only that.")
@click.option("--file", "body_file", type=click.File("rb"), help="A request body; - reads standard input.")
@click.option("--namespace", default="", help="Namespace of the model.")
@click.option("--routing-strategy", default="", help="As in the header of that name.")
def explain(
    data_dir_path: Path | None,
    run_dir: Path | None,
    model: str | None,
    body_file: IO[bytes] | None,
    namespace: str,
    routing_strategy: str,
) -> None:
    """Show where a request would go now, and why. Nothing is sent to an engine."""
    if (model is None) == (body_file is None):
        raise UsageError("explain needs a request", "pass --model NAME or --file BODY")
    from pybrix.cli import gateway_commands as commands

    body = commands.request_body(model) if body_file is None else body_file.read()
    commands.print_explanation(
        commands.running_dir(run_dir, data_dir(data_dir_path)), body, namespace, routing_strategy
    )
