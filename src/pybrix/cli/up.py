"""`pybrix up`: start everything on this machine."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

import pybrix
from pybrix.api.config import GatewayConfiguration, RedisConfiguration
from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.cli.clusteroptions import authorization_option, durability_option
from pybrix.cli.datadir import data_dir, data_dir_option
from pybrix.cli.gateway_configuration import load_config
from pybrix.cli.nodes import nodes_option
from pybrix.cli.redis import connection_problem
from pybrix.engine.modelfiles import default_cache_dir
from pybrix.gateway.scheduling.registry import strategy_names
from pybrix.local.gateways import check_configuration
from pybrix.local.layout import Layout
from pybrix.local.reporter import Reporter
from pybrix.local.running import UpOptions, run_resumed, run_up
from pybrix.local.state import UpState, read_state

_DETACHED_TIMEOUT_S = 300.0
_DEFAULTS = GatewayConfiguration()


@click.command()
@click.option("--model", metavar="NAME|FILE", help="Serve a real model: smollm2, or a GGUF file.")
@click.option("--simulate", type=click.IntRange(1, 200), metavar="N", help="Serve N simulated engines.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A GatewayConfiguration (YAML or JSON): API keys, limits, tracing and more. Options here come on top.",
)
@click.option("--port", type=click.IntRange(0, 65535), show_default=str(_DEFAULTS.port), help="Gateway port; 0: any.")
@click.option("--address", show_default=_DEFAULTS.address, help="Address the gateway listens on.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=0, help="Port of the Kubernetes API; 0: as before.")
@nodes_option
@authorization_option
@durability_option
@click.option("--routing-strategy", type=click.Choice(strategy_names()), show_default=_DEFAULTS.routing_strategy,
              help="How endpoints are ranked for requests that name no strategy.")  # fmt: skip
@click.option("--gateways", type=click.IntRange(1, 16), default=1, show_default=True,
              help="Gateways, each an Envoy and a brain; several are behind a load balancer.")  # fmt: skip
@click.option("--redis", "redis_address", metavar="HOST:PORT", default="",
              help="A Redis in which gateways share what they know; without one they do on this machine.")  # fmt: skip
@click.option("--drain-timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              show_default=str(_DEFAULTS.drain_timeout_s),
              help="How long what is under way may go on where an Envoy stops or is replaced.")  # fmt: skip
@click.option("--envoy-path", type=click.Path(path_type=Path), help="An Envoy of your own.")
@click.option("--model-cache", type=click.Path(path_type=Path), help="Where fetched models are kept.")
@click.option("-d", "--detach", is_flag=True, help="Return when everything is ready; stop it with `pybrix down`.")
@click.option("--detached", is_flag=True, hidden=True, help="The other side of --detach.")
@click.option("--resume", is_flag=True, hidden=True, help="Watch over what runs already; for `pybrix upgrade`.")
@data_dir_option
def up(
    model: str | None,
    simulate: int | None,
    config_file: Path | None,
    port: int | None,
    address: str | None,
    api_port: int,
    nodes: str | None,
    authorization: str | None,
    durability: str | None,
    routing_strategy: str | None,
    gateways: int,
    redis_address: str,
    drain_timeout: float | None,
    envoy_path: Path | None,
    model_cache: Path | None,
    detach: bool,
    detached: bool,
    resume: bool,
    data_dir_path: Path | None,
) -> None:
    """Start cluster, gateway and engines on this machine, and show where they answer.

    What was deployed before is still there: without --model and --simulate, only that runs.
    Ctrl-C stops everything in order.

    \b
    Examples:
      pybrix up --model smollm2
      pybrix up --simulate 3 --port 9000
      pybrix up --simulate 3 --config gateway.yaml
      pybrix up --simulate 3 --gateways 3
      pybrix up --nodes 'gpu=NVIDIA-A10:2, 2x gpu=NVIDIA-L20:8'
      pybrix up --simulate 3 --authorization rbac
      pybrix up --simulate 3 --detach && pybrix chat hello && pybrix down
    """
    layout = Layout(data_dir(data_dir_path))
    if detach:
        _detach(layout)
        return
    if resume:
        asyncio.run(run_resumed(layout, SystemClock(), Reporter(_say, SystemClock()), is_detached=detached))
        return
    config = _with_options(
        load_config(config_file),
        redis_address,
        address=address,
        port=port,
        routing_strategy=routing_strategy,
        drain_timeout_s=drain_timeout,
    )
    check_configuration(config, str(config_file), gateways)
    options = UpOptions(
        layout=layout,
        gateway=config,
        model_cache=model_cache or default_cache_dir(),
        model=model,
        simulate=simulate,
        api_port=api_port,
        nodes=nodes,
        authorization=authorization,
        durability=durability,
        envoy_path=envoy_path,
        gateways=gateways,
        is_detached=detached,
    )
    stop_with = layout.command("down")
    _say(f"pybrix {pybrix.__version__}, data in {layout.root}")
    if (address := config.redis.address) and (problem := connection_problem(address)) is not None:
        _say(
            f"Warning: Redis at {address} does not answer ({problem}): until it does, gateways share nothing and "
            f"limits are of each gateway alone"
        )
    asyncio.run(
        run_up(
            options,
            SystemClock(),
            Reporter(_say, SystemClock()),
            lambda state: _say(_summary(state, stop_with if detached else f"Ctrl-C, or {stop_with}")),
        )
    )


def _with_options(config: GatewayConfiguration, redis_address: str, **options: Any) -> GatewayConfiguration:
    """Return a configuration with what the command line says on top; None: it says nothing.

    Raises:
        UsageError: the address of Redis is none.
    """
    redis = config.redis
    if redis_address:
        try:
            fields = msgspec.to_builtins(redis) | {"address": redis_address}
            redis = msgspec.convert(fields, RedisConfiguration)
        except msgspec.ValidationError as err:
            raise click.UsageError(f"--redis {redis_address}: no HOST:PORT, and no absolute path of a socket") from err
    given = {name: value for name, value in options.items() if value is not None}
    return msgspec.structs.replace(config, redis=redis, **given)


def _say(text: str) -> None:
    """Print, and go on in silence once nobody reads: what was started must still be stopped in order."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _summary(state: UpState, stop_with: str) -> str:
    lines = ["", f"Gateway      {state.gateway_url}", f"Kubeconfig   {state.kubeconfig}", ""]
    if state.models:
        question = {"model": state.models[0], "messages": [{"role": "user", "content": "Hello!"}]}
        body = shlex.quote(msgspec.json.encode(question).decode())
        url = f"{state.gateway_url}/v1/chat/completions"
        lines.append(f"Try          curl {url} -H 'content-type: application/json' -d {body}")
    else:
        lines.append(
            "Try          pybrix up --simulate 3, or kubectl apply -f your-deployment.yaml: no model is deployed yet"
        )
    lines.append(f"             KUBECONFIG={shlex.quote(state.kubeconfig)} kubectl get pods -o wide")
    lines.append(f"Stop         {stop_with}\n")
    return "\n".join(lines)


def _detach(layout: Layout) -> None:
    """Run the same command in the background and relay what it says until it is ready.

    Raises:
        UsageError: it was not ready in time. When it ends before, this process ends with its exit code.
    """
    layout.create()
    log = layout.logs_dir / "up.log"
    arguments = ["--detached" if argument in ("-d", "--detach") else argument for argument in sys.argv[1:]]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pybrix", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _relay(layout, process, log)
    except BaseException:
        # Ctrl-C and the like: nothing half started stays behind.
        process.terminate()
        process.wait()
        raise


def _relay(layout: Layout, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _DETACHED_TIMEOUT_S
    with log.open(encoding="utf-8", errors="replace") as said:
        while True:
            is_over = process.poll() is not None
            state = None if is_over else read_state(layout)
            is_ready = state is not None and state.is_ready and state.supervisor.pid == process.pid
            print(said.read(), end="", flush=True)
            if is_over:
                sys.exit(process.returncode or 1)
            if is_ready:
                return
            if time.monotonic() > deadline_s:
                raise UsageError(f"not ready within {_DETACHED_TIMEOUT_S:.0f} s", f"see {log}")
            time.sleep(0.05)
