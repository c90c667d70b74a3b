"""What is forwarded where, as the cluster tells the forwarder: a line of JSON each time it changes. Pure.

Imported by the forwarder's own process, so it needs nothing but the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple


class Address(NamedTuple):
    """An IPv4 address and a TCP port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


class Route(NamedTuple):
    """Where connections to one address go. `affinity_s` > 0: a client's go to the same place for that long."""

    backends: tuple[Address, ...]
    affinity_s: int = 0


Routes = Mapping[Address, Route]


def print_routes(serial: int, routes: Routes) -> bytes:
    """Return the whole table as a line; `serial` comes back in the answer."""
    listed = [[*address, list(map(list, route.backends)), route.affinity_s] for address, route in routes.items()]
    return json.dumps([serial, listed]).encode() + b"\n"


def parse_routes(line: bytes) -> tuple[int, dict[Address, Route]]:
    serial, listed = json.loads(line)
    return serial, {
        Address(ip, port): Route(tuple(Address(*b) for b in backends), affinity_s)
        for ip, port, backends, affinity_s in listed
    }


def print_answer(serial: int, failures: Mapping[Address, str]) -> bytes:
    """Return the forwarder's answer: which addresses it cannot listen on, and why."""
    return json.dumps([serial, [[*address, why] for address, why in failures.items()]]).encode() + b"\n"


def parse_answer(line: bytes) -> tuple[int, dict[Address, str]]:
    serial, listed = json.loads(line)
    return serial, {Address(ip, port): why for ip, port, why in listed}
