"""Claims of StatefulSets as directories that outlive pods, for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pybrix.api.core import PersistentVolumeClaim, Pod
from tests.support.apiserver import KUBECTL
from tests.support.wholecluster import whole_cluster

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")
_COUNT = "echo started >>/data/starts; wc -l </data/starts; exec sleep 1000"


def counting_set() -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "local/sh",
        "command": ["/bin/sh", "-c", _COUNT],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "count", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "count"}},
            "template": {
                "metadata": {"labels": {"app": "count"}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
            "volumeClaimTemplates": [claim],
        },
    }


async def test_a_pod_finds_what_the_one_before_it_wrote_until_the_claim_is_deleted(tmp_path: Path) -> None:
    async with whole_cluster(tmp_path) as cluster:
        await cluster.apply(counting_set())
        await cluster.until_log("count-0", "1")
        first = await cluster.until(Pod, "count-0", lambda p: p.is_ready)
        await cluster.kubectl("delete", "pod", "count-0")
        await cluster.until(Pod, "count-0", lambda p: p.is_ready and p.uid != first.uid)
        await cluster.until_log("count-0", "2")
        claim = await cluster.until(PersistentVolumeClaim, "data-count-0", lambda c: c.status.phase == "Bound")
        assert "data-count-0   Bound    pvc-" in await cluster.kubectl("get", "pvc")
        place = cluster.directory / "volumes" / claim.uid
        assert (place / "starts").exists()
        await cluster.kubectl("delete", "sts", "count")
        assert (place / "starts").exists()
        await cluster.kubectl("delete", "pvc", "data-count-0")

        async def is_removed() -> bool:
            return not place.exists()

        await cluster.eventually(is_removed)
