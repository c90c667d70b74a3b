"""One machine as several nodes, for real: placement, logs of any node, and nodes that go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from pybrix.api.core import Node, Pod
from pybrix.cluster.nodeagent.processes import marked_processes
from tests.support.apiserver import KUBECTL
from tests.support.wholecluster import whole_cluster

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "local/sh", "command": ["/bin/sh", "-c", "hostname; exec sleep 1000"]}
    container |= spec.pop("container", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


def gpus(count: int) -> dict[str, Any]:
    return {"resources": {"limits": {"nvidia.com/gpu": str(count)}}}


async def test_pods_find_the_node_that_has_what_they_need_and_nodes_can_go(tmp_path: Path) -> None:
    nodes = "plain, gpu=NVIDIA-A10:2, gpu=NVIDIA-L20:8+zone=b+taint=dedicated:NoSchedule"
    async with whole_cluster(tmp_path, nodes=nodes) as cluster:
        for name in ("local", "local-2", "local-3"):
            await cluster.until(Node, name, lambda n: any(c.type == "Ready" and c.is_true for c in n.status.conditions))
        tolerating = [{"key": "dedicated", "operator": "Exists"}]
        await cluster.apply(
            pod("two", container=gpus(2)),
            pod("eight", container=gpus(8), tolerations=tolerating),
            pod("chosen", nodeSelector={"nvidia.com/gpu.product": "NVIDIA-A10"}),
            pod("nine", container=gpus(9), tolerations=tolerating),
        )
        placed = {}
        for name in ("two", "eight", "chosen"):
            found = await cluster.until(Pod, name, lambda p: p.is_ready)
            placed[name] = (found.spec.node_name, found.status.pod_ip)
        assert {name: node for name, (node, _) in placed.items()} == {
            "two": "local-2",
            "eight": "local-3",
            "chosen": "local-2",
        }
        assert len({ip for _, ip in placed.values()}) == 3
        event = await cluster.until_event("nine", "FailedScheduling")
        assert event.message == "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        assert "eight" in await cluster.until_log("eight", "eight")
        eight = await cluster.until(Pod, "eight", lambda p: True)
    async with whole_cluster(tmp_path) as cluster:
        # Remembered, and what ran there runs again.
        again = await cluster.until(Pod, "eight", lambda p: p.is_ready and p.uid == eight.uid)
        (container,) = again.status.container_statuses
        assert marked_processes(container.container_id)
    async with whole_cluster(tmp_path, nodes="plain") as cluster:

        async def are_gone() -> bool:
            names = [n.metadata.name for n in (await cluster.client.list(Node)).items]
            return names == ["local"] and await cluster.find(Pod, "eight") is None

        await cluster.eventually(are_gone)
        assert not (tmp_path / "cluster" / "nodes" / "local-3").exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]


async def test_a_taint_evicts_who_does_not_tolerate_it(tmp_path: Path) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("web")["spec"]},
        },
    }
    tolerated = [{"key": "broken", "operator": "Exists"}]
    async with whole_cluster(tmp_path, nodes="plain, plain+taint=full:NoSchedule") as cluster:
        await cluster.apply(
            pod("leaves"),
            pod("stays", tolerations=tolerated),
            pod("lingers", tolerations=[tolerated[0] | {"effect": "NoExecute", "tolerationSeconds": 1}]),
            deployment,
        )
        for name in ("leaves", "stays", "lingers"):
            await cluster.until(Pod, name, lambda p: p.is_ready and p.spec.node_name == "local")

        async def is_web_on(node: str) -> bool:
            pods = [p for p in (await cluster.client.list(Pod)).items if p.metadata.labels.get("app") == "web"]
            return [p.spec.node_name for p in pods if p.is_ready] == [node]

        await cluster.eventually(lambda: is_web_on("local"))
        await cluster.kubectl("taint", "nodes", "local-2", "full-")
        await cluster.kubectl("taint", "nodes", "local", "broken=yes:NoExecute")

        async def are_gone() -> bool:
            return await cluster.find(Pod, "leaves") is None and await cluster.find(Pod, "lingers") is None

        await cluster.eventually(are_gone)
        await cluster.eventually(lambda: is_web_on("local-2"))
        assert await cluster.find(Pod, "stays") is not None
        for name in ("leaves", "lingers"):
            told = (await cluster.until_event(name, "TaintManagerEviction")).message
            assert told == f"Marking for deletion Pod default/{name}"
