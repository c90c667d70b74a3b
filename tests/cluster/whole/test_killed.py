"""The cluster's process is killed: pods go on, the next one finds them, and an orderly end leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from pybrix.api.core import Pod, Service
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from tests.support.apiserver import KUBECTL
from tests.support.waiting import until
from tests.support.wholecluster import WholeCluster, choose_network

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")


@asynccontextmanager
async def cluster_process(directory: Path, ends_by: signal.Signals) -> AsyncIterator[WholeCluster]:
    """Run `pybrix cluster run` and end it by a signal."""
    choose_network(directory / "cluster")
    kubeconfig = directory / "kubeconfig"
    kubeconfig.unlink(missing_ok=True)
    log = directory / "cluster.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pybrix", "cluster", "run", "--data-dir", str(directory)),
            stdout=output,
            stderr=output,
        )

    async def is_answering() -> bool:
        assert process.returncode is None, log.read_text()
        return kubeconfig.exists()

    try:
        await until(is_answering)
        async with HttpClient(load_kubeconfig(kubeconfig)) as client:
            yield WholeCluster(kubeconfig, directory / "cluster", client)
    finally:
        assert process.returncode is None, log.read_text()
        process.send_signal(ends_by)
        await asyncio.wait_for(process.wait(), 60)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Return what runs for a cluster: by its directory, in the command line or as where it works."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(directory) in " ".join(process.cmdline()) or process.cwd().startswith(str(directory)):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory whose processes are all gone afterwards, also when the test fails half-way."""
    yield tmp_path
    for process in processes_of(tmp_path):
        with contextlib.suppress(psutil.Error):
            process.kill()


def server() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "main",
                    "image": "local/python",
                    "command": [sys.executable, "-m", "http.server", "8000"],
                    "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
                }
            ],
        },
    }


async def answers(address: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/") as response:
            return response.status == 200
    except aiohttp.ClientError:
        # Nobody listens, or who accepted the connection has ended since.
        return False


async def test_a_killed_cluster_finds_its_pods_and_a_stopped_one_leaves_nothing(place: Path) -> None:
    async with cluster_process(place, signal.SIGKILL) as cluster:
        ports = [{"port": 80, "targetPort": 8000}]
        metadata = {"name": "web", "namespace": "default"}
        spec = {"selector": {"app": "web"}, "ports": ports}
        await cluster.apply(server(), {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        web = await cluster.until(Pod, "web", lambda p: p.is_ready)
        address = (await cluster.until(Service, "web", lambda s: bool(s.spec.cluster_ip))).spec.cluster_ip
        await cluster.eventually(lambda: answers(address))
        programs = {p.pid for p in processes_of(place)}

    async def forwarder_has_ended() -> bool:
        return not await answers(address)

    await until(forwarder_has_ended)
    assert await answers(f"{web.status.pod_ip}:8000"), "the pod goes on without its cluster"
    async with cluster_process(place, signal.SIGTERM) as cluster:
        found = await cluster.until(Pod, "web", lambda p: p.is_ready and p.uid == web.uid)
        assert found.status.container_statuses[0].restart_count == 0
        assert found.status.container_statuses[0].container_id == web.status.container_statuses[0].container_id
        await cluster.eventually(lambda: answers(address))
        assert programs & {p.pid for p in processes_of(place)}, "the same processes as before"
    assert not processes_of(place)
    assert not await answers(f"{web.status.pod_ip}:8000")
