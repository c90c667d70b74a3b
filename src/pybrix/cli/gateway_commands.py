"""What the commands of `pybrix gateway` do; imported only when one of them runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec
import yaml

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.cli.service import run_service
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
from pybrix.local.layout import Layout
from pybrix.local.state import read_state

_ASK_TIMEOUT = aiohttp.ClientTimeout(total=5)


def serve_brain(config: GatewayConfiguration, kubeconfig: Path | None, gateway_dir: Path, run_dir: Path) -> None:
    """Run the brain until a signal."""
    run_service(lambda stop: _brain(config, kubeconfig, gateway_dir, run_dir, stop))


def serve_envoy(config: GatewayConfiguration, gateway_dir: Path, run_dir: Path, envoy_path: Path | None) -> None:
    """Run Envoy until a signal, then drain it."""
    run_service(lambda stop: _envoy(config, EnvoyPaths(run_dir, gateway_dir), envoy_path, stop))


async def _brain(
    config: GatewayConfiguration, kubeconfig: Path | None, gateway_dir: Path, run_dir: Path, stop: asyncio.Event
) -> None:
    client = HttpClient(_access(kubeconfig))
    try:
        await run_brain(config, client=client, data_dir=gateway_dir, run_dir=run_dir, stop=stop)
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


async def _envoy(config: GatewayConfiguration, paths: EnvoyPaths, envoy_path: Path | None, stop: asyncio.Event) -> None:
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


def print_configuration(config: GatewayConfiguration, gateway_dir: Path, run_dir: Path) -> None:
    """Print all that Envoy reads, models from the persisted view."""
    paths = EnvoyPaths(run_dir, gateway_dir)
    saved = load_view(gateway_dir / "view.json")
    models = clusters_of(saved[0]) if saved else ()
    documents: dict[str, Any] = {paths.bootstrap.name: render_bootstrap(config, paths)}
    for name, content in render_xds(config, models, paths).items():
        documents[name] = msgspec.json.decode(content)
    click.echo(yaml.safe_dump(documents, sort_keys=False, width=120), nl=False)


def running_dir(run_dir: Path | None, data_dir: Path) -> Path:
    """Return the directory of a running brain's sockets: the one that is named, else the installation's.

    Raises:
        UsageError: none is named and nothing runs on the data directory.
    """
    if run_dir is not None:
        return run_dir
    state = read_state(Layout(data_dir))
    if state is None:
        raise UsageError(f"nothing runs on {data_dir}", "start it with `pybrix up`, or pass --data-dir or --run-dir")
    return Path(state.run_dir)


def print_status(run_dir: Path, output: str) -> None:
    """Print what a running brain sees, as `json` or `text`."""
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


def request_body(model: str | None) -> bytes:
    """Return the smallest request for a model."""
    return msgspec.json.encode({"model": model})


def print_explanation(run_dir: Path, body: bytes, namespace: str, routing_strategy: str) -> None:
    """Print where a request would go, and why."""
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
    except TimeoutError as err:
        raise BrainUnavailable(socket_path, f"nothing came within {_ASK_TIMEOUT.total:.0f} s") from err
    except (aiohttp.ClientConnectorError, FileNotFoundError, ConnectionRefusedError) as err:
        raise BrainUnavailable(socket_path) from err
    except (aiohttp.ClientError, OSError) as err:
        raise BrainUnavailable(socket_path, str(err)) from err


def _pretty(document: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def load_config(config_file: Path | None, **overrides: Any) -> GatewayConfiguration:
    text, source = "", "defaults"
    if config_file is not None:
        source = str(config_file)
        try:
            text = config_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise UsageError(f"configuration: {err}") from err
    return parse_configuration(text, source, build_strategies(), overrides)
