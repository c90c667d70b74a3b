"""Cluster addresses of Services. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Container

# As kubeadm has it. Nothing listens on these addresses here: they name the service.
SERVICE_NETWORK = ipaddress.IPv4Network("10.96.0.0/16")
KUBERNETES_ADDRESS = str(SERVICE_NETWORK.network_address + 1)


class NetworkFull(ValueError):
    """Every address of the service network is taken."""


def choose_address(uid: str, taken: Container[str]) -> str:
    """Return a free address of the service network, the same one for the same uid and neighbours.

    Raises:
        NetworkFull
    """
    usable = SERVICE_NETWORK.num_addresses - 2
    start = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4], "big") % usable
    for step in range(usable):
        address = str(SERVICE_NETWORK.network_address + 1 + (start + step) % usable)
        if address not in taken:
            return address
    raise NetworkFull(f"no free address in {SERVICE_NETWORK}")
