"""What `pybrix top` does; imported only when it runs."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import click

from pybrix.base.errors import UsageError
from pybrix.cli.brain import ask_brain, pretty, running_dir
from pybrix.cli.top_view import Choice, read_top, render_top

__all__ = ["Choice", "fetch_view", "print_once", "run_live", "running_dir"]


async def fetch_view(run_dir: Path) -> Any:
    """Return the document of a running brain. Raises BrainUnavailable."""
    _, document = await ask_brain(run_dir, "GET", "/debug/view")
    return document


def print_once(run_dir: Path, choice: Choice, output: str) -> None:
    """Print one moment."""
    top = read_top(asyncio.run(fetch_view(run_dir)), choice)
    click.echo(pretty(top) if output == "json" else render_top(top))


def run_live(run_dir: Path, choice: Choice, interval_s: float) -> None:
    """Show the live view until the user leaves it.

    Raises:
        UsageError: textual is not installed, or no brain answers now.
    """
    if importlib.util.find_spec("textual") is None:
        raise UsageError("the live view needs textual", "pip install 'pybrix[top]', or pass --once")
    # Who mistyped a directory is told so at once, in the terminal.
    asyncio.run(fetch_view(run_dir))
    live = importlib.import_module("pybrix.cli.top_live")
    live.TopApp(lambda: fetch_view(run_dir), choice, interval_s).run()
