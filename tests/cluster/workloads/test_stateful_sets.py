"""StatefulSets on the embedded API server as kubectl sees them; only the kubelet is played."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pybrix.api import names
from pybrix.api.apps import ControllerRevision, StatefulSet
from pybrix.api.core import PersistentVolumeClaim, Pod
from pybrix.cluster.workloads.statefulset.state import ordinal_of
from tests.support.running_workloads import Cluster, running_workloads
from tests.support.workloads import LABELS, make_template

CLAIM: dict[str, Any] = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_workloads(tmp_path) as running:
        yield running


def stateful_set(replicas: int = 3, image: str = "v1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web"},
        "spec": {
            "serviceName": "web",
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "template": make_template(image),
            "volumeClaimTemplates": [CLAIM],
            **spec,
        },
    }


def staying(cluster: Cluster) -> list[Pod]:
    pods = [p for p in cluster.list(Pod) if not p.metadata.is_terminating]
    return sorted(pods, key=ordinal_of)


def images(cluster: Cluster) -> list[str]:
    return [p.spec.containers[0].image for p in staying(cluster)]


def ready(cluster: Cluster) -> int:
    found = cluster.get(StatefulSet, "web")
    return found.status.ready_replicas if found is not None else -1


async def test_pods_come_in_order_with_names_labels_and_claims_of_their_own(cluster: Cluster) -> None:
    cluster.create(stateful_set(3))
    most_unready = 0

    def check() -> None:
        nonlocal most_unready
        pods = staying(cluster)
        assert [p.metadata.name for p in pods] == [f"web-{i}" for i in range(len(pods))]
        most_unready = max(most_unready, sum(not p.is_ready for p in pods))

    await cluster.until(lambda: ready(cluster) == 3, always=check)
    assert most_unready == 1
    claims = cluster.list(PersistentVolumeClaim)
    assert {c.metadata.name: c.status.phase for c in claims} == dict.fromkeys(
        [f"data-web-{i}" for i in range(3)], "Bound"
    )
    pod = staying(cluster)[1]
    assert (pod.spec.hostname, pod.spec.subdomain) == ("web-1", "web")
    assert pod.metadata.labels[names.STATEFUL_POD_NAME] == "web-1"
    assert pod.metadata.labels[names.POD_INDEX] == "1"
    (volume,) = [v for v in pod.spec.volumes if v.name == "data"]
    assert volume.persistent_volume_claim == {"claimName": "data-web-1"}
    assert "web    3/3" in await cluster.kubectl("get", "sts", "web")
    await cluster.revisions_within(0.3)
    assert await cluster.revisions_within(0.5) == 0


async def test_scaling_down_goes_from_the_top_and_claims_outlive_the_pods(cluster: Cluster) -> None:
    cluster.create(stateful_set(3))
    await cluster.until(lambda: ready(cluster) == 3)
    uids = {c.uid for c in cluster.list(PersistentVolumeClaim)}
    await cluster.kubectl("scale", "sts/web", "--replicas=1")

    def check() -> None:
        pods = cluster.list(Pod)
        assert sorted(ordinal_of(p) for p in pods) == list(range(len(pods)))

    await cluster.until(lambda: len(cluster.list(Pod)) == 1, always=check)
    await cluster.kubectl("scale", "sts/web", "--replicas=3")
    await cluster.until(lambda: ready(cluster) == 3)
    assert {c.uid for c in cluster.list(PersistentVolumeClaim)} == uids


async def test_kubectl_rolls_out_and_back(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    cluster.create(stateful_set(3))
    await kubectl("rollout", "status", "sts/web", "--timeout=50s")
    await kubectl("set", "image", "sts/web", "main=v2")
    assert "roll out complete: 3 new pods" in await kubectl("rollout", "status", "sts/web", "--timeout=50s")
    assert images(cluster) == ["v2"] * 3
    assert "REVISION" in await kubectl("rollout", "history", "sts/web")
    await kubectl("rollout", "undo", "sts/web")
    await kubectl("rollout", "status", "sts/web", "--timeout=50s")
    assert images(cluster) == ["v1"] * 3
    assert sorted(r.revision for r in cluster.list(ControllerRevision)) == [2, 3]
    await kubectl("rollout", "restart", "sts/web")
    await kubectl("rollout", "status", "sts/web", "--timeout=50s")
    assert all("kubectl.kubernetes.io/restartedAt" in p.metadata.annotations for p in staying(cluster))


async def test_a_partition_keeps_lower_pods_and_new_ones_below_it_get_the_revision_before(cluster: Cluster) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    cluster.create(stateful_set(3, updateStrategy=rolling))
    await cluster.until(lambda: ready(cluster) == 3)
    await cluster.kubectl("set", "image", "sts/web", "main=v2")
    assert "partitioned roll out complete" in await cluster.kubectl("rollout", "status", "sts/web", "--timeout=50s")
    assert images(cluster) == ["v1", "v1", "v2"]
    first = staying(cluster)[0]
    cluster.delete(Pod, "web-0")
    await cluster.until(lambda: len(pods := staying(cluster)) == 3 and pods[0].uid != first.uid)
    assert images(cluster) == ["v1", "v1", "v2"]


async def test_on_delete_waits_for_whoever_deletes_a_pod(cluster: Cluster) -> None:
    cluster.create(stateful_set(2, updateStrategy={"type": "OnDelete"}, podManagementPolicy="Parallel"))
    await cluster.until(lambda: ready(cluster) == 2)
    await cluster.kubectl("set", "image", "sts/web", "main=v2")
    await cluster.kubectl("delete", "pod", "web-0")
    await cluster.until(lambda: images(cluster) == ["v2", "v1"])


async def test_claims_go_with_the_set_or_with_scaling_when_that_is_asked_for(cluster: Cluster) -> None:
    retention = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    cluster.create(stateful_set(2, persistentVolumeClaimRetentionPolicy=retention))
    await cluster.until(lambda: ready(cluster) == 2)
    await cluster.kubectl("scale", "sts/web", "--replicas=1")
    await cluster.until(lambda: [c.metadata.name for c in cluster.list(PersistentVolumeClaim)] == ["data-web-0"])
    await cluster.kubectl("delete", "sts", "web")
    await cluster.until(lambda: not cluster.list(PersistentVolumeClaim) and not cluster.list(Pod))


async def test_a_claim_stays_while_a_pod_uses_it(cluster: Cluster) -> None:
    cluster.create(stateful_set(1))
    await cluster.until(lambda: ready(cluster) == 1)
    await cluster.kubectl("delete", "pvc", "data-web-0", "--wait=false")
    await cluster.revisions_within(0.3)
    assert "Terminating" in await cluster.kubectl("get", "pvc", "data-web-0")
    before = cluster.list(PersistentVolumeClaim)[0].uid
    cluster.delete(Pod, "web-0")
    await cluster.until(lambda: [c.uid for c in cluster.list(PersistentVolumeClaim)] not in ([before], []))
    await cluster.until(lambda: ready(cluster) == 1)


async def test_what_is_fixed_is_refused_with_the_words_of_a_cluster(cluster: Cluster) -> None:
    cluster.create(stateful_set(1))
    ran = await cluster.api.kubectl("patch", "sts", "web", "-p", '{"spec":{"serviceName":"other"}}')
    assert ran.code != 0
    assert "updates to statefulset spec for fields other than" in ran.err
    ran = await cluster.api.kubectl("patch", "sts", "web", "-p", '{"spec":{"podManagementPolicy":"Sometimes"}}')
    assert 'supported values: "OrderedReady", "Parallel"' in ran.err


@pytest.mark.parametrize("storage", ["lots", "-1Gi"])
async def test_a_claim_of_no_size_is_refused(cluster: Cluster, storage: str) -> None:
    claim = {**CLAIM, "spec": {**CLAIM["spec"], "resources": {"requests": {"storage": storage}}}}
    manifest = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}
    ran = await cluster.api.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    assert ran.code != 0
    assert "storage" in ran.err
