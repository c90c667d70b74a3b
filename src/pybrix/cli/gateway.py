"""`pybrix gateway`: run the brain or Envoy, print Envoy's configuration, ask a running brain about itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec
import structlog
import uvloop
import yaml

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import PybrixError, UsageError
from pybrix.envoy.binary import find_envoy
from pybrix.envoy.bootstrap import render_bootstrap
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.process import EnvoyProcess
from pybrix.envoy.wire import NAMESPACE_HEADER
from pybrix.envoy.xds import render_xds
from pybrix.gateway.admin import SOCKET_NAME
from pybrix.gateway.app import run_brain
from pybrix.gateway.configuration import parse_configuration
from pybrix.gateway.errors import BrainUnavailable
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.view.persist import load_view
from pybrix.gateway.xds import clusters_of
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import ClusterAccess, load_in_cluster, load_kubeconfig

_ASK_TIMEOUT = aiohttp.ClientTimeout(total=5)

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
    config = _load_config(config_file, address=address, port=port, routingStrategy=routing_strategy)
    _run(_brain(config, kubeconfig, gateway_dir, run_dir))


async def _brain(config: GatewayConfiguration, kubeconfig: Path | None, gateway_dir: Path, run_dir: Path) -> None:
    client = HttpClient(_access(kubeconfig))
    try:
        await run_brain(config, client=client, data_dir=gateway_dir, run_dir=run_dir, stop=_stop_on_signals())
    finally:
        await client.aclose()


def _access(kubeconfig: Path | None) -> ClusterAccess:
    """Find the cluster as kubectl does: the flag, `KUBECONFIG`, the pod's service account, `~/.kube/config`."""
    named = kubeconfig or (Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else None)
    if named is not None:
        return load_kubeconfig(named)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return load_in_cluster(os.environ)
    return load_kubeconfig(Path.home() / ".kube" / "config")


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
    config = _load_config(config_file, address=address, port=port)
    _run(_envoy(config, EnvoyPaths(run_dir, gateway_dir), envoy_path))


async def _envoy(config: GatewayConfiguration, paths: EnvoyPaths, envoy_path: Path | None) -> None:
    stop = _stop_on_signals()
    process = await EnvoyProcess.start(config, paths, binary=find_envoy(envoy_path))
    try:
        async with asyncio.TaskGroup() as tasks:
            ended = tasks.create_task(process.wait())
            stopped = tasks.create_task(stop.wait())
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                await process.stop(config.drain_timeout_s)
            stopped.cancel()
    finally:
        await process.stop()
    if not stop.is_set():
        raise UsageError(f"Envoy ended by itself with status {process.returncode}", f"see {paths.gateway_dir}")


@gateway.command()
@_config
@_data_dir
@_run_dir
@_address
@_port
def render(config_file: Path | None, gateway_dir: Path, run_dir: Path, address: str | None, port: int | None) -> None:
    """Print Envoy's configuration as YAML: bootstrap and, from the persisted view, what file xDS serves."""
    config = _load_config(config_file, address=address, port=port)
    paths = EnvoyPaths(run_dir, gateway_dir)
    saved = load_view(gateway_dir / "view.json")
    models = clusters_of(saved[0]) if saved else ()
    documents: dict[str, Any] = {paths.bootstrap.name: render_bootstrap(config, paths)}
    for name, content in render_xds(config, models, paths).items():
        documents[name] = msgspec.json.decode(content)
    click.echo(yaml.safe_dump(documents, sort_keys=False, width=120), nl=False)


@gateway.command()
@_run_dir
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def status(run_dir: Path, output: str) -> None:
    """Show what a running brain sees: models, endpoints, requests in flight."""
    document = asyncio.run(_ask(run_dir, "GET", "/debug/view"))
    if output == "json":
        click.echo(_pretty(document))
        return
    view = document["view"]
    age = "never in contact" if view["contactAgeS"] is None else f"last contact {view['contactAgeS']:.1f} s ago"
    click.echo(f"ready: {document['ready']}   view: {view['source']}, version {view['version']}, API {age}")
    click.echo(f"requests in flight: {document['reservations']['held']}")
    for model in document["models"]:
        click.echo(f"{model['namespace']}/{model['model']}")
        for endpoint in model["endpoints"]:
            click.echo(f"  {endpoint['pod']}  {endpoint['host']}  {endpoint['requestsInFlight']} in flight")
        for pod in model["absent"]:
            click.echo(f"  {pod['pod']}  no endpoint: {pod['why']}")


@gateway.command()
@_run_dir
@click.option("--model", help="The model of a request that has only that.")
@click.option("--file", "body_file", type=click.File("rb"), help="A request body; - reads standard input.")
@click.option("--namespace", default="", help="Namespace of the model.")
@click.option("--routing-strategy", default="", help="As in the header of that name.")
def explain(run_dir: Path, model: str | None, body_file: Any, namespace: str, routing_strategy: str) -> None:
    """Show where a request would go now, and why. Nothing is sent to an engine."""
    if (model is None) == (body_file is None):
        raise UsageError("explain needs a request", "pass --model NAME or --file BODY")
    body = body_file.read() if body_file else msgspec.json.encode({"model": model})
    headers = {NAMESPACE_HEADER: namespace, "routing-strategy": routing_strategy}
    asked = {name: value for name, value in headers.items() if value}
    click.echo(_pretty(asyncio.run(_ask(run_dir, "POST", "/debug/explain", body, asked))))


async def _ask(
    run_dir: Path, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Any:
    socket_path = run_dir / SOCKET_NAME
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket_path)), timeout=_ASK_TIMEOUT) as session,
            session.request(method, f"http://brain{path}", data=body, headers=headers) as response,
        ):
            if response.status != 200:
                raise BrainUnavailable(socket_path, f"it answers {response.status}")
            return msgspec.json.decode(await response.read())
    except (aiohttp.ClientError, TimeoutError, OSError) as err:
        raise BrainUnavailable(socket_path, str(err) or "no answer in time") from err


def _pretty(document: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _load_config(config_file: Path | None, **overrides: Any) -> GatewayConfiguration:
    text, source = "", "defaults"
    if config_file is not None:
        source = str(config_file)
        try:
            text = config_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise UsageError(f"configuration: {err}") from err
    return parse_configuration(text, source, build_strategies(), overrides)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop, logging to standard error; an error for people is raised as itself, not in a group."""
    # Tracebacks without locals: those hold prompts and keys of clients.
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    try:
        uvloop.run(main)
    except BaseExceptionGroup as group:
        for error in _leaves(group):
            if isinstance(error, (PybrixError, OSError)):
                raise UsageError(str(error)) from error
        raise
    except OSError as err:
        raise UsageError(str(err)) from err


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
