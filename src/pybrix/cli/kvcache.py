"""`pybrix kvcache`: pools of cache servers, their members and slots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pybrix.cli.datadir import data_dir_option


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        data_dir_option,
        click.option(
            "--kubeconfig",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Default: $KUBECONFIG, what `pybrix up` runs, in-cluster, ~/.kube/config.",
        ),
        click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True),
        click.option("-n", "--namespace", metavar="NAME", help="Namespace; the kubeconfig's."),
        click.argument("name"),
    ):
        command = option(command)
    return command


@click.group()
def kvcache() -> None:
    """Show pools of cache servers (KVCachePool) and KVCaches: who is a member, and who has which slots.

    \b
    Examples:
      pybrix kvcache status shared
      pybrix kvcache ring shared
    """


@kvcache.command()
@_options
def status(name: str, namespace: str | None, output: str, kubeconfig: Path | None, data_dir_path: Path | None) -> None:
    """Show members, slots, versions and how the metadata server is.

    Exit code 1 when the cache is not ready; with -o json, whose `ready` says so, 0 whenever it can be read.

    NAME is that of a KVCachePool, or of a KVCache where there is no such pool; `pool/NAME` and `cache/NAME` say which.

    \b
    Examples:
      pybrix kvcache status shared
      pybrix kvcache status cache/prefixes -n team-a -o json
    """
    from pybrix.cli.kvcache_commands import show_status

    show_status(kubeconfig, data_dir_path, name, namespace=namespace, is_json=output == "json")


@kvcache.command()
@_options
def ring(name: str, namespace: str | None, output: str, kubeconfig: Path | None, data_dir_path: Path | None) -> None:
    """Draw which member has which slots: a letter for each member, a cell for a few slots in order.

    \b
    Examples:
      pybrix kvcache ring shared
      pybrix kvcache ring shared -o json
    """
    from pybrix.cli.kvcache_commands import show_ring

    show_ring(kubeconfig, data_dir_path, name, namespace=namespace, is_json=output == "json")
