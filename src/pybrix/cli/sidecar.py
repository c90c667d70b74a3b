"""`pybrix sidecar`: helpers that run beside an engine."""

from __future__ import annotations

import click

# The values of `pybrix.engine.metrics.Engine`; a test holds the two together. A hook's start should import little.
_ENGINES = ("vllm", "sglang", "llamacpp")


@click.group()
def sidecar() -> None:
    """Helpers that run beside an engine.

    \b
    Examples:
      pybrix sidecar drain --url http://$POD_IP:8000 --deadline-s 25
    """


@sidecar.command()
@click.option("--url", required=True, metavar="URL", help="Where the engine answers, such as http://10.0.0.7:8000.")
@click.option("--deadline-s", type=click.FloatRange(0), default=25.0, show_default=True, help="Longest wait.")
@click.option(
    "--engine", type=click.Choice(_ENGINES), default="vllm", show_default=True, help="Whose metrics these are."
)
@click.option("--settle-s", type=click.FloatRange(0), default=1.0, show_default=True,
              help="Requests may still arrive for so long after the pod left the endpoints.")  # fmt: skip
@click.option(
    "--poll-interval-s", type=click.FloatRange(0.01), default=0.2, show_default=True, help="Between two looks."
)
@click.option("--idle-polls", type=click.IntRange(1), default=3, show_default=True, help="Idle looks in a row.")
@click.option(
    "--api-key", default="", envvar="PYBRIX_ENGINE_API_KEY", show_envvar=True, help="Bearer token of /metrics."
)
def drain(
    url: str,
    deadline_s: float,
    engine: str,
    settle_s: float,
    poll_interval_s: float,
    idle_polls: int,
    api_key: str,
) -> None:
    """Wait until the engine is idle, at most until the deadline; meant as a pod's preStop hook.

    Idle is: no running and no waiting request in its /metrics, several times in a row. Prints one line about what it
    saw. Ends with 0 also when the deadline came first or the engine is gone: the pod has to stop either way.

    \b
    Examples:
      pybrix sidecar drain --url http://$POD_IP:8000 --deadline-s 25
      pybrix sidecar drain --url http://$POD_IP:8000 --engine llamacpp
    \b
      lifecycle:
        preStop:
          exec:
            command: [sh, -c, "pybrix sidecar drain --url http://$POD_IP:8000"]
    """
    from time import sleep

    from pybrix.base.clock import SystemClock
    from pybrix.engine.metrics import Engine
    from pybrix.sidecar.drain import DrainRules, wait_until_drained
    from pybrix.sidecar.load import EngineLoad

    rules = DrainRules(deadline_s, settle_s, poll_interval_s, idle_polls)
    outcome = wait_until_drained(rules, EngineLoad(url, Engine(engine), api_key).fetch, SystemClock(), sleep)
    print(f"pybrix sidecar drain: {outcome}", flush=True)
