"""`pybrix simulate`: compare routing strategies on a trace, in virtual time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pybrix.cli.tables import render_table


@click.command(context_settings={"show_default": True})
@click.option("--trace", "trace_path", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Requests to replay: Mooncake's JSON Lines, Azure's CSV, or a file of your own.")  # fmt: skip
@click.option("--workload", metavar="NAME", help="Without a file: chat, shared-prompts, agents or mixed (the default).")
@click.option("--sessions", type=click.IntRange(1), default=3000, help="Sessions of a generated workload.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Of a file, what begins in the first SECONDS; of a workload, its length (1200).")  # fmt: skip
@click.option("--strategy", "strategies", multiple=True, metavar="NAME",
              help="As in the header routing-strategy; several times, or `all`. The gateway's default.")  # fmt: skip
@click.option("--pods", type=click.IntRange(1, 1000), default=16, help="Engines.")
@click.option("--gateways", type=click.IntRange(1, 16), default=1,
              help="Gateways that each take a share of the requests and tell each other what they know.")  # fmt: skip
@click.option("--alone", is_flag=True, help="Gateways that tell each other nothing, to compare.")
@click.option("--engine-profile", metavar="NAME", help="What an engine can do: h100-32b (the default) or mock-8b.")
@click.option("--load", "loads", type=click.FloatRange(0, min_open=True), multiple=True, metavar="SHARE",
              help="Arrivals as a share of what saturates least-request on these engines; several times.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(0, min_open=True), help="Instead: arrivals so many times as fast.")
@click.option("--seed", "seeds", type=int, multiple=True, default=[1], help="Of all chance; several times.")
@click.option(
    "--block-tokens", type=click.IntRange(1), default=512, help="Tokens that one of a file's hash_ids stands for."
)
@click.option("-o", "--output", type=click.Choice(["text", "json", "csv"]), default="text",
              help="text shows the mean over seeds, json and csv every run.")  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write a comparison as .svg or .png; needs the extra `plot`.")  # fmt: skip
def simulate(
    trace_path: Path | None,
    workload: str | None,
    sessions: int,
    duration: float | None,
    strategies: tuple[str, ...],
    pods: int,
    gateways: int,
    alone: bool,
    engine_profile: str | None,
    loads: tuple[float, ...],
    speed: float | None,
    seeds: tuple[int, ...],
    block_tokens: int,
    output: str,
    plot: Path | None,
) -> None:
    """Compare routing strategies on a trace, in virtual time and without a GPU.

    The strategies are the gateway's own code; the engines are simulated. An hour of a busy trace takes some seconds a
    strategy. The same seed gives the same output. The guide docs/guides/lab.md says how to read it.

    \b
    Examples:
      pybrix simulate --strategy least-request --strategy prefix-affinity
      pybrix simulate --strategy prefix-affinity --gateways 3
      pybrix simulate --workload agents --pods 8 --strategy all --load 0.9 --plot agents.svg
      pybrix simulate --trace requests.csv --strategy all --load 0.7 --load 1.1 -o csv
    """
    from pybrix.api.config import GatewayConfiguration
    from pybrix.base.errors import UsageError
    from pybrix.lab import report
    from pybrix.lab.comparison import check_strategies, plan_cases, run_cases
    from pybrix.lab.profiles import DEFAULT_PROFILE, PROFILES

    if loads and speed is not None:
        raise click.UsageError("--load and --speed both say how fast requests come: give one")
    if trace_path is not None and workload is not None:
        raise click.UsageError("--trace and --workload both say what is replayed: give one")
    name = engine_profile or DEFAULT_PROFILE
    if name not in PROFILES:
        raise click.UsageError(f"no engine profile {name}: there are {', '.join(PROFILES)}")
    write_plot = _plotter(plot)
    trace = _trace(trace_path, workload, sessions, duration, block_tokens, seeds[0])
    try:
        chosen = check_strategies(strategies or (GatewayConfiguration().routing_strategy,))
    except UsageError as err:
        raise click.UsageError(str(err)) from err
    if loads:
        _say(f"{trace.name}: {len(trace.requests)} requests; looking for the load that saturates least-request")
    profile = PROFILES[name]
    cases = plan_cases(
        trace,
        strategies=chosen,
        pods=pods,
        profile=profile,
        seeds=seeds,
        loads=loads,
        speed=speed or 1.0,
        gateways=gateways,
        is_shared=not alone,
    )
    summaries = []
    for number, summary in enumerate(run_cases(trace, cases, pods=pods, profile=profile), 1):
        summaries.append(summary)
        _say(f"{number}/{len(cases)} {summary.strategy}: p99 of time to first token {summary.ttft_p99_s:.2f} s")
    if output == "json":
        click.echo(report.render_json(summaries), nl=False)
    elif output == "csv":
        click.echo(report.render_csv(summaries), nl=False)
    else:
        click.echo(report.describe(trace, pods, name, cases))
        for line in render_table(*report.table(summaries)):
            click.echo(line)
    if write_plot is not None:
        write_plot(summaries, plot, f"{trace.name}, {pods} pods, {name}")


def _trace(
    path: Path | None, workload: str | None, sessions: int, duration: float | None, block: int, seed: int
) -> Any:
    from pybrix.base.errors import UsageError
    from pybrix.lab.generator import DEFAULT_DURATION_S, MIXED, WORKLOADS, generate
    from pybrix.lab.readers import parse_trace
    from pybrix.lab.trace import head

    if path is None:
        name = workload or MIXED
        if name != MIXED and name not in WORKLOADS:
            raise click.UsageError(f"no workload {name}: there are {', '.join((*WORKLOADS, MIXED))}")
        return generate(name, sessions=sessions, duration_s=duration or DEFAULT_DURATION_S, seed=seed)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise UsageError(f"{path} is no UTF-8 text: {err}") from err
    except OSError as err:
        raise UsageError(f"cannot read {path}: {err.strerror}") from err
    trace = parse_trace(text, path.name, block)
    return trace if duration is None else head(trace, duration)


def _plotter(path: Path | None) -> Any:
    """Return what writes the plot; say before the work what would stop it after."""
    from pybrix.base.errors import UsageError

    if path is None:
        return None
    if path.suffix not in (".svg", ".png"):
        raise click.UsageError(f"{path} ends neither in .svg nor in .png")
    try:
        from pybrix.lab.plot import write_plot
    except ModuleNotFoundError as err:
        raise UsageError(f"--plot needs {err.name}", "pip install 'pybrix[plot]'") from err
    return write_plot


def _say(text: str) -> None:
    click.echo(text, file=sys.stderr)
