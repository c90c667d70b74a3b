"""Find the cluster that a command talks to."""

from __future__ import annotations

import os
from pathlib import Path

from pybrix.cli.datadir import data_dir
from pybrix.kube.kubeconfig import ClusterAccess, load_in_cluster, load_kubeconfig
from pybrix.local.layout import Layout
from pybrix.local.state import read_state


def find_access(kubeconfig: Path | None, context: str = "") -> ClusterAccess:
    """Find the cluster as kubectl does: the flag, `KUBECONFIG`, the pod's service account, `~/.kube/config`.

    Args:
        context: of a kubeconfig; "" is its current one.
    """
    named = kubeconfig or (Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else None)
    if named is not None:
        return load_kubeconfig(named, context)
    if not context and "KUBERNETES_SERVICE_HOST" in os.environ:
        return load_in_cluster(os.environ)
    return load_kubeconfig(Path.home() / ".kube" / "config", context)


def find_access_of_user(kubeconfig: Path | None, data_dir_path: Path | None) -> ClusterAccess:
    """Find the cluster that a person means: as `find_access`, and before `~/.kube/config` what `pybrix up` runs here.

    A data directory that is named wins over `KUBECONFIG`: it says which cluster is meant.
    """
    layout = Layout(data_dir(data_dir_path))
    is_left_open = kubeconfig is None and not os.environ.get("KUBECONFIG")
    if (kubeconfig is None and data_dir_path is not None) or (is_left_open and read_state(layout) is not None):
        return load_kubeconfig(layout.kubeconfig)
    return find_access(kubeconfig)
