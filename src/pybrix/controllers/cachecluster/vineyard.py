"""How `vineyardd` is started. Pure.

It keeps its own metadata in etcd, without credentials and without TLS, because it knows neither; where it cannot, it
keeps it to itself (`--meta local`), and its members do not find each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pybrix.base.quantity import parse_quantity

SOCKET_DIRECTORY = "/var/run/vineyard"
SOCKET = f"{SOCKET_DIRECTORY}/vineyard.sock"
METADATA_REPLICAS = "kvcache.aibrix.ai/metadata-replicas"
"""Annotation of members of a managed etcd: with another number it is made anew, and they have to join the new one."""
DEFAULT_SIZE_BYTES = 256 * 1024 * 1024
_SHARE = Decimal("0.8")
"""Of the memory limit: the rest is for the process itself."""


def is_vineyardd(image: str) -> bool:
    """Say whether an image is vineyardd's, by the last part of its name."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return name == "vineyardd"


def vineyardd_command(
    *, port: int, resources: Mapping[str, Any], etcd_endpoint: str = "", etcd_prefix: str = "", socket: str = SOCKET
) -> list[str]:
    """Return the command of a container."""
    command = ["vineyardd", "--size", str(size_bytes(resources)), "--socket", socket, "--rpc_socket_port", str(port)]
    if not etcd_endpoint:
        return [*command, "--meta", "local"]
    return [*command, "--meta", "etcd", "--etcd_endpoint", etcd_endpoint, "--etcd_prefix", etcd_prefix]


def size_bytes(resources: Mapping[str, Any]) -> int:
    """Return how much shared memory there is for objects: a part of the memory limit, or of what is requested."""
    for kind in ("limits", "requests"):
        text = (resources.get(kind) or {}).get("memory")
        if text is not None:
            try:
                return max(int(parse_quantity(text) * _SHARE), 1)
            except ValueError:
                continue
    return DEFAULT_SIZE_BYTES
