"""What tests of the node agent share."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pybrix.cluster.nodeagent.processes import marked_processes
from tests.support.agentpods import container_id_of
from tests.support.agents import Cluster, claimed_network


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster whose processes are all gone at the end of the test."""
    with claimed_network(tmp_path) as pod_cidr:
        yield Cluster(tmp_path, pod_cidr)
    # A pod that has just ended may be on its way out of the directory: os.walk goes on where one vanishes.
    for directory, _, files in os.walk(tmp_path / "pods"):
        for name in files:
            if name.endswith(".json"):
                for pid in marked_processes(container_id_of(Path(directory) / name)):
                    os.kill(pid, signal.SIGKILL)
