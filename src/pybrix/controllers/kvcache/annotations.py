"""What the annotations of a KVCache say. Pure.

A number that is none, or out of its bounds, is the default, as in AIBrix; the policies refuse it at the border.
"""

from __future__ import annotations

from typing import Any

from pybrix.api.names import MODEL_NAME
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.controllers.membership.ring import DEFAULT_SLOTS, DEFAULT_VIRTUAL_NODES, MAX_SLOTS

PREFIX = "kvcache.orchestration.aibrix.ai"
NAME = f"{PREFIX}/name"
ROLE = f"{PREFIX}/role"
BACKEND = f"{PREFIX}/backend"
BACKENDS = ("vineyard", "infinistore", "hpkv")
_HPKV = f"hpkv.{PREFIX}"
_INFINISTORE = f"infinistore.{PREFIX}"
_GPU_KEY = "machine.cluster.vke.volcengine.com/gpu-name"
_HOSTNAME = "kubernetes.io/hostname"
_MAX_PORT = 65535
_MAX = 2**31 - 1


def backend_of(cache: KVCache) -> str:
    """Return the backend; it may be one that there is not."""
    return cache.metadata.annotations.get(BACKEND) or "vineyard"


def text(cache: KVCache, name: str, default: str) -> str:
    return cache.metadata.annotations.get(name) or default


def number(cache: KVCache, name: str, default: int, *, least: int = 1, most: int = _MAX) -> int:
    """Return a number, or the default for what is none."""
    found = cache.metadata.annotations.get(name, "")
    return int(found) if found.isascii() and found.isdigit() and least <= int(found) <= most else default


def hpkv_port(cache: KVCache, kind: str, default: int) -> int:
    """Return the port for `rdma` or `admin`."""
    return number(cache, f"{_HPKV}/{kind}-port", default, most=_MAX_PORT)


def hpkv_blocks(cache: KVCache) -> tuple[int, int]:
    """Return the size of a block in bytes and the number of blocks."""
    return number(cache, f"{_HPKV}/block-size-bytes", 4096), number(cache, f"{_HPKV}/block-count", 1048576)


def ring_of(cache: KVCache) -> tuple[int, int]:
    """Return slots and virtual nodes; only HPKV lets people choose."""
    if backend_of(cache) != "hpkv":
        return DEFAULT_SLOTS, DEFAULT_VIRTUAL_NODES
    slots = number(cache, f"{_HPKV}/total-slots", DEFAULT_SLOTS, most=MAX_SLOTS)
    return slots, number(cache, f"{_HPKV}/virtual-node-count", DEFAULT_VIRTUAL_NODES, most=10_000)


def infinistore_link(cache: KVCache) -> tuple[str, int]:
    """Return the type of the link and the index of the GID."""
    return text(cache, f"{_INFINISTORE}/link-type", "Ethernet"), number(
        cache, f"{_INFINISTORE}/hint-gid-index", 7, least=0
    )


def affinity_of(cache: KVCache) -> dict[str, Any]:
    """Return where the pods run: on nodes of a GPU, beside a model's pods, apart from each other."""
    annotations = cache.metadata.annotations
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    found: dict[str, Any] = {}
    if gpu := annotations.get(f"{PREFIX}/node-affinity-gpu-type"):
        key = text(cache, f"{PREFIX}/node-affinity-key", _GPU_KEY)
        expression = {"key": key, "operator": "In", "values": [gpu]}
        found["nodeAffinity"] = {required: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    if model := annotations.get(f"{PREFIX}/pod-affinity-workload"):
        expressions = [{"key": MODEL_NAME, "operator": "In", "values": [model]}]
        term = {"labelSelector": {"matchExpressions": expressions}, "topologyKey": _HOSTNAME}
        found["podAffinity"] = {required: [term]}
    # Members of vineyard are found by one socket of their node: several would be in each other's way.
    if f"{PREFIX}/pod-anti-affinity" in annotations or backend_of(cache) == "vineyard":
        term = {"labelSelector": {"matchLabels": labels_of(cache, "cache")}, "topologyKey": _HOSTNAME}
        found["podAntiAffinity"] = {required: [term]}
    return found


def labels_of(cache: KVCache, role: str) -> dict[str, str]:
    """Return the labels by which AIBrix finds pods of a role."""
    return {NAME: cache.metadata.name, ROLE: role}
