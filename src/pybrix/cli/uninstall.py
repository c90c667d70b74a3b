"""`pybrix uninstall`: remove an installation from a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.cli.access import find_access
from pybrix.cli.install import SHARED_NAMESPACES, read_values
from pybrix.install.difference import describe
from pybrix.install.manifests import DEFAULT_NAMESPACE, Parts, render
from pybrix.install.removal import ADAPTERS, HELD_OTHERS, list_all, remove_documents, remove_held
from pybrix.install.rights import collect_rights
from pybrix.install.settings import resolve
from pybrix.kube.client import HttpClient


@click.command()
@click.option("--namespace", "-n", default=DEFAULT_NAMESPACE, show_default=True, help="Namespace of what runs.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As it was installed with.")
@click.option(
    "--values",
    "-f",
    "value_files",
    multiple=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="As it was installed with.",
)
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="The cluster; as kubectl finds it when absent.")
@click.option("--context", default="", help="A context of the kubeconfig.")
@click.option("--keep-namespace", is_flag=True, help="Leave the namespace, and what else is in it.")
@click.option(
    "--keep-crds/--delete-crds",
    default=True,
    show_default=True,
    help="--delete-crds deletes the definitions of kinds, and with them every object of these kinds in the cluster.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long controllers have to let go of what they hold.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def uninstall(
    namespace: str,
    settings: tuple[str, ...],
    value_files: tuple[Path, ...],
    kubeconfig: Path | None,
    context: str,
    keep_namespace: bool,
    keep_crds: bool,
    timeout_s: float,
    yes: bool,
) -> None:
    """Remove what `pybrix install` made with the same values from a cluster.

    Every ModelAdapter of the cluster is deleted first, while controllers run: only they unload it from its engines and
    take its finalizer off. When one stays, nothing else is removed. Objects of other kinds stay, unless --delete-crds:
    then what else has finalizers is deleted first as well: fleets, which are drained, and caches.

    \b
    Examples:
      pybrix uninstall
      pybrix uninstall -f values.yaml --context staging --yes
      pybrix uninstall --delete-crds
    """
    if not keep_namespace and namespace in SHARED_NAMESPACES:
        raise click.UsageError(f"namespace {namespace} is shared: pass --keep-namespace")
    try:
        values = resolve([read_values(file) for file in value_files], settings)
        parts = Parts(has_namespace=not keep_namespace, has_crds=not keep_crds)
        documents = render(values, collect_rights(), namespace=namespace, parts=parts)
    except UsageError as err:
        raise click.UsageError(str(err)) from err
    asyncio.run(
        _remove(
            kubeconfig,
            context,
            documents,
            namespace=namespace,
            keeps_crds=keep_crds,
            is_asked=not yes,
            timeout_s=timeout_s,
        )
    )


async def _remove(
    kubeconfig: Path | None,
    context: str,
    documents: list[dict[str, Any]],
    *,
    namespace: str,
    keeps_crds: bool,
    is_asked: bool,
    timeout_s: float,
) -> None:
    access = find_access(kubeconfig, context)
    async with HttpClient(access) as client:
        held = ADAPTERS if keeps_crds else (*ADAPTERS, *HELD_OTHERS)
        if is_asked:
            found = await list_all(client, held)
            for obj in found:
                click.echo(f"to delete: {describe(obj)}", err=True)
            adapters = sum(obj["kind"] == ModelAdapter.gvk.kind for obj in found)
            kinds = "" if keeps_crds else ", the definitions of kinds and EVERY object of these kinds in the cluster"
            question = f"Delete {adapters} ModelAdapters, the installation in namespace {namespace}{kinds}"
            click.confirm(f"{question} on {access.server}?", abort=True, err=True)
        await remove_held(client, held, SystemClock(), timeout_s=timeout_s)
        await remove_documents(client, documents, lambda name: click.echo(f"deleted {name}"))
