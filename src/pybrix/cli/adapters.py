"""`pybrix adapters`: LoRA adapters and where they are loaded."""

from __future__ import annotations

from pathlib import Path

import click

from pybrix.cli.datadir import data_dir_option


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-n", "--namespace", metavar="NAME", help="Namespace; the kubeconfig's.")
@click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces.")
@click.option("-o", "--output", type=click.Choice(["text", "wide", "json", "yaml"]), default="text", show_default=True)
@click.option("-w", "--watch", is_flag=True, help="Go on and show each change, until Ctrl-C.")
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Default: $KUBECONFIG, what `pybrix up` runs, in-cluster, ~/.kube/config.",
)
@data_dir_option
def adapters(
    names: tuple[str, ...],
    namespace: str | None,
    all_namespaces: bool,
    output: str,
    watch: bool,
    kubeconfig: Path | None,
    data_dir_path: Path | None,
) -> None:
    """Show LoRA adapters: their base model, in how many pods they are loaded, and what went wrong last.

    \b
    Examples:
      pybrix adapters
      pybrix adapters -A -o wide
      pybrix adapters sql --watch
    """
    from pybrix.cli.adapters_commands import show_adapters

    if all_namespaces and namespace:
        raise click.UsageError("--namespace and --all-namespaces contradict each other")
    if watch and output in ("json", "yaml"):
        raise click.UsageError(f"--watch shows a table, no {output}")
    show_adapters(
        kubeconfig,
        data_dir_path,
        namespace=namespace,
        is_everywhere=all_namespaces,
        names=names,
        output=output,
        is_watching=watch,
    )
