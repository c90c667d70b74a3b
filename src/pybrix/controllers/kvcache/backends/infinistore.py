"""infinistore: a StatefulSet of servers that engines reach by RDMA or TCP. Pure."""

from __future__ import annotations

import math
from typing import Any

from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.base.quantity import parse_quantity
from pybrix.controllers.cachecluster.blueprint import ChildKey, MemberSource
from pybrix.controllers.kvcache.annotations import infinistore_link, labels_of
from pybrix.controllers.kvcache.metadata import Metadata
from pybrix.controllers.kvcache.parts import distributed_children, server_pod

RDMA_PORT = 12345
ADMIN_PORT = 8088
_GIB = 2**30


def workload(cache: KVCache) -> ChildKey:
    return "StatefulSet", cache.metadata.name


def members(cache: KVCache) -> MemberSource:
    return MemberSource(labels_of(cache, "cache"), RDMA_PORT)


def children(cache: KVCache, metadata: Metadata) -> list[dict[str, Any]]:
    link, gid = infinistore_link(cache)
    container = {
        "command": ["infinistore"],
        "args": [
            "--service-port",
            "$(AIBRIX_KVCACHE_RDMA_PORT)",
            "--manage-port",
            "$(AIBRIX_KVCACHE_ADMIN_PORT)",
            "--link-type",
            link,
            "--hint-gid-index",
            str(gid),
            "--prealloc-size",
            str(prealloc_gib(cache)),
        ],
    }
    pod = server_pod(
        cache,
        container,
        backend="infinistore",
        rdma_port=RDMA_PORT,
        admin_port=ADMIN_PORT,
        capabilities=("IPC_LOCK", "SYS_RESOURCE"),
    )
    return distributed_children(cache, pod, RDMA_PORT, ADMIN_PORT)


def prealloc_gib(cache: KVCache) -> int:
    """Return how much memory is allocated at once: nine tenths of the limit in whole GiB, one at least."""
    text = (cache.spec.cache.resources.get("limits") or {}).get("memory")
    if text is None:
        return 1
    try:
        return max(1, math.floor(parse_quantity(text) * 9 / 10 / _GIB))
    except ValueError:
        return 1
