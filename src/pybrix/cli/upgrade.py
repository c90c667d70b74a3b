"""`pybrix upgrade`: bring a running installation to this release, one part after the other."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

import pybrix
from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.cli.datadir import data_dir, data_dir_option
from pybrix.cli.tables import render_table
from pybrix.local.layout import Layout
from pybrix.local.upgrade import Step
from pybrix.local.upgrading import Listener, Outcome, plan
from pybrix.local.upgrading import upgrade as carry_out

_TICK_S = 0.2
_INTERRUPTED = 130
"""128 and the number of SIGINT, as shells say it."""
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="Only this part; may be given several times.")
@click.option("--dry-run", is_flag=True, help="Show the steps, and do nothing.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@data_dir_option
def upgrade(only: tuple[str, ...], dry_run: bool, output: str, data_dir_path: Path | None) -> None:
    """Replace every process of a running `pybrix up` by one of this release, without a failed request.

    Install the new release, in the same environment or in another one, and run its `pybrix upgrade`. Each part is
    replaced when the one before it serves; pods are not restarted. Where a successor does not come up the old part runs
    again, and the upgrade stops and says so, with exit code 1. To go back, run `pybrix upgrade` of the old environment.

    \b
    Examples:
      pip install --upgrade pybrix && pybrix upgrade
      ./new-venv/bin/pybrix upgrade --dry-run
      pybrix upgrade --only brain --only brain-2
    """
    layout = Layout(data_dir(data_dir_path))
    try:
        steps = asyncio.run(plan(layout, only))
    except KeyboardInterrupt:
        click.echo("pybrix: interrupted; nothing was replaced", err=True)
        sys.exit(_INTERRUPTED)
    if dry_run:
        if output == "json":
            click.echo(_json({"steps": steps}))
        else:
            rows = [(step.name, str(step.action), step.why) for step in steps]
            click.echo("\n".join(render_table(("PART", "STEP", "MEANING"), rows)))
        return
    if output == "text":
        click.echo(f"to pybrix {pybrix.__version__}, run by {sys.executable}")
    view, is_interrupted = _View(is_shown=output == "text"), False
    try:
        asyncio.run(_upgrade(layout, steps, view))
    except KeyboardInterrupt:
        is_interrupted = True
    if output == "json":
        click.echo(_json({"version": pybrix.__version__, "python": sys.executable, "steps": view.outcomes}))
    if is_interrupted:
        words = describe_interruption([step.name for step in steps], view.begun, [each.name for each in view.outcomes])
        click.echo(
            f"pybrix: {words} (`{layout.command('upgrade')}` again brings all of them to this release)", err=True
        )
        sys.exit(_INTERRUPTED)
    failed = next((each for each in view.outcomes if each.problem), None)
    if failed is not None:
        raise UsageError(f"stopped at {failed.name}: {failed.problem}", "what comes after it runs as before")


def describe_interruption(names: Sequence[str], begun: Sequence[str], done: Sequence[str]) -> str:
    """Say where an upgrade of parts was interrupted: what is new by then, what goes on by itself, what is old."""
    under_way = [name for name in begun if name not in done]
    old = [name for name in names if name not in begun]
    said = [f"new: {', '.join(done) or 'nothing'}"]
    if under_way:
        said.append(f"being replaced, which goes on by itself: {', '.join(under_way)}")
    said.append(f"as before: {', '.join(old) or 'nothing'}")
    return f"interrupted; {'; '.join(said)}"


async def _upgrade(layout: Layout, steps: Sequence[Step], view: _View) -> None:
    try:
        await carry_out(layout, SystemClock(), Listener(view.begin, view.end), steps)
    finally:
        await view.close()


class _View:
    """Keeps what was begun and how it went, and shows it: a line for each step, on a terminal a moving one."""

    def __init__(self, is_shown: bool) -> None:
        self.begun: list[str] = []
        self.outcomes: list[Outcome] = []
        self._is_shown = is_shown
        self._is_moving = is_shown and sys.stdout.isatty()
        self._moving: asyncio.Task[None] | None = None

    def begin(self, step: Step) -> None:
        self.begun.append(step.name)
        if self._is_moving:
            self._moving = asyncio.get_running_loop().create_task(self._move(step))

    def end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if not self._is_shown:
            return
        if self._moving is not None:
            self._moving.cancel()
            click.echo("\r\x1b[K", nl=False)
        mark = "✗" if outcome.problem else "✓"
        click.echo(f"  {mark} {outcome.name:<14} {outcome.action} {outcome.seconds:.1f} s")

    async def close(self) -> None:
        if self._moving is not None:
            if len(self.begun) > len(self.outcomes):
                click.echo()
            self._moving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._moving

    async def _move(self, step: Step) -> None:
        for tick in itertools.count():
            mark = _SPINNER[tick % len(_SPINNER)]
            click.echo(f"\r\x1b[K  {mark} {step.name:<14} {tick * _TICK_S:.0f} s  {step.why}", nl=False)
            await asyncio.sleep(_TICK_S)


def _json(document: object) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
