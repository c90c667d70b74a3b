"""`pybrix secret`: what the manifests of `pybrix install` do about Secrets from inside the cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from pybrix.api.identity import ObjectKey
from pybrix.base.errors import UsageError
from pybrix.cli.access import find_access
from pybrix.install.password import fill_password
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import KubeError


@click.group()
def secret() -> None:
    """Fill Secrets from inside the cluster."""


@secret.command()
@click.argument("name")
@click.option("--key", default="password", show_default=True, help="Key of the Secret.")
@click.option("--namespace", "-n", help="Namespace of the Secret; that of the pod or of the kubeconfig's context.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, in-cluster, ~/.kube/config.")
def fill(name: str, key: str, namespace: str | None, kubeconfig: Path | None) -> None:
    """Put a random password into a Secret that exists and has none; one that is there stays as it is."""
    asyncio.run(_fill(name, key, namespace, kubeconfig))


async def _fill(name: str, key: str, namespace: str | None, kubeconfig: Path | None) -> None:
    access = find_access(kubeconfig)
    where = ObjectKey(namespace or access.namespace, name)
    async with HttpClient(access) as client:
        try:
            is_new = await fill_password(client, where, key)
        except KubeError as err:
            raise UsageError(f"Secret {where}: {err}") from err
    click.echo(f"Secret {where}: {key} {'made' if is_new else 'is there already'}")
