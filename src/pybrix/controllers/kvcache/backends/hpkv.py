"""hpkv: a StatefulSet of servers that engines reach by RDMA. Pure."""

from __future__ import annotations

from typing import Any

from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.controllers.cachecluster.blueprint import ChildKey, MemberSource
from pybrix.controllers.kvcache.annotations import hpkv_blocks, hpkv_port, labels_of
from pybrix.controllers.kvcache.metadata import Metadata
from pybrix.controllers.kvcache.parts import distributed_children, server_pod

DEFAULT_RDMA_PORT = 18512
DEFAULT_ADMIN_PORT = 9100
INTERFACE = "eth1"
"""Where Volcano Engine's network plugin puts the RDMA device."""
NETWORK_STATUS = "k8s.volcengine.com/network-status"
_SCRIPT = (
    f"AIBRIX_KVCACHE_RDMA_IP=$(ip -4 -o addr show dev {INTERFACE} | awk '{{print $4}}' | cut -d/ -f1 | head -n1)\n"
    "exec ./hpkv-server -a $AIBRIX_KVCACHE_RDMA_IP -p $AIBRIX_KVCACHE_RDMA_PORT "
    "-v $AIBRIX_KVCACHE_BLOCK_SIZE_IN_BYTES -b $AIBRIX_KVCACHE_BLOCK_COUNT --acl any\n"
)


def workload(cache: KVCache) -> ChildKey:
    return "StatefulSet", cache.metadata.name


def members(cache: KVCache) -> MemberSource:
    # The plugin's annotation says the address; without the plugin the server listens on the pod's own.
    return MemberSource(
        labels_of(cache, "cache"), _rdma_port(cache), address_annotation=NETWORK_STATUS, interface=INTERFACE
    )


def children(cache: KVCache, metadata: Metadata) -> list[dict[str, Any]]:
    admin_port = hpkv_port(cache, "admin", DEFAULT_ADMIN_PORT)
    size_bytes, count = hpkv_blocks(cache)
    pod = server_pod(
        cache,
        {"command": ["/bin/bash", "-c", _SCRIPT]},
        backend="hpkv",
        rdma_port=_rdma_port(cache),
        admin_port=admin_port,
        capabilities=("IPC_LOCK",),
        more_env=[
            {"name": "AIBRIX_KVCACHE_BLOCK_SIZE_IN_BYTES", "value": str(size_bytes)},
            {"name": "AIBRIX_KVCACHE_BLOCK_COUNT", "value": str(count)},
        ],
    )
    return distributed_children(cache, pod, _rdma_port(cache), admin_port)


def _rdma_port(cache: KVCache) -> int:
    return hpkv_port(cache, "rdma", DEFAULT_RDMA_PORT)
