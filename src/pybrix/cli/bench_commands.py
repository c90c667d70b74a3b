"""What the commands of `pybrix bench` do; imported only when one of them runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from functools import partial
from pathlib import Path

import click
import msgspec

from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.bench import report
from pybrix.bench.driver import Driver, Expect, expect_any
from pybrix.bench.report import Tally
from pybrix.bench.traffic import Mix
from pybrix.bench.verification import expected_of_simulator
from pybrix.cli.chat import running_installation
from pybrix.cli.tables import render_table
from pybrix.engine.chat import ChatClient
from pybrix.local.layout import Layout

_PROGRESS_S = 1.0


def find_gateway(url: str | None, data_dir: Path) -> str:
    """Return the URL that is named, else that of what runs on the data directory.

    Raises:
        UsageError: none is named and nothing runs.
    """
    if url:
        return url if "//" in url else f"http://{url}"
    installation = running_installation(data_dir)
    if installation is None:
        start = Layout(data_dir).command("up")
        raise UsageError(f"nothing runs on {data_dir}", f"start it with `{start}`, or give --url")
    return installation.gateway_url


def first_model(url: str, api_key: str) -> str:
    """Return the first model that a gateway lists.

    Raises:
        UsageError: nobody answers, or there is none.
    """
    names = ChatClient(url, SystemClock(), api_key=api_key).list_models()
    if not names:
        raise UsageError(f"{url} serves no model", "deploy one, for example `pybrix up --simulate 3`")
    return names[0]


def drive(
    url: str,
    mix: Mix,
    *,
    rate_per_s: float,
    duration_s: float,
    simulator_seed: int | None,
    silence_limit_s: float,
    api_key: str,
    strategy: str,
    output: str,
) -> None:
    """Drive, print the report, and exit with 1 when a request failed."""
    expect: Expect = expect_any
    if simulator_seed is not None:
        expect = partial(expected_of_simulator, seed=simulator_seed)
    driver = Driver(
        url,
        mix,
        rate_per_s=rate_per_s,
        expect=expect,
        api_key=api_key,
        strategy=strategy,
        silence_limit_s=silence_limit_s,
    )
    tally = asyncio.run(_drive(driver, duration_s))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(report.document(tally)), indent=2).decode())
    else:
        for line in render_table(*report.table(tally)):
            click.echo(line)
        click.echo(report.summary(tally))
    if tally.failures or not tally.sent:
        sys.exit(1)


async def _drive(driver: Driver, duration_s: float) -> Tally:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    showing = asyncio.create_task(_show(driver.tally))
    try:
        return await driver.run(stop, duration_s)
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing


async def _show(tally: Tally) -> None:
    """Say every second how it goes: in one line of a terminal, else whenever something has failed since."""
    loop = asyncio.get_running_loop()
    began_s, is_terminal, failed = loop.time(), sys.stderr.isatty(), 0
    try:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            line = report.progress(tally, loop.time() - began_s)
            if is_terminal:
                click.echo(f"\r\x1b[K{line}", nl=False, err=True)
            for each in tally.failures[failed : failed + report.MAX_SHOWN_FAILURES]:
                click.echo(f"{chr(10) if is_terminal else ''}failed: {each}", err=True)
            failed = len(tally.failures)
    finally:
        if is_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
