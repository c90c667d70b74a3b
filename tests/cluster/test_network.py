from __future__ import annotations

from pathlib import Path

import pytest

from pybrix.base.errors import UsageError
from pybrix.cluster.network import claim_pod_network


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


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nonsense")
    with pytest.raises(UsageError, match="is no network"):
        claim_pod_network(tmp_path / "a", never)
