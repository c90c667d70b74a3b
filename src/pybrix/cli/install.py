"""`pybrix install`: manifests of an installation on Kubernetes, and what applying them would change."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from pybrix.base.clock import SystemClock
from pybrix.base.errors import PybrixError, UsageError
from pybrix.cli.access import find_access
from pybrix.cli.crds import to_yaml
from pybrix.cluster.manifests.files import read_sources, text_of
from pybrix.cluster.manifests.nodes import Unreadable
from pybrix.install.cluster import changes, check_cluster
from pybrix.install.manifests import DEFAULT_NAMESPACE, Parts, render
from pybrix.install.rights import collect_rights
from pybrix.install.settings import image_settings, resolve
from pybrix.install.values import DNS_LABEL
from pybrix.install.verification import check_configurations
from pybrix.kube.client import HttpClient

SHARED_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_FAILED = 2
"""Exit code of --diff when it could not compare; 1 says that there are differences, as with `kubectl diff`."""


@click.command()
@click.option("--namespace", "-n", default=DEFAULT_NAMESPACE, show_default=True, help="Namespace of what runs.")
@click.option("--image", help="Image of controllers and gateway, REPOSITORY[:TAG][@DIGEST].")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One value, such as gateway.replicas=3.")
@click.option(
    "--values",
    "-f",
    "value_files",
    multiple=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="A YAML file of values; - reads standard input. Later files and --set win.",
)
@click.option("--show-values", is_flag=True, help="Print the values that result, in place of manifests.")
@click.option("--crds-only", is_flag=True, help="Only the definitions of kinds and the policies beside them.")
@click.option("--skip-crds", is_flag=True, help="Everything but these.")
@click.option("--create-namespace/--no-create-namespace", default=True, show_default=True)
@click.option("--check", is_flag=True, help="Look first whether the cluster is fit; refuse where AIBrix is at work.")
@click.option(
    "--diff", "is_diff", is_flag=True, help="Print what would change on the cluster; exit code 1 if anything."
)
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="The cluster of --check and --diff; implies --check."
)
@click.option("--context", default="", help="A context of the kubeconfig; implies --check.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def install(
    namespace: str,
    image: str | None,
    settings: tuple[str, ...],
    value_files: tuple[Path, ...],
    show_values: bool,
    crds_only: bool,
    skip_crds: bool,
    create_namespace: bool,
    check: bool,
    is_diff: bool,
    kubeconfig: Path | None,
    context: str,
    output: str,
) -> None:
    """Print the manifests of an installation on Kubernetes 1.30 or newer.

    The output depends on nothing but the options: to apply it again changes nothing. A cluster is asked only with
    --check, --diff, --kubeconfig or --context.

    \b
    Examples:
      pybrix install | kubectl apply --server-side -f -
      pybrix install --set gateway.replicas=3 --set gateway.service.type=LoadBalancer
      pybrix install -f values.yaml --diff
      pybrix install --image registry.example.com/pybrix:0.1.0 --check | kubectl apply --server-side -f -

    \b
    To remove it: `pybrix uninstall`, or with kubectl. ModelAdapters go first, which the controllers must let go of.
    The definitions of kinds stay, since deleting them (--crds-only) deletes every object of these kinds in the cluster.
      kubectl delete modeladapters.model.aibrix.ai --all --all-namespaces --timeout=2m
      pybrix install --skip-crds | kubectl delete --ignore-not-found -f -
    """
    if crds_only and skip_crds:
        raise click.UsageError("--crds-only and --skip-crds leave nothing")
    if not re.fullmatch(DNS_LABEL, namespace):
        raise click.BadParameter(f"{namespace!r} is no name of a namespace", param_hint="--namespace")
    try:
        every = [*(image_settings(image) if image is not None else ()), *settings]
        values = resolve([read_values(file) for file in value_files], every)
        if create_namespace and not crds_only and namespace in SHARED_NAMESPACES:
            raise UsageError(
                f"namespace {namespace} is shared, and would be labelled and deleted with pybrix",
                "choose another --namespace, or pass --no-create-namespace",
            )
        parts = Parts(
            has_namespace=create_namespace and not crds_only, has_crds=not skip_crds, has_components=not crds_only
        )
        documents = render(values, collect_rights(), namespace=namespace, parts=parts)
        check_configurations(documents)
    except UsageError as err:
        raise click.UsageError(str(err)) from err
    try:
        if check or is_diff or kubeconfig is not None or context:
            is_changed = asyncio.run(_ask(kubeconfig, context, documents, is_diff=is_diff))
            if is_diff:
                sys.exit(int(is_changed))
    except PybrixError as err:
        if not is_diff:
            raise
        click.echo(f"pybrix: {err}", err=True)
        sys.exit(_FAILED)
    if show_values:
        documents = [values]
    _print(documents, output)


def read_values(file: Path) -> tuple[str, str]:
    """Return name and text of a file of values."""
    if file.is_dir():
        raise UsageError(f"cannot read the values in {file}: it is a directory")
    (source,) = read_sources([str(file)], recursive=False, stdin=sys.stdin.buffer)
    try:
        return source.name, text_of(source)
    except Unreadable as err:
        raise UsageError(f"cannot read the values in {source.name}: {err}") from err


async def _ask(kubeconfig: Path | None, context: str, documents: list[dict[str, Any]], *, is_diff: bool) -> bool:
    """Check the cluster, and with `is_diff` print what would change. Return whether anything would."""
    is_changed = False
    async with HttpClient(find_access(kubeconfig, context)) as client:
        checked = await check_cluster(client, SystemClock().now())
        if checked.unseen:
            names = ", ".join(checked.unseen)
            click.echo(f"pybrix: no right to list {names}: whether AIBrix is at work there is not known", err=True)
        if is_diff:
            async for text in changes(client, documents, lambda obj: to_yaml([obj])):
                is_changed = True
                click.echo(text, nl=False)
    return is_changed


def _print(documents: list[dict[str, Any]], output: str) -> None:
    if output == "yaml":
        click.echo(to_yaml(documents), nl=False)
    elif len(documents) == 1:
        click.echo(json.dumps(documents[0], indent=2))
    else:
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=2))
