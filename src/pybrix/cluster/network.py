"""Which loopback network the pods of a cluster live in: every cluster of a machine has one of its own.

On Linux every address of 127.0.0.0/8 is local. A cluster holds one of the networks 127.64.0.0/16 to 127.127.0.0/16 by
listening on an abstract Unix socket named after it, which the kernel frees when the process ends.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from pybrix.base.errors import UsageError

_NETWORKS = tuple(IPv4Network(f"127.{second}.0.0/16") for second in range(64, 128))


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """A held network; closing lets go of it."""

    cidr: IPv4Network
    holder: socket.socket

    def close(self) -> None:
        self.holder.close()


def claim_pod_network(remembered: Path, is_in_use: Callable[[], bool]) -> PodNetwork:
    """Hold the network that this cluster had before, else the first free one, and remember it in that file.

    Pods that run keep their addresses over a restart of the cluster, so with any of them (`is_in_use`) the remembered
    network is not negotiable.

    Raises:
        UsageError: the remembered network with running pods, or every network, is held by another cluster.
    """
    if remembered.exists():
        text = remembered.read_text().strip()
        try:
            cidr = IPv4Network(text)
        except ValueError as err:
            raise UsageError(f"{remembered}: {text!r} is no network", "remove the file") from err
        holder = _hold(cidr)
        if holder is not None:
            return PodNetwork(cidr, holder)
        if is_in_use():
            raise UsageError(
                f"the pod network {cidr}, in which pods of this cluster run, is held by another cluster",
                "stop that one first",
            )
    for cidr in _NETWORKS:
        holder = _hold(cidr)
        if holder is not None:
            remembered.write_text(f"{cidr}\n")
            return PodNetwork(cidr, holder)
    raise UsageError(f"all {len(_NETWORKS)} pod networks of this machine are in use", "stop a cluster")


def _hold(cidr: IPv4Network) -> socket.socket | None:
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        holder.bind(f"\0pybrix-pod-network-{cidr}")
    except OSError:
        holder.close()
        return None
    return holder
