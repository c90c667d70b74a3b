"""Which loopback network the pods of a cluster live in: every cluster of a machine has one of its own.

On Linux every address of 127.0.0.0/8 is local. A cluster holds one of the networks 127.64.0.0/16 to 127.127.0.0/16 for
its pods, and with it one of 127.128.0.0/16 to 127.191.0.0/16 for its Services, by listening on an abstract Unix socket
named after it, which the kernel frees when the process ends. Pods may outlive that process, so a network in which
programs run or listen is not free either, except for the cluster whose pods they are.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from pybrix.base.errors import UsageError
from pybrix.cluster.nodeagent.shim import POD_IP_VARIABLE

_NETWORKS = tuple(IPv4Network(f"127.{second}.0.0/16") for second in range(64, 128))
# `TCP_LISTEN` in /proc/net/tcp.
_LISTENING = "0A"
_POD_IP = re.compile(rb"\0" + POD_IP_VARIABLE.encode() + rb"=([0-9.]+)\0")


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """A held network; closing lets go of it."""

    cidr: IPv4Network
    """Addresses of pods."""
    holder: socket.socket

    @property
    def services(self) -> IPv4Network:
        """Addresses of Services: the network that is as far above that of the pods as there are networks."""
        return IPv4Network((int(self.cidr.network_address) + (len(_NETWORKS) << 16), self.cidr.prefixlen))

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
        has_pods = is_in_use()
        holder = _hold(cidr) if has_pods or not _is_inhabited(cidr, _inhabited()) else None
        if holder is not None:
            return PodNetwork(cidr, holder)
        if has_pods:
            raise UsageError(
                f"the pod network {cidr}, in which pods of this cluster run, is held by another cluster",
                "stop that one first",
            )
    addresses = _inhabited()
    for cidr in _NETWORKS:
        holder = None if _is_inhabited(cidr, addresses) else _hold(cidr)
        if holder is not None:
            remembered.write_text(f"{cidr}\n")
            return PodNetwork(cidr, holder)
    raise UsageError(f"all {len(_NETWORKS)} pod networks of this machine are in use", "stop a cluster")


def _is_inhabited(cidr: IPv4Network, addresses: frozenset[IPv4Address]) -> bool:
    return any(address in cidr for address in addresses)


def _inhabited() -> frozenset[IPv4Address]:
    """Return the addresses that programs of pods have, or that some program listens on.

    The pods' cluster may have been killed, or be away while it is replaced. A program may take minutes before it
    listens, so its environment counts as well; that of other users' programs cannot be read.
    """
    return frozenset((*_listened_on(), *_pod_addresses()))


def _listened_on() -> Iterator[IPv4Address]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == _LISTENING:
            yield IPv4Address(int.from_bytes(bytes.fromhex(local.partition(":")[0]), sys.byteorder))


def _pod_addresses() -> Iterator[IPv4Address]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if (found := _POD_IP.search(b"\0" + environment + b"\0")) is not None:
            yield IPv4Address(found[1].decode())


def _hold(cidr: IPv4Network) -> socket.socket | None:
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        holder.bind(f"\0pybrix-pod-network-{cidr}")
    except OSError:
        holder.close()
        return None
    return holder
