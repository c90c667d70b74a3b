"""`pybrix cluster`: run the embedded cluster by itself."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pybrix.cli.datadir import data_dir, data_dir_option


@click.group()
def cluster() -> None:
    """Run the embedded cluster: a Kubernetes API whose pods are processes of this machine."""


@cluster.command()
@click.option("--api-port", type=click.IntRange(0, 65535), default=0, help="Port of the API; 0: as before, or any.")
@click.option("--node-name", default="local", show_default=True, help="Name of the one node.")
@click.option("--kubeconfig", type=click.Path(dir_okay=False, path_type=Path), help="Written here; DATA/kubeconfig.")
@data_dir_option
def run(api_port: int, node_name: str, kubeconfig: Path | None, data_dir_path: Path | None) -> None:
    """Run API server, controllers and node agent in the foreground. SIGTERM ends the pods, then everything else.

    \b
    Examples:
      pybrix cluster run --data-dir ./cluster
      KUBECONFIG=./cluster/kubeconfig kubectl get nodes
    """
    from pybrix.base.clock import SystemClock
    from pybrix.cli.service import run_service
    from pybrix.cluster.app import ClusterOptions, run_cluster

    root = data_dir(data_dir_path)
    options = ClusterOptions(
        directory=root / "cluster",
        kubeconfig=kubeconfig or root / "kubeconfig",
        api_port=api_port,
        node_name=node_name,
    )
    run_service(lambda stop: run_cluster(options, stop=stop, clock=SystemClock(), environ=os.environ))
