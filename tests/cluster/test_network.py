from __future__ import annotations

from pathlib import Path

import pytest

from pybrix.base.errors import UsageError
from pybrix.cluster.network import claim_pod_network


def test_two_clusters_have_two_networks(tmp_path: Path) -> None:
    first = claim_pod_network(tmp_path / "a")
    second = claim_pod_network(tmp_path / "b")
    assert not first.cidr.overlaps(second.cidr)
    first.close()
    second.close()


def test_a_cluster_keeps_its_network(tmp_path: Path) -> None:
    first = claim_pod_network(tmp_path / "a")
    first.close()
    again = claim_pod_network(tmp_path / "a")
    assert again.cidr == first.cidr
    again.close()


def test_a_network_that_somebody_took_meanwhile_is_an_error(tmp_path: Path) -> None:
    held = claim_pod_network(tmp_path / "a")
    (tmp_path / "b").write_text(str(held.cidr))
    with pytest.raises(UsageError, match="in use by another cluster"):
        claim_pod_network(tmp_path / "b")
    held.close()


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nonsense")
    with pytest.raises(UsageError, match="is no network"):
        claim_pod_network(tmp_path / "a")
