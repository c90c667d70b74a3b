"""`pybrix up`: start everything on this machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import click
import msgspec

import pybrix
from pybrix.api.config import GatewayConfiguration
from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.cli.datadir import data_dir, data_dir_option
from pybrix.engine.modelfiles import default_cache_dir
from pybrix.local.installation import Reporter, UpOptions, run_up
from pybrix.local.layout import Layout
from pybrix.local.state import UpState, read_state

_DETACHED_TIMEOUT_S = 300.0


@click.command()
@click.option("--model", metavar="NAME|FILE", help="Serve a real model: smollm2, or a GGUF file.")
@click.option("--simulate", type=click.IntRange(1, 200), metavar="N", help="Serve N simulated engines.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Gateway port; 0: any.")
@click.option("--address", default="127.0.0.1", show_default=True, help="Address the gateway listens on.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=0, help="Port of the Kubernetes API; 0: as before.")
@click.option("--routing-strategy", default="least-request", show_default=True, help="When a request names none.")
@click.option("--envoy-path", type=click.Path(path_type=Path), help="An Envoy of your own.")
@click.option("--model-cache", type=click.Path(path_type=Path), help="Where fetched models are kept.")
@click.option("-d", "--detach", is_flag=True, help="Return when everything is ready; stop it with `pybrix down`.")
@data_dir_option
def up(
    model: str | None,
    simulate: int | None,
    port: int,
    address: str,
    api_port: int,
    routing_strategy: str,
    envoy_path: Path | None,
    model_cache: Path | None,
    detach: bool,
    data_dir_path: Path | None,
) -> None:
    """Start cluster, gateway and engines on this machine, and show where they answer.

    What was deployed before is still there: without --model and --simulate, only that runs.
    Ctrl-C stops everything in order.

    \b
    Examples:
      pybrix up --model smollm2
      pybrix up --simulate 3 --port 9000
      pybrix up --simulate 3 --detach && pybrix chat hello && pybrix down
    """
    layout = Layout(data_dir(data_dir_path))
    if detach:
        _detach(layout)
        return
    options = UpOptions(
        layout=layout,
        gateway=GatewayConfiguration(address=address, port=port, routing_strategy=routing_strategy),
        model_cache=model_cache or default_cache_dir(),
        model=model,
        simulate=simulate,
        api_port=api_port,
        envoy_path=envoy_path,
    )
    print(f"pybrix {pybrix.__version__}, data in {layout.root}", flush=True)
    asyncio.run(run_up(options, SystemClock(), Reporter(lambda line: print(line, flush=True)), _show_summary))


def _show_summary(state: UpState) -> None:
    model = state.models[0] if state.models else "MODEL"
    body = msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": "Hello!"}]}).decode()
    print(
        f"\nGateway      {state.gateway_url}\n"
        f"Kubeconfig   {state.kubeconfig}\n\n"
        f"Try          curl {state.gateway_url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'\n"
        f"             KUBECONFIG={state.kubeconfig} kubectl get pods -o wide\n"
        "Stop         Ctrl-C, or pybrix down\n",
        flush=True,
    )


def _detach(layout: Layout) -> None:
    """Run the same command in the background and relay what it says until it is ready.

    Raises:
        UsageError: it ended before it was ready; its own words say why.
    """
    layout.create()
    log = layout.logs_dir / "up.log"
    arguments = [argument for argument in sys.argv[1:] if argument not in ("-d", "--detach")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pybrix", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
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
                process.terminate()
                raise UsageError(f"not ready within {_DETACHED_TIMEOUT_S:.0f} s", f"see {log}")
            time.sleep(0.05)
