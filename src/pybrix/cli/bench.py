"""`pybrix bench`: put load on a gateway and look at what comes back."""

from __future__ import annotations

from pathlib import Path

import click

from pybrix.cli.datadir import data_dir, data_dir_option


@click.group()
def bench() -> None:
    """Put load on a gateway and look at what comes back."""


@bench.command(context_settings={"show_default": True})
@click.option("--url", envvar="PYBRIX_URL", show_envvar=True, metavar="URL", show_default=False,
              help="The gateway; that of the running `pybrix up`.")  # fmt: skip
@click.option("--model", metavar="NAME", help="The model to ask; the first of /v1/models.", show_default=False)
@click.option("--rate", type=click.FloatRange(0, 100_000, min_open=True), default=20.0, help="Requests a second.")
@click.option("--duration", "duration_s", type=click.FloatRange(0), default=30.0, metavar="SECONDS",
              help="How long requests are sent; 0: until Ctrl-C or SIGTERM.")  # fmt: skip
@click.option("--mix", metavar="KIND=N,...", show_default=False,
              help="How often each kind comes: short, long, stream, long-stream, cancelled, abandoned. "
                   "short=8,long=2,stream=6,long-stream=2,cancelled=1,abandoned=1.")  # fmt: skip
@click.option("--short-tokens", type=click.IntRange(1), default=16, help="Longest short answer.")
@click.option("--long-tokens", type=click.IntRange(4), default=160, help="Length of a long answer.")
@click.option("--force-length/--no-force-length", default=True,
              help="Make long answers just so long by `ignore_eos`, which OpenAI's own API does not know.")  # fmt: skip
@click.option("--expect", type=click.Choice(["shape", "simulator"]), default="shape",
              help="shape: whole answers, ended in order. simulator: also every character.")  # fmt: skip
@click.option("--simulator-seed", type=int, default=0, help="The --seed of the simulated engines.")
@click.option("--silence-limit", "silence_limit_s", type=click.FloatRange(0, min_open=True), default=30.0,
              metavar="SECONDS", help="A request that gets no byte for so long has failed.")  # fmt: skip
@click.option("--api-key", envvar="PYBRIX_API_KEY", show_envvar=True, default="", help="Bearer token.")
@click.option("--routing-strategy", metavar="NAME", default="", show_default=False,
              help="The strategy that requests name; that of the gateway or the model.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@data_dir_option
def drive(
    url: str | None,
    model: str | None,
    rate: float,
    duration_s: float,
    mix: str | None,
    short_tokens: int,
    long_tokens: int,
    force_length: bool,
    expect: str,
    simulator_seed: int,
    silence_limit_s: float,
    api_key: str,
    routing_strategy: str,
    output: str,
    data_dir_path: Path | None,
) -> None:
    """Send a steady mixed load and check every byte of every answer, and how every stream ends.

    Requests are sent at their time, whatever becomes of the earlier ones. Each that fails is reported with its id and
    time; the exit code is then 1. Run it while you upgrade, scale or break something.

    \b
    Examples:
      pybrix bench drive --rate 100 --duration 60
      pybrix bench drive --expect simulator --mix short=4,stream=4,cancelled=1
      pybrix bench drive --url https://models.example.com --model llama --api-key $KEY -o json
      pybrix bench drive --duration 0 & pybrix upgrade && kill -INT %1 && wait %1
    """
    from pybrix.bench.traffic import DEFAULT_WEIGHTS, Mix, parse_weights
    from pybrix.cli import bench_commands as commands

    gateway = commands.find_gateway(url, data_dir(data_dir_path))
    chosen = Mix(
        model or commands.first_model(gateway, api_key),
        parse_weights(mix) if mix is not None else DEFAULT_WEIGHTS,
        short_tokens=short_tokens,
        long_tokens=long_tokens,
        is_length_forced=force_length,
    )
    commands.drive(
        gateway,
        chosen,
        rate_per_s=rate,
        duration_s=duration_s,
        simulator_seed=simulator_seed if expect == "simulator" else None,
        silence_limit_s=silence_limit_s,
        api_key=api_key,
        strategy=routing_strategy,
        output=output,
    )
