"""`pybrix cluster`: run the embedded cluster by itself."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pybrix.cli.clusteroptions import authorization_option, durability_option
from pybrix.cli.datadir import data_dir, data_dir_option
from pybrix.cli.nodes import nodes_option


@click.group()
def cluster() -> None:
    """Run the embedded cluster: a Kubernetes API whose pods are processes of this machine."""


@cluster.command()
@click.option("--api-port", type=click.IntRange(0, 65535), default=0, help="Port of the API; 0: as before, or any.")
@click.option("--node-name", default="local", show_default=True, help="Name of the first node.")
@nodes_option
@click.option("--kubeconfig", type=click.Path(dir_okay=False, path_type=Path), help="Written here; DATA/kubeconfig.")
@authorization_option
@durability_option
@data_dir_option
def run(
    api_port: int,
    node_name: str,
    nodes: str | None,
    kubeconfig: Path | None,
    authorization: str | None,
    durability: str | None,
    data_dir_path: Path | None,
) -> None:
    """Run API server, controllers and node agent in the foreground. SIGTERM ends the pods, then everything else.

    \b
    Examples:
      pybrix cluster run --data-dir ./cluster
      pybrix cluster run --nodes 'gpu=NVIDIA-A10:2, 2x gpu=NVIDIA-L20:8+zone=b, plain'
      KUBECONFIG=./cluster/kubeconfig kubectl get nodes
      pybrix cluster run --data-dir ./cluster --authorization rbac
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
        nodes=nodes,
        authorization=authorization,
        durability=durability,
    )
    run_service(lambda stop: run_cluster(options, stop=stop, clock=SystemClock(), environ=os.environ))
