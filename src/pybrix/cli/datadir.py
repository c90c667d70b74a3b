"""Where the data directory is: the option, the environment, the default, in that order."""

from __future__ import annotations

from pathlib import Path

import click

from pybrix.local.defaults import DEFAULT_DATA_DIR

data_dir_option = click.option(
    "--data-dir",
    "data_dir_path",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PYBRIX_DATA_DIR",
    show_envvar=True,
    metavar="DIR",
    help=f"Where the installation keeps its data; {DEFAULT_DATA_DIR}.",
)
"""Decorator that gives a command the parameter `data_dir_path`, to be passed to `data_dir`."""


def data_dir(option: Path | None) -> Path:
    """Return the data directory, absolute; it need not exist."""
    return (option or Path(DEFAULT_DATA_DIR)).expanduser().absolute()
