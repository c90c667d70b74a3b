from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from pybrix.base.errors import UsageError
from pybrix.cluster.network import claim_pod_network
from pybrix.cluster.nodeagent.shim import POD_IP_VARIABLE


def never() -> bool:
    return False


def test_two_clusters_have_two_networks(tmp_path: Path) -> None:
    first = claim_pod_network(tmp_path / "a", never)
    second = claim_pod_network(tmp_path / "b", never)
    assert not first.cidr.overlaps(second.cidr)
    first.close()
    second.close()


def test_a_cluster_keeps_its_network(tmp_path: Path) -> None:
    first = claim_pod_network(tmp_path / "a", never)
    first.close()
    again = claim_pod_network(tmp_path / "a", never)
    assert again.cidr == first.cidr
    again.close()


def test_a_network_that_somebody_took_meanwhile_is_replaced(tmp_path: Path) -> None:
    held = claim_pod_network(tmp_path / "a", never)
    (tmp_path / "b").write_text(str(held.cidr))
    other = claim_pod_network(tmp_path / "b", never)
    assert other.cidr != held.cidr
    assert (tmp_path / "b").read_text().strip() == str(other.cidr)
    other.close()
    held.close()


def test_but_not_under_running_pods(tmp_path: Path) -> None:
    held = claim_pod_network(tmp_path / "a", never)
    (tmp_path / "b").write_text(str(held.cidr))
    with pytest.raises(UsageError, match="held by another cluster"):
        claim_pod_network(tmp_path / "b", lambda: True)
    held.close()


def test_a_network_in_which_pods_of_a_cluster_run_that_is_away_for_a_moment_is_not_taken(tmp_path: Path) -> None:
    away = claim_pod_network(tmp_path / "a", never)
    away.close()
    with socket.create_server((str(away.cidr[9]), 0)):
        other = claim_pod_network(tmp_path / "b", never)
        assert other.cidr != away.cidr
        other.close()
        back = claim_pod_network(tmp_path / "a", lambda: True)
        assert back.cidr == away.cidr
        back.close()


def test_nor_is_one_whose_pods_do_not_listen_yet(tmp_path: Path) -> None:
    away = claim_pod_network(tmp_path / "a", never)
    away.close()
    pod = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, env=os.environ | {POD_IP_VARIABLE: str(away.cidr[9])})
    try:
        other = claim_pod_network(tmp_path / "b", never)
        assert other.cidr != away.cidr
        other.close()
        back = claim_pod_network(tmp_path / "a", lambda: True)
        assert back.cidr == away.cidr
        back.close()
    finally:
        pod.communicate()


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nonsense")
    with pytest.raises(UsageError, match="is no network"):
        claim_pod_network(tmp_path / "a", never)
