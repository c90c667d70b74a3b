"""Cluster addresses of Services. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Container

# As kubeadm has it. Where nothing forwards, nothing listens on these addresses: they name the service.
SERVICE_NETWORK = ipaddress.IPv4Network("10.96.0.0/16")


class NetworkFull(ValueError):
    """Every address of the service network is taken."""


def kubernetes_address(network: ipaddress.IPv4Network) -> str:
    """Return the address of the Service of the API itself, the first one."""
    return str(network.network_address + 1)


def choose_address(uid: str, taken: Container[str], network: ipaddress.IPv4Network = SERVICE_NETWORK) -> str:
    """Return a free address of the service network, the same one for the same uid and neighbours.

    Raises:
        NetworkFull
    """
    usable = network.num_addresses - 2
    start = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4], "big") % usable
    for step in range(usable):
        address = str(network.network_address + 1 + (start + step) % usable)
        if address not in taken:
            return address
    raise NetworkFull(f"no free address in {network}")


def is_address_of(network: ipaddress.IPv4Network, text: str) -> bool:
    """Say whether a text is an address that a Service can have."""
    try:
        return ipaddress.ip_address(text) in network
    except ValueError:
        return False
