"""What commands about fleets share: the name of one on a command line, the cluster, and what there is of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pybrix.cli.datadir import data_dir_option

_KINDS = frozenset({"fleet", "fleets", "rayclusterfleet", "rayclusterfleets"})


def parse_target(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Return NAME of `fleet/NAME`."""
    kind, slash, name = value.partition("/")
    if not slash or not name:
        raise click.BadParameter(f"{value!r} names no object: write fleet/NAME")
    if kind.lower().partition(".")[0] not in _KINDS:
        raise click.BadParameter(f"{value!r} is no RayClusterFleet: for other kinds use kubectl")
    return name


def target_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("name", callback=parse_target, metavar="fleet/NAME")(command)


@dataclass(frozen=True, slots=True)
class Place:
    """Where fleets are, as the options say; None where they leave it open."""

    kubeconfig: Path | None = None
    data_dir_path: Path | None = None
    namespace: str | None = None


def cluster_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the fleets are; the function gets them as `place`."""

    @functools.wraps(function)
    def command(
        *arguments: Any, kubeconfig: Path | None, data_dir_path: Path | None, namespace: str | None, **options: Any
    ) -> Any:
        return function(*arguments, place=Place(kubeconfig, data_dir_path, namespace), **options)

    command = data_dir_option(command)
    command = click.option(
        "--kubeconfig",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Default: that of --data-dir or $PYBRIX_DATA_DIR, $KUBECONFIG, what `pybrix up` runs, in-cluster, "
        "~/.kube/config.",
    )(command)
    return click.option("-n", "--namespace", metavar="NAME", help="Namespace; the kubeconfig's.")(command)
